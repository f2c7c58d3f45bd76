"""Behaviour of the contrastive loss: its temperature on purpose, and losses on the hardest negatives alone.

Wang & Liu 2021, "Understanding the Behaviour of Contrastive Loss", CVPR 2021, arXiv 2012.09740.

For whoever tunes the temperature of a contrastive model, of texts or images, and wants a loss that makes the choice
less delicate. The softmax weighs each negative by exp(s_ik / T): a small T pushes only the nearest neighbours away, a
large T all alike. Keeping just the hardest negatives of each anchor makes a large T safe, and makes even a loss without
any softmax work.

    s_ik = z_i·z'_k,  z, z' = unit(head(encoder(view))),  T = temperature,  H(i) = {k ≠ i: s_ik ≥ s_alpha(i)}
    contrastive   L_i = -log [ exp(s_ii/T) / (exp(s_ii/T) + Σ_{k≠i} exp(s_ik/T)) ]
    hard          L_i = -log [ exp(s_ii/T) / (exp(s_ii/T) + Σ_{k in H(i)} exp(s_ik/T)) ]
    simple        L_i = -s_ii + weight · mean_{k≠i} s_ik
    hard-simple   L_i = -s_ii + weight · mean_{k in H(i)} s_ik

s_alpha(i) is the upper alpha-quantile of the row's negatives, without gradient; one negative at least is kept, and all
that tie. Each loss is the mean of both directions. Hard losses may draw everything into a narrow cone, where the
hardest negatives are mostly of the anchor's class: watch the monitor of the mean cosine of random pairs, and begin with
the full loss (``full``, a share of the steps), though the cone may come back. `counterpoint diagnose` measures what the
paper measures: uniformity, tolerance, and how hard the penalty is at each temperature.

Published: ResNet-18, unit features of 128 dimensions, a memory bank of all training images as candidates, SGD 0.03,
momentum 0.9, batch 128, 200 epochs, T in 0.07, 0.3, 0.7, 1.0; 4,095 negatives kept by the hard losses, which is
alpha = 0.0819 of CIFAR's 50,000. Here negatives are those of the batch, so the recipe has a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projector
from counterpoint.encoders.image import ConvNetConfig, ImageEncoder
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import two_views
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.hard import HardQuantile, check_share, simple_contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig
from counterpoint.views.image import SimCLRViews

Loss = Literal["contrastive", "simple", "hard", "hard-simple"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """loss: see above. temperature: of the softmax, contrastive and hard. alpha: share of the negatives that the hard
    losses keep. weight: of the negatives, simple and hard-simple. full: share of the steps at the beginning in which
    the hard losses use all negatives.

    hidden, out: widths of the projector, dropped after training (out=0: none). norm: of its hidden layer (None allows
    gradient caching). augment: views of images; those of a text are two draws of dropout.
    """

    loss: Loss = "hard"
    temperature: float = 0.3
    alpha: float = 0.0819
    weight: float = 1.0
    full: float = 0.0
    hidden: int = 512
    out: int = 128
    norm: Literal["batch", "layer"] | None = None
    augment: SimCLRViews = field(default_factory=SimCLRViews)

    def __post_init__(self) -> None:
        if self.loss not in ("contrastive", "simple", "hard", "hard-simple"):
            raise ConfigError(f"loss={self.loss!r}: type contrastive, simple, hard or hard-simple.")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature}: a temperature is positive. Try 0.3.")
        check_share(self.alpha)
        if not 0 <= self.full < 1:
            raise ConfigError(f"full={self.full}: give the share of the steps that use all negatives, in [0, 1).")


@method(
    "loss-behaviour",
    title="Hard contrastive losses and their temperature",
    paper="arXiv 2012.09740",
    year=2021,
    modalities=("text", "image"),
    needs=("texts", "items"),
)
class LossBehaviour(Method):
    """Two views of every item; the other items of the batch are negatives: all, or only each anchor's hardest."""

    Config = Config

    steps: Tensor

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        self.scale = LogitScale(c.temperature)
        self.head = Projector(encoder.dim, (c.hidden,), c.out, norm=c.norm) if c.out else torch.nn.Identity()
        self.register_buffer("steps", torch.zeros(2, dtype=torch.long))  # taken; with all negatives

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        if isinstance(self.encoder, ImageEncoder):
            return two_views(self.encoder, rows, rng, self.config.augment)
        data = self.encoder.collate([r["text"] for r in rows])
        views = (View(data, self.encoder.modality, role) for role in ("anchor", "positive"))
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))

    def before_training(self, steps: int) -> None:
        self.steps[1] = int(self.config.full * steps)

    def after_step(self, step: int) -> None:
        self.steps[0] = step

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        z, other = (
            F.normalize(self.head(self.embed(self.encoder, batch.one(role))), dim=-1) for role in ("anchor", "positive")
        )
        scale = self.scale()
        self.observe(anchor=z, positive=other, scale=scale)
        return {self.config.loss: (self._loss(z, other, scale) + self._loss(other, z, scale)) / 2}

    def _loss(self, z: Tensor, other: Tensor, scale: Tensor) -> Tensor:
        c = self.config
        alpha = c.alpha if c.loss.startswith("hard") and self.steps[0] >= self.steps[1] else 1.0
        if c.loss.endswith("simple"):
            return simple_contrast(z, other, weight=c.weight, alpha=alpha)
        return contrast(z, other, Diagonal() & HardQuantile(alpha) if alpha < 1 else Diagonal(), scale=scale)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder={"image": ConvNetConfig.resnet18(), "text": TextTransformerConfig()},
                train=TrainConfig(
                    batch=4096, epochs=200, optimizer="sgd", lr=0.03, momentum=0.9, weight_decay=5e-4, warmup=0.0
                ),
            )
        small = size == "small"
        return Recipe(
            config=Config(hidden=256 if small else 64, out=64 if small else 32),
            encoder={
                "image": ConvNetConfig()
                if small
                else ConvNetConfig(size=16, stem_width=16, widths=(16, 32), depths=(1, 1)),
                # The two views of a text differ by what dropout leaves out.
                "text": StaticTextConfig(dim=256 if small else 64, token_dropout=0.3),
            },
            train=TrainConfig(batch=256 if small else 32, epochs=20 if small else 1, lr=2e-3, weight_decay=1e-4),
        )
