"""An encoder of videos: a convolutional network for each frame, then what changes from frame to frame, then attention.

It reads as many frames of a video as it is told, spread evenly over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, seeded
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.errors import ConfigError, ItemError
from counterpoint.modalities.image import pixels
from counterpoint.modalities.video import Video, video


@dataclass(frozen=True, kw_only=True)
class VideoConvNetConfig:
    """An encoder of videos; by default a small one (0.2 M weights).

    frames: of a video that are read. size: side of a frame in pixels. stem_width, widths, depths: of the convolutional
    network, as in `counterpoint.encoders.image.ConvNetConfig`; the last width is that of the embedding. kernel: frames
    that a change is seen over, an odd number.
    """

    frames: int = 8
    size: int = 48
    stem_width: int = 32
    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1)
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.frames < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(
                f"frames={self.frames}, kernel={self.kernel}: expected frames >= 1, and an odd kernel, as a frame "
                "stands in the middle of it."
            )


class VideoConvNet(Encoder):
    """Frames one by one, then a convolution over time, then a mean weighted by attention (Lin et al. 2017, arXiv
    1703.03130, with one head). Normalised by group, so that a video does not depend on its company.

    >>> from counterpoint.modalities.video import Video
    >>> encoder = VideoConvNet(VideoConvNetConfig(frames=4, size=16, stem_width=4, widths=(4, 8), depths=(1, 1)))
    >>> encoder.encode([Video(np.zeros((6, 24, 24, 3), dtype=np.uint8))]).shape
    (1, 8)
    """

    kind: ClassVar[str] = "video-convnet"
    modality: ClassVar[str] = "video"
    choices: ClassVar[tuple[str, ...]] = ("convnet",)
    standard: ClassVar[bool] = True
    config: VideoConvNetConfig

    def __init__(self, config: VideoConvNetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or VideoConvNetConfig()
        self.dim = c.widths[-1]
        self.frame = ConvNet(
            ConvNetConfig(size=c.size, stem_width=c.stem_width, widths=c.widths, depths=c.depths, norm="group")
        )
        self.norm = nn.LayerNorm(self.dim)
        self.change = nn.Conv1d(self.dim, self.dim, c.kernel, padding=c.kernel // 2)
        self.attention = nn.Sequential(nn.Linear(self.dim, self.dim), nn.Tanh(), nn.Linear(self.dim, 1, bias=False))

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls(VideoConvNetConfig(frames=4, size=16, stem_width=8, widths=(8, 16), depths=(1, 1)))

    def traced(self) -> Traced:
        rng = np.random.default_rng(0)
        noises = [Video(rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)) for n in (self.config.frames, 2, 3)]
        return Traced(
            forward=lambda frames, mask: self({"frames": frames, "attention_mask": mask}),
            example=self.collate(noises),
            names=("frames", "attention_mask"),
            free={0: "batch", 1: "length"},
        )

    # --- what goes in ----------------------------------------------------------------------------------------------

    def is_one(self, items: Any) -> bool:
        """A video, a path, bytes, a mapping."""
        return super().is_one(items) or isinstance(items, Video)

    def collate(self, items: Sequence[Any], role: str | None = None) -> dict[str, Tensor]:
        """Videos (or what `counterpoint.modalities.video.video` takes) to ``frames`` ``(N, T, 3, size, size)`` in
        [0, 1] and ``attention_mask`` ``(N, T)`` bool, T being at most the configuration's ``frames``."""
        found = [self._frames_at(items, place) for place in range(len(items))]
        lengths = torch.tensor([len(x) for x in found])
        longest = int(lengths.max()) if found else 1
        frames = torch.zeros(len(found), longest, 3, self.config.size, self.config.size)
        for row, x in zip(frames, found):
            row[: len(x)] = x
        return {"frames": frames, "attention_mask": torch.arange(longest) < lengths[:, None]}

    def _frames_at(self, items: Sequence[Any], place: int) -> Tensor:
        try:
            whole = video(items[place])
        except (OSError, TypeError, KeyError) as error:
            raise ItemError(f"Video {{place}} of {{of}} cannot be encoded: {error}.", place, len(items)) from error
        kept = np.linspace(0, len(whole) - 1, min(len(whole), self.config.frames)).round().astype(int)
        return pixels(list(whole.frames[kept]), self.config.size)

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Patches of 8×8 pixels in all frames: all videos of an encoder cost the same."""
        return np.full(len(items), self.config.frames * max(1, (self.config.size // 8) ** 2), dtype=np.int64)

    # --- what comes out --------------------------------------------------------------------------------------------

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Each frame and what changes around it ``(N, T, D)``, and which frames are real ``(N, T)`` bool.

        data: as `collate` gives it.
        """
        assert not isinstance(data, Tensor)
        frames, mask = data["frames"], data["attention_mask"].bool()
        x = self.frame(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        # Zero beyond the end, as it is where a video is encoded alone.
        changed = self.change((self.norm(x) * mask.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)
        return x + F.gelu(changed), mask

    def forward(self, data: Data) -> Tensor:
        x, mask = self.tokens(data)
        weight = self.attention(x).squeeze(-1).masked_fill(~mask, float("-inf")).softmax(1)
        z: Tensor = (weight.unsqueeze(1) @ x).squeeze(1)
        return z
