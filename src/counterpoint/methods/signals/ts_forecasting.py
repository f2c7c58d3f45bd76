"""Forecasting of series with a contrastive term: which one, and whether before or beside the forecast.

Zhang et al. 2023, "What Constitutes Good Contrastive Learning in Time-Series Forecasting?", arXiv 2306.12086 (AI4TS
workshop, IJCAI 2023).

For whoever forecasts measurements and asks whether contrast helps, which one, with which network. Windows x of L steps
are embedded step by step, r = encoder(x), and the steps after them are read off the last H embeddings at once:
ŷ_h = decoder(r_{L-H+h}). The error of the forecast and a contrast of windows are minimised together:

    loss = (1 - weight) · mean (ŷ - y)² + weight · contrast

    moco          -log( exp(q·k / T) / (exp(q·k / T) + Σ_{n in queue} exp(q·n / T)) ): q = query(r_t) at one random time
                  t, k the same of a momentum encoder for another view of the window, both of unit length
    hierarchical  windows against windows and times against times, at every scale of time (TS2Vec), between two views
                  with steps left out
    both          half of each
    cost          trend + season_weight · season (CoST): moco behind causal convolutions, windows by frequency
    none          nothing: the error alone, whatever the weight

``weight=0`` is the error alone; ``weight=1`` contrast alone, after which a ridge forecasts from the embedding of each
window (two steps). Views for keys: scaled, shifted, jittered.

Published (size ``published``): transformer of 5 layers, 128 wide, 8 heads, embeddings of 320; weight 0.5, T 1, queue
512, momentum 0.999; batch 16, Adam, at most 20 epochs, the rate halved after each; ETTh1 with (L, H) from (48, 24) to
(720, 720). Here: cosine decay; attention to all steps; no embeddings of time stamps; a key always sees another view
(``augment``), which the released script leaves out. Where the released code departs from the paper, this does not: the
weight of windows against times is a number (there a flag sets it to 0 or 1), every key has unit length (there the queue
is normalised across keys), and both halves of ``both`` count (there the second has the weight 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.decomposition import SeasonHead, TrendHead
from counterpoint.encoders.heads import Projector
from counterpoint.encoders.series import SeriesConfig, SeriesEncoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.pending import Pending
from counterpoint.memory.queue import Queue
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, OnlyOwn
from counterpoint.objectives.reconstruct import masked_mse
from counterpoint.objectives.scale import LogitScale
from counterpoint.objectives.series import frequency_contrast, hierarchical_contrast
from counterpoint.train.config import TrainConfig
from counterpoint.views.series import jitter_scale_shift, keep_steps

Contrast = Literal["moco", "hierarchical", "both", "cost", "none"]
KERNELS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class Config:
    """length, horizon: steps L looked back on, and H foretold. contrast: see above. weight: of the contrast, 0 to 1.

    query: the embedding of one random time, or the mean over all. temperature, queue, momentum: of moco and cost.
    augment: whether keys see another view; sigma: standard deviation of its noise. alpha: of windows against times
    (hierarchical). keep: shares of steps that its two views see. season_weight: of cost.
    """

    length: int = 48
    horizon: int = 24
    contrast: Contrast = "moco"
    weight: float = 0.5
    query: Literal["random", "mean"] = "random"
    temperature: float = 1.0
    queue: int = 512
    momentum: float = 0.999
    augment: bool = True
    sigma: float = 0.5
    alpha: float = 0.5
    keep: tuple[float, float] = (0.3, 0.5)
    season_weight: float = 0.0005

    def __post_init__(self) -> None:
        if self.contrast not in get_args(Contrast) or self.query not in ("random", "mean"):
            raise ConfigError(
                f"contrast={self.contrast!r}, query={self.query!r}: expected contrast to be one of "
                f"{', '.join(get_args(Contrast))}, and query random or mean."
            )
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"weight={self.weight}: expected from 0 (the forecast's error alone) to 1 (contrast).")
        if not 1 <= self.horizon <= self.length:
            raise ConfigError(
                f"length={self.length}, horizon={self.horizon}: each step of the horizon is foretold at a step of the "
                "window, so the window must be as long at least: expected 1 <= horizon <= length."
            )

    @property
    def share(self) -> float:
        """The weight of the contrast: 0 where there is none."""
        return 0.0 if self.contrast == "none" else self.weight


@method(
    "ts-forecasting",
    title="Forecasting with a contrastive term",
    paper="arXiv 2306.12086",
    year=2023,
    modalities=("series",),
    needs=("series",),
    usual=("series",),
)
class TSForecasting(Method):
    """The steps after a window are foretold while its embeddings are contrasted with those of others."""

    Config = Config
    encoder: SeriesEncoder

    def __init__(self, encoder: SeriesEncoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        encoder.reshape(length=c.length, horizon=c.horizon, decoder=c.share < 1)
        self.queued = c.share > 0 and c.contrast in ("moco", "both", "cost")
        self.masked = c.share > 0 and c.contrast in ("hierarchical", "both")
        seasonal = c.share > 0 and c.contrast == "cost"
        self.season = SeasonHead(encoder.dim, encoder.dim, length=c.length) if seasonal else None
        self._pending = Pending[Tensor]()
        if self.queued:
            kernels = tuple(k for k in KERNELS if k <= c.length)
            self.query = Query(encoder.dim, kernels if c.contrast == "cost" else ())
            self.scale = LogitScale(c.temperature)
            self.teacher = Teacher(encoder, momentum=c.momentum)
            self.key = Teacher(self.query, momentum=c.momentum)
            self.queue = Queue(c.queue, encoder.dim)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """``anchor``: the windows. ``positive``: what keys see of them. ``context``, twice: with steps left out.
        Labels: ``horizon`` (N, H, C) standardised, and ``time`` (N,), one random step for all."""
        c, encoder = self.config, self.encoder
        for row in rows[:1]:
            if len(row["series"]) < c.length or len(row["horizon"]) < c.horizon:
                raise DataError(
                    f"The rows hold windows of {len(row['series'])} steps and {len(row['horizon'])} after them; these "
                    f"settings need {c.length} and {c.horizon}. Make them with Windows(..., length=, horizon=)."
                )
        n = len(rows)
        past = encoder.collate([row["series"][-c.length :] for row in rows])
        if not n:
            past = past.new_zeros(0, c.length, encoder.config.channels)
        future = np.array([row["horizon"][: c.horizon] for row in rows]).reshape(n, c.horizon, encoder.config.channels)
        every = torch.arange(c.length).expand(n, -1)
        views = [View({"values": past, "at": every}, "series")]
        if self.queued:
            other = torch.from_numpy(jitter_scale_shift(past.numpy(), rng, sigma=c.sigma)) if c.augment else past
            views.append(View({"values": other, "at": every}, "series", "positive"))
        for share in c.keep if self.masked else ():
            kept = torch.from_numpy(keep_steps(n, c.length, rng, probability=share))
            views.append(View({"values": past, "at": every, "keep": kept}, "series", "context"))
        labels = {
            "horizon": torch.from_numpy(encoder.standardised(future)),
            "time": torch.full((n,), int(rng.integers(c.length))),
        }
        return Batch(tuple(views), torch.tensor([row["row"] for row in rows]), labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        c, out = self.config, {}
        r = self.embed(self.encoder, batch.one("anchor"))
        self.observe(anchor=r[:, -1])
        if self.encoder.decoder is not None:
            error = masked_mse(self.encoder.decode(r[:, -c.horizon :]), target=batch.labels["horizon"])
            out["forecast"] = (1 - c.share) * error
        half = 0.5 if c.contrast == "both" else 1.0
        if self.masked:
            one, two = (self.embed(self.encoder, view) for view in batch.all("context"))
            out["hierarchical"] = c.share * half * hierarchical_contrast(one, two, alpha=c.alpha)
            self.observe(anchor=one[:, -1], positive=two[:, -1])
        if self.queued:
            out["moco"] = c.share * half * self._moco(batch, r)
        if self.season is not None:
            other = self.embed(self.encoder, batch.one("positive"))
            one, two = (F.normalize(self.season(z), dim=2) for z in (r, other))
            out["season"] = c.share * c.season_weight * frequency_contrast(one, two)
        return out

    def _moco(self, batch: Batch, r: Tensor) -> Tensor:
        at = batch.labels["time"] if self.config.query == "random" else None
        query = self.query(r, at)
        with torch.no_grad():
            key = self.key.model(self.embed(self.teacher, batch.one("positive")), at)
        self._pending.put(batch, key)
        scale = self.scale()
        self.observe(anchor=query, positive=key, scale=scale)
        queue = self.queue.snapshot()
        return contrast(query, key, Diagonal() & OnlyOwn(), scale=scale, extra=queue, shared=True)

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings ``(N, D)`` of the windows."""
        data = batch.one("anchor").data
        assert not isinstance(data, Tensor)
        z: Tensor = self.encoder(data["values"])
        return z

    def after_step(self, step: int) -> None:
        if self.queued:
            for _, key in self._pending.take():
                self.queue.push(key)
            self.teacher.update(self.encoder)
            self.key.update(self.query)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """``small`` forecasts 24 steps from 48; a step of it takes about 30 ms of one core. Its T is the published one:
        0.1 forecast worse with each of the seeds 10 to 12, which no proof uses."""
        train = TrainConfig(
            batch=16, epochs=10, lr=1e-3, weight_decay=0.0, warmup=0.0, clip=0.0, stop_on_collapse=False
        )
        if size == "published":
            return Recipe(config=Config(), encoder=SeriesConfig(), train=train)
        encoder = SeriesConfig(layers=2, width=64, dim=64, heads=4)
        config = Config(momentum=0.99)
        if size == "small":
            return Recipe(config=config, encoder=encoder, train=replace(train, batch=32, epochs=3))
        return Recipe(
            config=replace(config, length=16, horizon=8, queue=64),
            encoder=replace(encoder, layers=1, width=16, dim=16, heads=2),
            train=replace(train, batch=32, epochs=1),
        )


class Query(nn.Module):
    """From embeddings of steps ``(N, L, D)`` to queries ``(N, D)`` of unit length, at a time ``(N,)`` each, or, without
    times, from their mean; behind causal convolutions where there are kernels.

    dim: of the embeddings."""

    def __init__(self, dim: int, kernels: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.trend = TrendHead(dim, dim, kernels=kernels) if kernels else nn.Identity()
        self.head = Projector(dim, (dim,), dim, norm=None)

    def forward(self, z: Tensor, at: Tensor | None) -> Tensor:
        """``(N, D)`` of unit length for z ``(N, L, D)``: of the step ``at`` ``(N,)`` of each, or their mean."""
        z = self.trend(z)
        z = z.mean(1) if at is None else z[torch.arange(len(z), device=z.device), at]
        return F.normalize(self.head(z), dim=1)
