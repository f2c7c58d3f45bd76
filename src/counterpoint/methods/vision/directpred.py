"""DirectPred: the predictor of BYOL is computed from statistics instead of trained.

Tian, Chen & Ganguli 2021, "Understanding self-supervised learning dynamics without contrastive pairs", ICML 2021,
arXiv 2102.06810.

For whoever has unlabelled images and wants neither negatives nor a predictor to tune. Each view predicts how a slowly
moving copy of the network (the target) sees the other view. A trained linear predictor ends up with the eigenvectors of
the features' second moment, and with the square roots of its eigenvalues; so it is set to that, after each step.

    f_v = projector(encoder(view v)),   t_v = the same by the target, whose weights are a momentum average
    loss = -2 cos(W f_1, t_2) - 2 cos(W f_2, t_1),   no gradient to t nor to W
    F <- rho · F + (1 - rho) · mean of f fᵀ over both views;   F = U diag(s) Uᵀ
    W <- U diag(p) Uᵀ,   p_j = max(sqrt(s_j / max s) + eps, 1e-4)

`eps` lifts the small eigenvalues: without it, directions that start small never grow. ``predictor`` chooses among
direct; copy, W = F / |F| + eps · 1 (DirectCopy, arXiv 2110.04947: no decomposition); diagonal, p from the diagonal of F
alone; and two ablations, trained (a linear layer with a gradient) and identity (none).

Published: ResNet-18 with 3×3 stem, projector 512 (batch norm without scale and shift) -> 128, batch 128, SGD 0.03,
momentum 0.9, weight decay 4e-4, 100 epochs, target momentum 0.996, rho 0.3, SimCLR's views, for CIFAR at half strength
of colour and without blur. eps is 0.1 in the paper's tables, 0.01 in the released command. The released code starts the
target from other random weights than the network's; here it starts as a copy, and `same_start=False` does as the code
did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders.heads import Projector
from counterpoint.encoders.image import ConvNetConfig, ImageEncoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.pending import Pending
from counterpoint.memory.statistics import RunningMoment
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import two_views
from counterpoint.objectives.predict import negative_cosine
from counterpoint.processes import world
from counterpoint.train.config import TrainConfig
from counterpoint.views.image import SimCLRViews

Predictor = Literal["direct", "copy", "diagonal", "trained", "identity"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """predictor: see above. hidden, out: widths of the projector. momentum: of the target. rho: weight of the old
    moment.

    eps: share of the largest eigenvalue's root that every direction gets. allow_zero_eps: lets it be 0, to see
    directions die. freq: steps between two settings of the predictor; in between it stands still, or is trained where
    ``train_between``. centred: covariance instead of second moment. same_start: the target starts as a copy. augment,
    source: see `two_views`.
    """

    predictor: Predictor = "direct"
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
    source: int = 0

    def __post_init__(self) -> None:
        if self.eps < 0 or (self.eps == 0 and self.closed_form and not self.allow_zero_eps):
            raise ConfigError(
                f"eps={self.eps}: directions without variance would never be learned. Give eps=0.1, or set "
                "allow_zero_eps to see it happen."
            )
        if self.freq < 1:
            raise ConfigError(f"freq={self.freq}: give the number of steps between two settings, at least 1.")
        if self.train_between and (self.freq == 1 or not self.closed_form):
            raise ConfigError("train_between has an effect only with freq > 1 and a predictor that is computed.")

    @property
    def closed_form(self) -> bool:
        """Whether the predictor is set, not trained."""
        return self.predictor in ("direct", "copy", "diagonal")


@method(
    "directpred",
    title="DirectPred: a predictor set from statistics",
    paper="arXiv 2102.06810",
    year=2021,
    modalities=("image",),
    needs=("items",),
    usual=("items",),
)
class DirectPred(Method):
    """Two views predict one another through a linear map that is computed from the features' second moment."""

    Config = Config
    encoder: ImageEncoder

    def __init__(self, encoder: ImageEncoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        self.projector = self._projector()
        self.predictor = nn.Linear(c.out, c.out, bias=False)
        if c.predictor != "trained":
            nn.init.eye_(self.predictor.weight)
            self.predictor.requires_grad_(c.train_between)
        start = (encoder, self.projector) if c.same_start else (type(encoder)(encoder.config), self._projector())
        # Its batch norms keep statistics of their own, as the target sees the batches itself.
        self.teacher = Teacher(nn.Sequential(*start), momentum=c.momentum, copy_buffers=False)
        self.moment = RunningMoment(c.out, rho=c.rho, centred=c.centred)
        self._seen = Pending[Tensor]()

    def _projector(self) -> Projector:
        return Projector(self.encoder.dim, (self.config.hidden,), self.config.out, norm="batch", affine=False)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        return two_views(self.encoder, rows, rng, self.config.augment, source=self.config.source)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        if len(batch) < 2 and world() == 1:
            raise DataError(
                "One image alone has no batch statistics, which the projector needs; set batch to 2 or more."
            )
        views = batch.one("anchor"), batch.one("positive")
        f1, f2 = (self.projector(self.embed(self.encoder, v)) for v in views)
        encoder, projector = self.teacher.model.children()
        with torch.no_grad():
            t1, t2 = (projector(self.embed(encoder, v)) for v in views)
        self._seen.put(batch, torch.cat((f1, f2)).detach())
        self.observe(anchor=f1, positive=f2)
        return {"predict": 2 * (negative_cosine(self.predictor(f1), t2) + negative_cosine(self.predictor(f2), t1))}

    def after_step(self, step: int) -> None:
        self.teacher.update(nn.Sequential(self.encoder, self.projector))
        self.moment.update(torch.cat([features for _, features in self._seen.take()]))
        c = self.config
        if c.closed_form and (step == 1 or step % c.freq == 0):
            with torch.no_grad():
                self.predictor.weight.copy_(closed_form(self.moment.moment, c.predictor, eps=c.eps))

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=ConvNetConfig.resnet18(32),
                train=TrainConfig(
                    batch=128,
                    epochs=100,
                    optimizer="sgd",
                    lr=0.03,
                    momentum=0.9,
                    weight_decay=4e-4,
                    schedule="constant",
                    warmup=0.0,
                    clip=0.0,
                ),
            )
        small = size == "small"
        # Few steps: Adam instead of plain SGD, and a target that follows in 100 steps rather than 250.
        return Recipe(
            config=Config(hidden=256 if small else 64, out=64 if small else 16, momentum=0.99),
            encoder=ConvNetConfig() if small else ConvNetConfig(size=16, stem_width=16, widths=(16, 32), depths=(1, 1)),
            train=TrainConfig(batch=128 if small else 32, epochs=12 if small else 1, lr=2e-3, weight_decay=4e-4),
        )


