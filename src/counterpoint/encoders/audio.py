"""An encoder of recordings: log-mel frames, convolutions that shorten them, blocks of a conformer or a transformer.

Recordings of any length and rate go in; frames that stand for nothing but padding take part in nothing. Sources of the
parts: Gulati et al. 2020 (Conformer), arXiv 2005.08100; Su et al. 2021 (rotary positions), arXiv 2104.09864.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, seeded
from counterpoint.encoders.bulk import is_vector
from counterpoint.encoders.pooling import pool
from counterpoint.errors import ConfigError, DataError, ItemError
from counterpoint.modalities.audio import Recording, log_mel, recording


@dataclass(frozen=True, kw_only=True)
class AudioTransformerConfig:
    """An encoder of recordings; by default a small conformer (7 M weights) for speech at 16 kHz.

    rate: samples in a second that recordings are brought to. bands: of the mel scale. window, hop: length of a frame
    and distance of two, in seconds. longest: seconds that are heard; the rest of a longer recording is not. channels,
    halvings: of the convolutions that shorten the frames, each to half. blocks: ``conformer`` or ``transformer``. dim,
    depth, heads, mlp: width, blocks, attention heads, width of the inner layer as a multiple of ``dim``. kernel: places
    that a conformer's convolution sees. layer: the block, from 1, whose output is the embedding (None: the last one).
    dropout: in blocks.
    """

    rate: int = 16_000
    bands: int = 80
    window: float = 0.025
    hop: float = 0.010
    longest: float = 30.0
    channels: int = 32
    halvings: int = 2
    blocks: Literal["conformer", "transformer"] = "conformer"
    dim: int = 192
    depth: int = 8
    heads: int = 4
    mlp: float = 4.0
    kernel: int = 15
    dropout: float = 0.0
    layer: int | None = None

    def __post_init__(self) -> None:
        sizes = ("rate", "bands", "window", "hop", "longest", "channels", "dim", "depth", "heads", "mlp")
        for name in sizes:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: expected more than 0.")
        if self.blocks not in ("conformer", "transformer"):
            raise ConfigError(f"blocks={self.blocks!r}: type conformer or transformer.")
        if self.dim % (2 * self.heads):
            raise ConfigError(f"dim={self.dim} does not divide among {self.heads} heads into even widths.")
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel}: expected an odd number, as a place stands in the middle of it.")
        if not 0 <= self.halvings <= 6:
            raise ConfigError(f"halvings={self.halvings}: expected 0 to 6.")
        if self.layer is not None and not 1 <= self.layer <= self.depth:
            raise ConfigError(f"layer={self.layer}: there are the blocks 1 to {self.depth}.")
        if round(self.rate * self.hop) < 1 or round(self.rate * self.window) < 4:
            raise ConfigError(f"window={self.window}, hop={self.hop} at {self.rate} Hz: less than a sample apart.")


class AudioTransformer(Encoder):
    """Log-mel frames with mean 0 and variance 1 over the recording, all bands together, so that its loudness does not
    count; the embedding is the mean over time.

    >>> from counterpoint.modalities.audio import Recording
    >>> encoder = AudioTransformer(AudioTransformerConfig(rate=8_000, bands=16, channels=4, dim=16, depth=1, heads=2))
    >>> recording = Recording(np.sin(np.arange(8_000, dtype=np.float32)), rate=8_000)
    >>> encoder.encode([recording]).shape
    (1, 16)
    """

    kind: ClassVar[str] = "audio-transformer"
    modality: ClassVar[str] = "audio"
    choices: ClassVar[tuple[str, ...]] = ("conformer", "transformer")
    standard: ClassVar[bool] = True
    config: AudioTransformerConfig

    def __init__(self, config: AudioTransformerConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or AudioTransformerConfig()
        self.dim = c.dim
        self.front = nn.ModuleList(
            nn.Conv2d(c.channels if i else 1, c.channels, 3, stride=2, padding=1) for i in range(c.halvings)
        )
        self.width = c.bands if c.halvings == 0 else c.channels * -(-c.bands // 2**c.halvings)
        self.norm = nn.LayerNorm(self.width)
        self.into = nn.Linear(self.width, c.dim)
        kernel = c.kernel if c.blocks == "conformer" else 0
        self.blocks = nn.ModuleList(Block(c.dim, c.heads, c.mlp, kernel, c.dropout) for _ in range(c.depth))

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        return replace(super().configured(choice, recipe, smoke=smoke), blocks=choice)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls(AudioTransformerConfig(rate=8000, bands=20, channels=4, dim=16, depth=2, heads=2, kernel=5))

    def traced(self) -> Traced:
        rng = np.random.default_rng(0)
        noises = [Recording(rng.normal(size=n).astype(np.float32), 16_000) for n in (16_000, 5_000, 9_000)]
        return Traced(
            forward=lambda frames, mask: self({"frames": frames, "attention_mask": mask}),
            example=self.collate(noises),
            names=("frames", "attention_mask"),
            free={0: "batch", 1: "length"},
        )

    # --- what goes in ----------------------------------------------------------------------------------------------

    def collate(self, items: Sequence[Any], role: str | None = None) -> dict[str, Tensor]:
        """Recordings (or what `counterpoint.modalities.audio.recording` takes) to ``frames`` ``(N, T, bands)`` and
        ``attention_mask`` ``(N, T)`` bool."""
        found = [self._frames_at(items, place) for place in range(len(items))]
        lengths = torch.tensor([len(x) for x in found])
        longest = int(lengths.max()) if found else 1
        frames = torch.zeros(len(found), longest, self.config.bands)
        for row, x in zip(frames, found):
            row[: len(x)] = x
        return {"frames": frames, "attention_mask": torch.arange(longest) < lengths[:, None]}

    def is_one(self, items: Any) -> bool:
        """A recording, a path, bytes, a mapping; or numbers ``(T,)``, whose rate is then asked for."""
        return super().is_one(items) or isinstance(items, Recording) or is_vector(items)

    def _frames_at(self, items: Sequence[Any], place: int) -> Tensor:
        try:
            return self.frames(items[place])
        except (DataError, TypeError, KeyError) as error:
            why = str(error) if isinstance(error, DataError) else f"A recording cannot be read from it ({error!r})."
            raise ItemError(f"Item {{place}} of {{of}}: {why}", place, len(items)) from error

    def frames(self, item: Any) -> Tensor:
        """The frames ``(T, bands)`` of one recording.

        item: whatever holds one.
        """
        c = self.config
        try:
            heard = recording(item)
        except OSError as error:
            raise DataError(f"A recording cannot be encoded: {error}.") from error
        heard = heard.part(0, max(1, round(c.longest * heard.rate))).at(c.rate)
        x = log_mel(heard, bands=c.bands, window=round(c.rate * c.window), hop=round(c.rate * c.hop))
        return torch.from_numpy((x - x.mean()) / max(float(x.std()), 1e-3))

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Places after the front, ``(N,)``."""
        c = self.config
        window, hop = round(c.rate * c.window), round(c.rate * c.hop)
        most = round(c.rate * c.longest)
        # What is not decoded yet may be as long as any.
        samples = (-(-len(x) * c.rate // x.rate) if isinstance(x, Recording) else most for x in items)
        return np.array([self.places(max(window, min(n, most)) // hop + 1) for n in samples], dtype=np.int64)

    def places(self, frames: int) -> int:
        """Number of places that the front makes of so many frames."""
        found: int = -(-frames // 2**self.config.halvings)
        return found

    # --- what comes out --------------------------------------------------------------------------------------------

    def features(self, data: Data) -> tuple[Tensor, Tensor]:
        """What the front makes of the frames: ``(N, T', width)``, and which places are real ``(N, T')`` bool.

        T' is ``places(T)``.

        data: as `collate` gives it.
        """
        assert not isinstance(data, Tensor)
        mask = data["attention_mask"].bool()
        x = data["frames"].unsqueeze(1)
        for layer in self.front:
            # Zero beyond the end at every step, as it is where a recording is encoded alone.
            x = F.gelu(layer(x * mask[:, None, :, None]))
            mask = mask[:, ::2]
        return self.norm(x.transpose(1, 2).flatten(2)), mask

    def layers(self, features: Tensor, mask: Tensor, upto: int | None = None) -> list[Tensor]:
        """The output ``(N, T', D)`` of every block (of the first ``upto``) for features ``(N, T', width)``.

        mask: ``(N, T')`` bool, True where a place is real.
        """
        x, out = self.into(features), []
        for block in list(self.blocks)[:upto]:
            x = block(x, mask)
            out.append(x)
        return out

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """The chosen block's output ``(N, T', D)`` and which places are real ``(N, T')`` bool."""
        features, mask = self.features(data)
        return self.layers(features, mask, self.config.layer)[-1], mask

    def forward(self, data: Data) -> Tensor:
        return pool(*self.tokens(data), mode="mean")


class Block(nn.Module):
    """A block of a conformer: half a feed-forward layer, attention, convolution, half a feed-forward layer, norm.

    ``(N, T, D)`` and its mask ``(N, T)`` to ``(N, T, D)``. kernel 0: a transformer's: attention, feed-forward, norm.
    The convolution is normalised by layer, not by batch, so that a recording does not depend on its company.

    dim: D. heads: of the attention. mlp: width of the inner layer as a multiple of D. dropout: of each part.
    """

    def __init__(self, dim: int, heads: int, mlp: float, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = _feed_forward(dim, mlp, dropout) if kernel else None
        self.attention = Attention(dim, heads, dropout)
        self.convolution = Convolution(dim, kernel, dropout) if kernel else None
        self.second = _feed_forward(dim, mlp, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: ``(N, T, D)``. mask: ``(N, T)`` bool, True where a place is real. Returns ``(N, T, D)``."""
        if self.first is None or self.convolution is None:
            x = x + self.attention(x, mask)
            out: Tensor = self.norm(x + self.second(x))
            return out
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, mask)
        x = x + self.convolution(x, mask)
        out = self.norm(x + 0.5 * self.second(x))
        return out


def _feed_forward(dim: int, mlp: float, dropout: float) -> nn.Sequential:
    inner = round(dim * mlp)
    layers = (nn.LayerNorm(dim), nn.Linear(dim, inner), nn.SiLU(), nn.Dropout(dropout), nn.Linear(inner, dim))
    return nn.Sequential(*layers, nn.Dropout(dropout))


class Attention(nn.Module):
    """Attention among real places, with rotary positions: only the distance of two places counts.

    dim: D. heads: how many. dropout: of weights and of what comes out.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(dim)
        self.into = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: ``(N, T, D)``. mask: ``(N, T)`` bool, True where a place is real. Returns ``(N, T, D)``."""
        q, k, v = self.into(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, H, T, d)
        q, k = rotated(q), rotated(k)
        p = self.dropout if self.training else 0.0
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :], dropout_p=p)
        return F.dropout(self.out(z.transpose(1, 2).flatten(2)), p)


class Convolution(nn.Module):
    """Gated, then depthwise over the places around each one.

    dim: D. kernel: places that are seen. dropout: of what comes out.
    """

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.before, self.after, self.dropout = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Dropout(dropout)
        self.gate, self.out = nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: ``(N, T, D)``. mask: ``(N, T)`` bool, True where a place is real. Returns ``(N, T, D)``."""
        x = F.glu(self.gate(self.before(x)), -1) * mask.unsqueeze(-1)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.dropout(self.out(F.silu(self.after(x))))
        return out


def rotated(x: Tensor) -> Tensor:
    """``(..., T, d)``, each pair of dimensions turned by an angle that grows with the place (RoPE).

    x: queries or keys, d even.
    """
    places, half = x.shape[-2], x.shape[-1] // 2
    speed = 10_000 ** -(torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(places, device=x.device, dtype=torch.float32)[:, None] * speed
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
