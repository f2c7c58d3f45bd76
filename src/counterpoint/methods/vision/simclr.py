"""SimCLR: two views of an item find each other among all views of the batch.

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", arXiv 2002.05709.

For whoever has unlabelled items of which two views can be drawn; made for images, where it is the baseline that other
methods are held against. Each item enters as two random views; a view's positive is the other view of its item, its
negatives are the 2N - 2 views of the other items.

    L_i = -log( exp(scale z_i·z_p(i)) / Σ_{a ≠ i} exp(scale z_i·z_a) ),   scale = 1 / temperature, |z| = 1

Published: ResNet-50, projector 2048 -> 2048 -> 128 with batch norm, dropped after training, temperature 0.1
(0.5 for CIFAR), batch 4,096, LARS 0.3 · batch / 256 with 10 epochs of warm-up and cosine decay, weight decay
1e-6, 100 epochs (1,000 for the best figures), crops of 8-100 % of the area, full strength of colour, blur.
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
from counterpoint.methods import batches
from counterpoint.methods.base import Method, Recipe, Usual, method
from counterpoint.objectives import pairing
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig
from counterpoint.views.base import two_views
from counterpoint.views.image import SimCLRViews


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the softmax. hidden, out: widths of the projector. norm: of its hidden layer (None
    allows gradient caching, together with group norm in the encoder). augment, source: of images, see
    `counterpoint.methods.batches.two_views`; other modalities have views of their own.
    """

    temperature: float = 0.5
    hidden: int = 512
    out: int = 128
    norm: Literal["batch", "layer"] | None = "batch"
    augment: SimCLRViews = field(default_factory=SimCLRViews)
    source: int = 0


@method(
    "simclr",
    title="SimCLR: two views of an item find each other",
    paper="arXiv 2002.05709",
    year=2020,
    modalities=("image", "every with views"),
    needs=("items",),
    usual=(Usual("items", otherwise=True),),
)
class SimCLR(Method):
    """Each view's positive is the other view of its item; all other views of the batch are negatives."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        self.scale = LogitScale(c.temperature)
        self.projector = Projector(encoder.dim, (c.hidden,), c.out, norm=c.norm)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        if isinstance(self.encoder, ImageEncoder):
            return batches.two_views(self.encoder, rows, rng, self.config.augment, source=self.config.source)
        stream = self.encoder.modality
        pair = two_views(stream)([r[stream] for r in rows], rng, self.encoder.collate)
        views = tuple(View(data, stream, role) for data, role in zip(pair, ("anchor", "positive")))
        return Batch(views, torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        pair = [batch.one(role) for role in ("anchor", "positive")]
        z1, z2 = (F.normalize(self.projector(self.embed(self.encoder, v)), dim=-1) for v in pair)
        scale, z = self.scale(), torch.cat((z1, z2))
        self.observe(anchor=z1, positive=z2, scale=scale)
        return {"contrast": contrast(z, z, pairing.views(len(z1), device=z.device), scale=scale)}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(temperature=0.1, hidden=2048, augment=SimCLRViews.stl(), source=256),
                encoder=ConvNetConfig.resnet50(224),
                train=TrainConfig(
                    batch=4096,
                    epochs=100,
                    optimizer="lars",
                    lr=0.3 * 4096 / 256,
                    weight_decay=1e-6,
                    warmup=0.1,
                ),
            )
        small = size == "small"
        return Recipe(
            config=Config(hidden=256 if small else 64, out=64 if small else 32),
            encoder=ConvNetConfig() if small else ConvNetConfig(size=16, stem_width=16, widths=(16, 32), depths=(1, 1)),
            train=TrainConfig(batch=256 if small else 32, epochs=20 if small else 1, lr=2e-3, weight_decay=1e-4),
        )
