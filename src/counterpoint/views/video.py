"""Views of videos: clips of them, cut out and coloured alike in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.batch import Data
from counterpoint.errors import ConfigError
from counterpoint.modalities.video import Video
from counterpoint.views.base import Collate
from counterpoint.views.features import Cheap, Matrix, scaled
from counterpoint.views.image import adjust_brightness, adjust_contrast, crop_resize, draw_boxes


def clip(video: Video, rng: np.random.Generator, *, frames: int = 16, stride: tuple[int, int] = (1, 3)) -> Video:
    """So many frames from anywhere in the video, each so many after the one before.

    stride: least and largest distance of two frames, of which one is drawn; a smaller one where the video is too short
    for it. A video of no more than ``frames`` frames is taken whole. rng: every draw comes from it.

    >>> video = Video(np.zeros((40, 8, 8, 3), dtype=np.uint8))
    >>> len(clip(video, np.random.default_rng(0), frames=16))
    16
    """
    least, largest = stride
    if frames < 1 or not 1 <= least <= largest:
        raise ConfigError(f"frames={frames}, stride={stride}: expected frames >= 1 and 1 <= least <= largest stride.")
    if len(video) <= frames:
        return video
    fits = max(1, (len(video) - 1) // max(1, frames - 1))
    step = min(int(rng.integers(least, largest + 1)), fits)
    span = (frames - 1) * step + 1
    start = int(rng.integers(len(video) - span + 1))
    return video.part(start, start + span, step)


def augmented(
    frames: Tensor,
    rng: np.random.Generator,
    *,
    crop: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    strength: float = 0.4,
) -> Tensor:
    """Videos ``(N, T, C, S, S)`` in [0, 1], each with one crop, one coin for its mirror image, one change of brightness
    and one of contrast, the same in all of its frames.

    crop, ratio: share of the area, and width / height, of the crop. flip: probability. strength: largest relative
    change of brightness and contrast. rng: every draw comes from it.

    >>> augmented(torch.rand(2, 4, 3, 16, 16), np.random.default_rng(0)).shape
    torch.Size([2, 4, 3, 16, 16])
    """
    if not (0 < crop[0] <= crop[1] <= 1 and 0 <= flip <= 1 and 0 <= strength <= 1):
        raise ConfigError(f"crop={crop}, flip={flip}, strength={strength}: expected shares from 0 to 1.")
    n, t = frames.shape[:2]
    boxes = draw_boxes(frames[:, 0].shape, rng, crop, ratio)
    mirrored = torch.from_numpy(rng.random(n) < flip)
    amounts = torch.from_numpy(rng.uniform(1 - strength, 1 + strength, (2, n)).astype(np.float32))
    x = frames.flatten(0, 1)
    x = crop_resize(x, frames.shape[-1], boxes.repeat_interleave(t, 0), mirrored.repeat_interleave(t))
    x = adjust_brightness(x, amounts[0].repeat_interleave(t))
    x = adjust_contrast(x, amounts[1].repeat_interleave(t))
    return x.reshape(n, t, *x.shape[1:])


def two_views(videos: Sequence[Video], rng: np.random.Generator, collate: Collate) -> tuple[Data, Data]:
    """Two clips of each video, both `augmented`; see `counterpoint.views.base.TwoViews`.

    videos: N of them. rng: every draw comes from it. collate: the encoder's, to frames of one size.

    >>> videos = [Video(np.zeros((20, 16, 16, 3), dtype=np.uint8))]
    >>> def collate(clips):
    ...     return {"frames": torch.stack([torch.from_numpy(c.frames).movedim(-1, 1) / 255 for c in clips])}
    >>> one, other = two_views(videos, np.random.default_rng(0), collate)
    >>> one["frames"].shape == other["frames"].shape
    True
    """
    views = []
    for _ in range(2):
        data = collate([clip(video, rng) for video in videos])
        assert not isinstance(data, Tensor)
        views.append({**data, "frames": augmented(data["frames"], rng)})
    return views[0], views[1]


def counterparts(items: Sequence[Video], rng: np.random.Generator, collate: Collate) -> tuple[list[Any], list[Any]]:
    """The first half of each video had to find its second half.

    Videos of a single frame have none. See `counterpoint.views.base.Counterparts`.

    items: N videos. rng: not used, nothing is drawn. collate: not used, halves are videos.

    >>> first, second = counterparts([Video(np.zeros((10, 8, 8, 3), dtype=np.uint8))], np.random.default_rng(0), list)
    >>> len(first[0]), len(second[0])
    (5, 5)
    """
    halves = [len(x) // 2 for x in items]
    first = [x.part(0, n) if n else None for x, n in zip(items, halves)]
    return first, [x.part(n, len(x)) if n else None for x, n in zip(items, halves)]


# --- cheap features ----------------------------------------------------------------------------------------------

SIDE = 8
"""Pixels: the side of the square that a frame is made."""


def mean_and_motion(train: Sequence[Video], test: Sequence[Video]) -> tuple[Matrix, Matrix, str]:
    """The mean frame in `SIDE` by `SIDE` pixels, and the mean of what each changes by, less those of the mean video.

    train, test: videos. Returns the matrices of both, and what was left out of them in words.

    >>> videos = [Video(np.full((4, 16, 16, 3), value, dtype=np.uint8)) for value in (0, 200)]
    >>> train, test, cut = mean_and_motion(videos, videos[:1])
    >>> train.shape[0], test.shape[0], train.shape[1] == test.shape[1]
    (2, 1, True)
    """
    known, unseen = (np.stack([_summary(x) for x in items]) for items in (train, test))
    return *scaled(known - known.mean(0), unseen - known.mean(0)), ""


def _summary(video: Video) -> np.ndarray:
    x = torch.from_numpy(np.ascontiguousarray(video.frames)).movedim(-1, 1).float() / 255
    small = torch.nn.functional.adaptive_avg_pool2d(x, SIDE)
    motion = small.diff(dim=0).abs().mean(0) if len(small) > 1 else torch.zeros_like(small[0])
    return torch.cat((small.mean(0).flatten(), motion.flatten())).numpy()


cheap = (Cheap(name="mean frame and motion", of=mean_and_motion),)
