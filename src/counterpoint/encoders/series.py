"""Encoders of windows of a series: a linear embedding of each step, then a transformer, an LSTM or a convolutional
network over time, then a linear map; and a decoder that forecasts from the embeddings of the last steps.

Sources: Zhang et al. 2023, arXiv 2306.12086 (the layout, direct forecasts); Vaswani et al. 2017, arXiv 1706.03762;
Bai et al. 2018 (TCN), arXiv 1803.01271; Yue et al. 2022 (TS2Vec: dilated residual blocks), arXiv 2106.10466.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.data.schema import Known
from counterpoint.data.windows import Series
from counterpoint.encoders.base import Encoder, Source, Traced, noise, seeded
from counterpoint.encoders.bulk import is_vector
from counterpoint.errors import ConfigError, DataError, ItemError, ModelError
from counterpoint.modalities.series import CHANNELS

Backbone: TypeAlias = Literal["transformer", "lstm", "tcn", "dilated-tcn"]
BACKBONES: tuple[Backbone, ...] = ("transformer", "lstm", "tcn", "dilated-tcn")


@dataclass(frozen=True, kw_only=True)
class SeriesConfig:
    """channels: C of the series; 0: that of the series it is made for. backbone, layers: what reads over time, and how
    deep. width: of each step inside. dim: D of the embedding of a step, and of a window. dropout: of every layer.

    heads, feedforward: of the transformer. kernel: steps that a convolution sees (tcn, dilated-tcn). pooling: which
    steps make the embedding of a window: the last one, the mean, the largest value over time.

    names, mean, deviation: of the channels in the training part; windows are standardised with these (none: taken as
    they are). length, horizon: steps L of the windows it was trained on, and steps H after them. decoder: whether it
    forecasts these.
    """

    channels: int = 0
    backbone: Backbone = "transformer"
    dim: int = 320
    width: int = 128
    layers: int = 5
    dropout: float = 0.05
    heads: int = 8
    feedforward: int = 64
    kernel: int = 3
    pooling: Literal["last", "mean", "max"] = "last"
    names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    length: int = 0
    horizon: int = 0
    decoder: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"backbone={self.backbone!r}: type one of {', '.join(BACKBONES)}.")
        if self.layers < 1 or not 0 <= self.dropout < 1 or min(self.dim, self.width) < 1:
            raise ConfigError(
                f"layers={self.layers}, dim={self.dim}, width={self.width}, dropout={self.dropout}: expected at least "
                "1 of each, and a dropout of at least 0 and below 1."
            )
        if self.backbone == "transformer" and (self.width % self.heads or self.width % 2):
            raise ConfigError(f"width={self.width} must be even, and a multiple of the heads={self.heads}.")
        if self.kernel % 2 == 0:
            raise ConfigError(
                f"kernel={self.kernel}: give an odd number, so that a step is the middle of what it sees."
            )
        if len(self.mean) != len(self.deviation) or (self.mean and len(self.mean) != self.channels):
            raise ConfigError(f"{len(self.mean)} means and {len(self.deviation)} deviations: one per channel, or none.")


class SeriesEncoder(Encoder):
    """Embeddings of the steps of a window, of the window, and forecasts. An item is an array ``(L, C)`` in the units of
    the series.

    `forward` takes what `collate` gives, ``(N, L, C)`` standardised, or a mapping with these as ``values``; with
    ``keep`` (N, L) bool: steps that are not kept are zero behind the embedding; and with ``at`` (N, K): then the
    embeddings of these steps come, ``(N, K, D)``, instead of one for each window.

    >>> encoder = SeriesEncoder.example()
    >>> windows = np.random.default_rng(0).normal(size=(2, 48, encoder.config.channels)).astype(np.float32)
    >>> encoder.encode(windows).shape == (2, encoder.dim)
    True
    """

    kind: ClassVar[str] = "series"
    modality = "series"
    choices: ClassVar[tuple[str, ...]] = BACKBONES
    standard: ClassVar[bool] = True
    normalize = False  # what a forecast is made from has a length
    config: SeriesConfig

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__()
        if config.channels < 1:
            raise ConfigError("An encoder of series needs the number of channels: give channels=C.")
        self.config, self.dim = config, config.dim
        self.embedding = nn.Linear(config.channels, config.width)
        self.backbone = _backbone(config)
        self.out = nn.Linear(config.width, config.dim)
        self.decoder = self._decoder() if config.decoder else None

    def _decoder(self) -> nn.Module:
        c = self.config
        return nn.Sequential(nn.Linear(c.dim, c.dim), nn.ReLU(), nn.Linear(c.dim, c.channels))

    @classmethod
    def configured(cls, choice: str, recipe: Any = None, *, smoke: bool = False) -> Any:
        return replace(super().configured(choice, recipe, smoke=smoke), backbone=choice)

    @classmethod
    def build(cls, config: Any, rows: Source) -> Self:
        known = rows.known(cls.modality)
        return cls(of_series(config, known) if known.names else config)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls(SeriesConfig(channels=CHANNELS, dim=16, width=16, layers=2, heads=2))

    def traced(self) -> Traced:
        """Of windows that are standardised, as `collate` gives them, of the length it was trained with."""
        return Traced(forward=self.forward, example=noise(3, self.config.length or 32, self.config.channels))

    def reshape(self, *, length: int, horizon: int, decoder: bool) -> None:
        """Have windows of this size, and a decoder or none; one that it has stays as it is.

        A step of the horizon is read off the embedding of one step of the window, so horizon may not exceed length.
        """
        if not 1 <= horizon <= length:
            raise ConfigError(
                f"length={length}, horizon={horizon}: each step of the horizon is foretold at a step of the window, so "
                "the window must be as long at least: expected 1 <= horizon <= length."
            )
        self.config = replace(self.config, length=length, horizon=horizon, decoder=decoder)
        self.decoder = (self.decoder or self._decoder()) if decoder else None

    # --- in ----------------------------------------------------------------------------------------------------

    def is_one(self, items: Any) -> bool:
        """A window: an array ``(L, C)``, or the list of its rows."""
        if isinstance(items, np.ndarray | Tensor):
            return items.ndim == 2
        return super().is_one(items) or (isinstance(items, list | tuple) and bool(items) and is_vector(items[0]))

    def collate(self, items: Sequence[Any], role: str | None = None) -> Tensor:
        """``(N, L, C)`` float32, standardised with the mean and deviation of the training part."""
        arrays = [_array(items, place) for place in range(len(items))]
        shape = arrays[0].shape if arrays else (1, self.config.channels)
        for i, array in enumerate(arrays):
            if array.ndim != 2 or array.shape[1] != self.config.channels or not len(array):
                of = f" ({', '.join(self.config.names)})" if self.config.names else ""
                raise ItemError(
                    f"Window {{place}} has shape {array.shape}; expected (L, {self.config.channels}): a row for each "
                    f"step of time, a column for each channel{of}.",
                    i,
                    len(items),
                )
            if array.shape != shape:
                raise DataError(f"Windows of {shape[0]} and {len(array)} steps: those of one call have one length.")
            if not np.isfinite(array).all():
                raise ItemError("Window {place} holds NaN or infinity. Fill its gaps first.", i, len(items))
        stacked = np.stack(arrays) if arrays else np.zeros((0, *shape))
        return torch.from_numpy(self.standardised(stacked))

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Values ``(..., C)`` less the mean, divided by the deviation, float32."""
        mean, deviation = self._units()
        return ((values - mean) / deviation).astype(np.float32)

    def _units(self) -> tuple[np.ndarray, np.ndarray]:
        c = self.config
        return np.array(c.mean or [0.0] * c.channels), np.array(c.deviation or [1.0] * c.channels)

    # --- out ---------------------------------------------------------------------------------------------------

    def steps(self, values: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embeddings ``(N, L, D)`` of the steps of windows ``(N, L, C)``."""
        h = self.embedding(values)
        if keep is not None:
            h = h * keep.unsqueeze(2)
        return cast(Tensor, self.out(self.backbone(h)))

    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(N, D)`` of windows, or ``(N, K, D)`` of the steps asked for."""
        if isinstance(data, Tensor):
            return self._pooled(self.steps(data))
        z = self.steps(data["values"], data.get("keep"))
        if "at" not in data:
            return self._pooled(z)
        return z.gather(1, data["at"].unsqueeze(2).expand(-1, -1, z.shape[2]))

    def _pooled(self, z: Tensor) -> Tensor:
        match self.config.pooling:
            case "last":
                return z[:, -1]
            case "mean":
                return z.mean(1)
            case _:
                return z.amax(1)

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Embeddings ``(N, L, D)`` of the steps, and a mask ``(N, L)`` that is True everywhere."""
        z = self.steps(data) if isinstance(data, Tensor) else self.steps(data["values"], data.get("keep"))
        return z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)

    def decode(self, z: Tensor) -> Tensor:
        """Forecasts ``(N, H, C)``, standardised, from the embeddings ``(N, H, D)`` of the last H steps.

        z: of the steps that are forecast.
        """
        if self.decoder is None:
            raise ModelError(
                "This encoder has no decoder: it was trained by contrast alone. Fit one on its embeddings "
                "(counterpoint.evaluate.ridge), or train with a share of the forecast's error (--set weight=0.5)."
            )
        return cast(Tensor, self.decoder(z))

    def predict(self, values: Tensor) -> Tensor:
        """Forecasts ``(N, H, C)`` from windows ``(N, L, C)``, both standardised."""
        return self.decode(self.steps(values)[:, -self.config.horizon :])

    def forecast(self, window: Any, *, batch: int = 512) -> np.ndarray:
        """The steps ``(H, C)`` that follow a window ``(L, C)``, both in the units of the series; of several windows
        ``(N, L, C)``, ``(N, H, C)``. Of longer windows the last steps are read, as many as it was trained with.

        window: one, or several. batch: windows of a forward pass.
        """
        given = np.asarray(window)
        length = self.config.length
        if given.ndim not in (2, 3) or given.shape[-2] < length:
            raise DataError(
                f"A window of shape {given.shape}: expected ({length}, {self.config.channels}), the last {length} "
                "steps with a column for each channel, or several of them."
            )
        x = self.collate(list(given[None] if given.ndim == 2 else given))[:, -length:]
        with self.evaluating():
            parts = [self.predict(part.to(self.device)).cpu() for part in x.split(batch)]
        mean, deviation = self._units()
        out: np.ndarray = (torch.cat(parts).numpy() * deviation + mean).astype(np.float32)
        return out[0] if given.ndim == 2 else out


def _array(items: Sequence[Any], place: int) -> np.ndarray:
    try:
        return np.asarray(items[place], dtype=np.float64)
    except (TypeError, ValueError) as error:
        given = type(items[place]).__name__
        said = f"Window {{place}} is no array of numbers but a {given}."
        raise ItemError(said, place, len(items)) from error


# --- over time: (N, L, W) to (N, L, W) -------------------------------------------------------------------------


def _backbone(c: SeriesConfig) -> nn.Module:
    if c.backbone == "transformer":
        return Transformer(c)
    if c.backbone == "lstm":
        return Recurrent(c)
    dilation = 2 if c.backbone == "dilated-tcn" else 1
    blocks = (Block(c.width, c.kernel, dilation**i, c.dropout) for i in range(c.layers))
    return nn.Sequential(*blocks)


class Transformer(nn.Module):
    """Attention of every step to every step, with sinusoidal positions (the study's attends to few: ProbSparse).

    c: width, depth, heads, dropout.
    """

    def __init__(self, c: SeriesConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Attention(c) for _ in range(c.layers))

    def forward(self, h: Tensor) -> Tensor:
        """Steps h ``(N, L, W)`` to ``(N, L, W)``."""
        h = h + positions(h.shape[1], h.shape[2]).to(h)
        for layer in self.layers:
            h = layer(h)
        return h


class Attention(nn.Module):
    """A layer of a transformer, each half followed by its normalisation. Dropout is of what the halves give, not of
    single attention weights, which would cost as much as all else on a CPU.

    c: width, heads, dropout.
    """

    def __init__(self, c: SeriesConfig) -> None:
        super().__init__()
        self.heads, self.rate = c.heads, c.dropout
        self.parts, self.mix = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.inner, self.outer = nn.Linear(c.width, c.feedforward), nn.Linear(c.feedforward, c.width)
        self.first, self.second = nn.LayerNorm(c.width), nn.LayerNorm(c.width)

    def forward(self, h: Tensor) -> Tensor:
        """Steps h ``(N, L, W)`` to ``(N, L, W)``."""
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in self.parts(h).chunk(3, dim=2))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = self.first(h + F.dropout(self.mix(seen), self.rate, self.training))
        x = self.outer(F.gelu(self.inner(h)))
        return cast(Tensor, self.second(h + F.dropout(x, self.rate, self.training)))


class Recurrent(nn.Module):
    """An LSTM: a step knows of those before it.

    c: width, depth, dropout.
    """

    def __init__(self, c: SeriesConfig) -> None:
        super().__init__()
        dropout = c.dropout if c.layers > 1 else 0.0
        self.lstm = nn.LSTM(c.width, c.width, c.layers, dropout=dropout, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        """Steps h ``(N, L, W)`` to ``(N, L, W)``."""
        return cast(Tensor, self.lstm(h)[0])


class Block(nn.Module):
    """Two convolutions around a step and a way past them: ``h + conv(gelu(conv(gelu(h))))``.

    width: W. kernel: steps that each sees. dilation: distance of two of them. dropout: of what the convolutions give.
    """

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.first, self.second = (
            nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation) for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Steps h ``(N, L, W)`` to ``(N, L, W)``."""
        x = self.second(F.gelu(self.first(F.gelu(h.mT))))
        return h + cast(Tensor, self.dropout(x.mT))


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines ``(L, W)`` of geometrically growing wavelengths (Vaswani et al. 2017, section 3.5).

    length: L. width: W.
    """
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(length).unsqueeze(1) * rate
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)


def of_series(config: SeriesConfig, series: Series | Known) -> SeriesConfig:
    """The configuration for a series: its channels, and the mean and deviation of its training part.

    config: of any series. series: or what is known of it.
    """
    return replace(
        config,
        channels=len(series.names),
        names=series.names,
        mean=tuple(map(float, series.mean)),
        deviation=tuple(map(float, series.deviation)),
    )
