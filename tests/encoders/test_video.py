"""The encoder of videos: frames that it reads, the order it sees, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint.encoders import export
from counterpoint.encoders.video import VideoConvNet, VideoConvNetConfig
from counterpoint.errors import ConfigError, ItemError
from counterpoint.modalities.video import Video, example


def numbered(n: int) -> Video:
    return Video(np.repeat(np.arange(n, dtype=np.uint8) * 10, 8 * 8 * 3).reshape(n, 8, 8, 3))


def test_so_many_frames_are_read_spread_evenly() -> None:
    encoder = VideoConvNet.example()
    data = encoder.collate([numbered(13), numbered(3)])
    assert data["frames"].shape == (2, 4, 3, 16, 16)
    shown = (data["frames"][:, :, 0, 0, 0] * 25.5).round().int().tolist()
    assert shown == [[0, 4, 8, 12], [0, 1, 2, 0]]
    assert data["attention_mask"].tolist() == [[True] * 4, [True, True, True, False]]


def test_the_order_of_frames_counts() -> None:
    encoder = VideoConvNet.example()
    film = example(np.random.default_rng(0))
    back = Video(film.frames[::-1].copy(), film.rate)
    one, other, same = encoder.encode([film, back, film])
    assert np.array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_frames_that_are_not_there_change_nothing() -> None:
    encoder = VideoConvNet.example().eval()
    data = encoder.collate([numbered(2)])
    padded = {
        "frames": torch.cat((data["frames"], torch.rand(1, 3, 3, 16, 16)), 1),
        "attention_mask": torch.tensor([[True, True, False, False, False]]),
    }
    assert torch.allclose(encoder(data), encoder(padded), atol=1e-6)
    tokens, mask = encoder.tokens(padded)
    assert tokens.shape == (1, 5, encoder.dim)
    assert torch.equal(mask, padded["attention_mask"])


def test_one_video_has_one_embedding_and_others_are_named() -> None:
    encoder = VideoConvNet.example()
    assert encoder.encode(numbered(3)).shape == (encoder.dim,)
    assert encoder.encode({"frames": numbered(3).frames, "rate": 5}).shape == (encoder.dim,)
    for wrong in (17, "nowhere.mp4", {"frames": np.zeros((2, 3)), "rate": 5}):
        with pytest.raises(ItemError, match="Video 1 of 2 cannot be encoded"):
            encoder.encode([numbered(3), wrong])


@pytest.mark.parametrize("settings", [{"frames": 0}, {"kernel": 2}, {"kernel": 0}])
def test_settings_that_cannot_be(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="an odd kernel"):
        VideoConvNetConfig(**settings)


def test_the_default_is_small() -> None:
    assert sum(p.numel() for p in VideoConvNet().parameters()) < 250_000


def test_an_onnx_file_takes_any_number_of_frames(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = VideoConvNet.example().eval()
    assert export.onnx(encoder, tmp_path / "video.onnx") <= 1e-5
    data = encoder.collate([numbered(1), numbered(2)])
    session = runtime.InferenceSession(str(tmp_path / "video.onnx"))
    (given,) = session.run(None, {name: x.numpy() for name, x in data.items()})
    assert np.abs(given - encoder.encode([numbered(1), numbered(2)])).max() <= 1e-5
