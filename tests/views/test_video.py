"""Clips of videos: frames in order, at even distances, cut out and coloured alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from counterpoint.encoders.base import standard
from counterpoint.errors import ConfigError
from counterpoint.modalities.video import Video
from counterpoint.views.features import features_of
from counterpoint.views.video import augmented, clip, counterparts, two_views


def numbered(n: int) -> Video:
    """Frames that show their number."""
    return Video(np.repeat(np.arange(n, dtype=np.uint8), 4 * 4 * 3).reshape(n, 4, 4, 3), 12.0)


def numbers(video: Video) -> list[int]:
    return [int(x) for x in video.frames[:, 0, 0, 0]]


def test_a_clip_is_so_many_frames_at_one_distance() -> None:
    rng = np.random.default_rng(0)
    found = [clip(numbered(40), rng, frames=5, stride=(2, 4)) for _ in range(200)]
    steps = {tuple(np.diff(numbers(x))) for x in found}
    assert steps == {(s,) * 4 for s in (2, 3, 4)}
    assert {numbers(x)[0] for x in found} >= {0, 31}
    assert max(numbers(x)[-1] for x in found) == 39
    assert {x.rate for x in found} == {6.0, 4.0, 3.0}


@pytest.mark.parametrize(("n", "step"), [(4, 1), (5, 1), (8, 1), (9, 2), (12, 2), (13, 3)])
def test_a_short_video_has_smaller_steps_or_is_taken_whole(n: int, step: int) -> None:
    for seed in range(5):
        found = numbers(clip(numbered(n), np.random.default_rng(seed), frames=5, stride=(3, 9)))
        assert len(found) == min(n, 5)
        assert set(np.diff(found)) == {step}


def test_settings_that_cannot_be() -> None:
    for settings in ({"frames": 0}, {"stride": (0, 1)}, {"stride": (3, 2)}):
        with pytest.raises(ConfigError, match="expected frames >= 1"):
            clip(numbered(3), np.random.default_rng(0), **settings)
    for settings in ({"crop": (0.0, 1.0)}, {"flip": 2.0}, {"strength": -1.0}):
        with pytest.raises(ConfigError, match="expected shares"):
            augmented(torch.rand(1, 1, 3, 4, 4), np.random.default_rng(0), **settings)


def test_all_frames_of_a_video_are_changed_alike() -> None:
    still = torch.rand(6, 1, 3, 12, 12).expand(6, 5, 3, 12, 12)
    found = augmented(still, np.random.default_rng(0))
    assert found.shape == still.shape
    assert torch.equal(found, found[:, :1].expand_as(found))
    one = [(found[i, 0] - still[i, 0]).abs().mean() for i in range(6)]
    assert min(one) > 0.01
    assert not torch.equal(found, augmented(still, np.random.default_rng(1)))
    whole = {"crop": (1.0, 1.0), "ratio": (1.0, 1.0), "strength": 0.0}
    same = augmented(still, np.random.default_rng(0), flip=0.0, **whole)
    assert (same - still).abs().max() < 1e-5
    mirrored = augmented(still, np.random.default_rng(0), flip=1.0, **whole)
    assert (mirrored - still.flip(-1)).abs().max() < 1e-5


def test_two_views_are_clips_of_their_video() -> None:
    kept: list[list[Video]] = []
    collate = standard("video").example().collate

    def keep(videos: list[Video]) -> dict[str, torch.Tensor]:
        kept.append(list(videos))
        return collate(videos)

    rng = np.random.default_rng(0)
    one, other = two_views([numbered(60), numbered(2)], rng, keep)
    assert one["frames"].shape == other["frames"].shape == (2, 4, 3, 16, 16)
    assert one["attention_mask"].sum(1).tolist() == [4, 2]
    assert numbers(kept[0][0]) != numbers(kept[1][0])
    assert [len(v) for v in kept[0]] == [16, 2]
    again = two_views([numbered(60), numbered(2)], np.random.default_rng(0), collate)
    assert torch.equal(again[1]["frames"], other["frames"])


def test_halves_share_no_frame_and_hold_all() -> None:
    first, second = counterparts([numbered(5), numbered(1)], np.random.default_rng(0), lambda x: x)  # type: ignore
    assert (numbers(first[0]), numbers(second[0])) == ([0, 1], [2, 3, 4])
    assert (first[1], second[1]) == (None, None)


def test_cheap_features_tell_what_is_seen_and_what_moves() -> None:
    rng = np.random.default_rng(0)
    still = [Video(np.repeat(rng.integers(0, 256, (1, 8, 8, 3)), 6, 0).astype(np.uint8)) for _ in range(4)]
    restless = [Video(rng.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)) for _ in range(4)]
    (cheap,) = features_of("video")
    found = cheap.features(still + restless, restless[:1]).train
    motion = found[:, 192:].sum(1)
    assert motion[:4].max() < motion[4:].min()
    assert np.allclose(found.mean(0), 0, atol=1e-6)
    assert np.isfinite(cheap.features([numbered(1), numbered(2)], [numbered(1)]).test).all()
