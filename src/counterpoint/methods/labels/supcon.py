"""Supervised contrast: everything of one class is a positive.

Khosla et al. 2020, "Supervised Contrastive Learning", arXiv 2004.11362 (the form with the sum outside the logarithm).

For whoever has items of any modality with labels and wants an embedding in which classes are tight and apart. Each
item enters with two views; every other view of the same class is a positive, every view of another class a negative.

    L_i = -1/|P(i)| · Σ_{p in P(i)} log( exp(scale z_i·z_p) / Σ_{a ≠ i} exp(scale z_i·z_a) )

Published: ResNet-50, projector 2048 -> 2048 -> 128 dropped after training, temperature 0.1 (0.07 in the released code),
batch 6,144, LARS or SGD with cosine decay, 700 epochs of ImageNet with AutoAugment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projector
from counterpoint.encoders.image import ConvNetConfig
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Labels, NotSelf
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig
from counterpoint.views.base import two_views


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the softmax. projection: width of the training head's output (0: no head)."""

    temperature: float = 0.1
    projection: int = 128


@method(
    "supcon",
    title="Supervised contrastive learning",
    paper="arXiv 2004.11362",
    year=2020,
    modalities=("text", "image", "every"),
    needs=("labelled",),
    usual=("labelled",),
)
class SupCon(Method):
    """Two views of every item; all views of a class are positives of one another."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)
        d = encoder.dim
        # No normalisation in the head, so that a micro-batch is the same function as the batch (gradient caching).
        self.head = (
            Projector(d, (d,), self.config.projection, norm=None) if self.config.projection else torch.nn.Identity()
        )

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        stream = self.encoder.modality
        # The two views of a text are the same: they differ by the dropout drawn in `losses`.
        pair = two_views(stream)([r[stream] for r in rows], rng, self.encoder.collate)
        views = tuple(View(d, stream, role) for d, role in zip(pair, ("anchor", "positive")))
        labels = torch.tensor([r["label"] for r in rows], dtype=torch.long)
        return Batch(views, torch.tensor([r["row"] for r in rows]), {"label": labels})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        z = [F.normalize(self.head(self.embed(self.encoder, batch.one(r))), dim=-1) for r in ("anchor", "positive")]
        both = torch.cat(z)
        label = batch.labels["label"].repeat(2)
        scale = self.scale()
        self.observe(anchor=z[0], positive=z[1], scale=scale)
        return {"contrast": contrast(both, both, Labels(label) & NotSelf(), scale=scale)}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder={"image": ConvNetConfig.resnet50(), "text": TextTransformerConfig()},
                train=TrainConfig(
                    batch=6144,
                    epochs=700,
                    optimizer="lars",
                    lr=0.5 * 6144 / 256,
                    weight_decay=1e-6,
                    warmup=0.014,
                ),
            )
        small = size == "small"
        return Recipe(
            config=Config(projection=128 if small else 32),
            encoder={
                "image": ConvNetConfig(),
                # The two views of a text differ by what dropout leaves out.
                "text": StaticTextConfig(dim=256 if small else 64, token_dropout=0.3),
            },
            train=TrainConfig(batch=256 if small else 32, epochs=20 if small else 1, lr=1e-3),
        )