def closed_form(moment: Tensor, kind: Predictor = "direct", *, eps: float, floor: float = 1e-4) -> Tensor:
    """The predictor ``(D, D)`` that belongs to a second moment ``(D, D)``: symmetric, with largest eigenvalue 1 + eps.

    direct: ``U diag(max(sqrt(s / max s) + eps, floor)) Uᵀ`` of ``F = U diag(s) Uᵀ``. diagonal: the same of the diagonal
    of F. copy: ``F / |F| + eps · 1`` with the spectral norm. A moment of zeros gives ``eps · 1``. kind: direct,
    diagonal or copy. Sources: Tian et al. 2021, arXiv 2102.06810; copy: Wang et al. 2021, arXiv 2110.04947.
    """
    tiny = torch.finfo(moment.dtype).tiny
    if kind == "copy":
        largest = torch.linalg.matrix_norm(moment, 2).clamp_min(tiny)
        return moment / largest + eps * torch.eye(len(moment)).to(moment)
    if kind == "diagonal":
        return _boost(moment.diagonal(), eps, floor).diag()
    s, u = torch.linalg.eigh((moment + moment.T) / 2)
    return (u * _boost(s, eps, floor)) @ u.T


def _boost(s: Tensor, eps: float, floor: float) -> Tensor:
    s = s.clamp_min(0)  # rounding makes small eigenvalues negative
    return ((s / s.max().clamp_min(torch.finfo(s.dtype).tiny)).sqrt() + eps).clamp_min(floor)
