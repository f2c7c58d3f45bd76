"""DirectPred: the predictor of BYOL is computed from statistics instead of trained.

Tian, Chen & Ganguli 2021, "Understanding self-supervised learning dynamics without contrastive pairs", arXiv 2102.06810.

For whoever has unlabelled images and wants neither negatives nor a predictor to tune. Each view predicts how a slowly
moving copy of the network (the target) sees the other view. A trained linear predictor ends up with the eigenvectors of the
features' correlation matrix and with eigenvalues that are the roots of its own; so that is what it is set to, every step.

    f = projector(encoder(view)),   f' = the same by the target (momentum average of the weights), without gradient
    loss = -2 cos(W f1, f2') - 2 cos(W f2, f1')
    F <- rho · F + (1 - rho) · mean of f fᵀ over both views;   F = U diag(s) Uᵀ
    W = U diag(p) Uᵀ,   p_j = max(sqrt(s_j / max s) + eps, 1e-4)

W has no bias and no gradient. `eps` lifts the small eigenvalues: without it, directions that start small never grow.
`predictor`: direct; copy, W = F / |F| + eps (DirectCopy, arXiv 2110.04947: no decomposition); diagonal, the formula for p on
the diagonal of F alone; and the two ablations, trained (a linear layer with gradient) and identity (none).

Published: ResNet-18 with 3×3 stem, projector 512 (batch norm without scale and shift) -> 128, batch 128, SGD 0.03, momentum
0.9, weight decay 4e-4, 100 epochs, target momentum 0.996, rho 0.3, SimCLR's views, for CIFAR at half strength of colour and
without blur. The paper's tables are for eps = 0.1 relative to the largest eigenvalue, the released command for 0.01.
The released code starts the target from other random weights than the network; `same_start=False` does so. Here it is a copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projector
from counterpoint.encoders.image import ConvNetConfig
from counterpoint.errors import ConfigError
from counterpoint.memory.statistics import RunningMoment
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.predict import negative_cosine
from counterpoint.train.config import TrainConfig
from counterpoint.views.image import SimCLRViews

FLOOR = 1e-4
"""Least eigenvalue of the predictor."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """hidden, out: widths of the projector. momentum: of the target. rho: weight of the old moment. eps: see above.

    freq: steps between two settings of the predictor; between them it stands still, or is trained with
    `train_between`. centred: covariance instead of second moment. allow_zero_eps: eps = 0, for the ablation.
    """

    predictor: Literal["direct", "copy", "diagonal", "trained", "identity"] = "direct"
    hidden: int = 512
    out: int = 128
    momentum: float = 0.996
    rho: float = 0.3
    eps: float = 0.1
    allow_zero_eps: bool = False
    freq: int = 1
    train_between: bool = False
    centred: bool = False
    same_start: bool = True
    augment: SimCLRViews = field(default_factory=SimCLRViews)

    def __post_init__(self) -> None:
        if self.eps < 0 or (self.eps == 0 and not self.allow_zero_eps):
            raise ConfigError(
                f"eps={self.eps}: directions without variance yet would never be learned. Give eps=0.1, or "
                "allow_zero_eps to see it happen."
            )
        if not 0 <= self.rho < 1 or not 0 <= self.momentum <= 1:
            raise ConfigError(f"rho={self.rho}, momentum={self.momentum}: give 0 <= rho < 1 and 0 <= momentum <= 1.")
        if self.freq < 1:
            raise ConfigError(f"freq={self.freq}: give the number of steps between two settings, at least 1.")
        if self.train_between and (self.freq == 1 or not self.closed_form):
            raise ConfigError("train_between has an effect only with freq > 1 and a predictor that is computed.")

    @property
    def closed_form(self) -> bool:
        return self.predictor in ("direct", "copy", "diagonal")


@method(
    "directpred",
    title="DirectPred: a predictor set from statistics",
    paper="arXiv 2102.06810",
    year=2021,
    modalities=("image",),
    needs=("images",),
)
class DirectPred(Method):
    """Two views predict one another through a linear map that is computed from the features' second moment."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        self.projector = Projector(encoder.dim, (c.hidden,), c.out, norm="batch")
        self.predictor = nn.Linear(c.out, c.out, bias=False)
        if c.predictor != "trained":
            nn.init.eye_(self.predictor.weight)
            self.predictor.requires_grad_(c.train_between)
        self.teacher = Teacher(nn.Sequential(encoder, self.projector), momentum=c.momentum)
        self.moment = RunningMoment(c.out, rho=c.rho, centred=c.centred)
        self._seen: dict[int, tuple[Batch, Tensor]] = {}
        self._warned = False

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        return two_views(self.encoder, rows, rng, self.config.augment)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        one, two = batch.one("anchor"), batch.one("positive")
        f1, f2 = (self.projector(self.embed(self.encoder, v)) for v in (one, two))
        with torch.no_grad():
            t1, t2 = (self.embed(self.teacher, v) for v in (one, two))
        # Kept until after the step, once per batch (an optimiser that replays the batch must not count it twice); the
        # batch is kept with it, so that its id stays its own.
        self._seen[id(batch)] = (batch, torch.cat((f1, f2)).detach())
        self.observe(anchor=f1, positive=f2)
        loss = negative_cosine(self.predictor(f1), t2) + negative_cosine(self.predictor(f2), t1)
        return {"predict": 2 * loss}
