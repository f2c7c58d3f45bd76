"""Graded similarity: pairs with scores, learned by their order (CoSENT) or their angle (AnglE).

Su 2022, "CoSENT" (https://kexue.fm/archives/8847); Li & Li 2023, "AnglE-optimized Text Embeddings", arXiv 2309.12871.

For whoever has pairs of texts with a similarity score of any unit. Whenever pair i has a higher score than pair j, its
cosine must be the higher one; only the order of the scores is used, so their scale does not matter.

    L = log(1 + Σ_{score_i > score_j} exp(scale (cos_j - cos_i)))

Published: scale 20, BERT-base, lr 2e-5, batch 32 (CoSENT); angle term with the same form on complex angles (AnglE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.methods import batches, recipes
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.rank import angle, cosent
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """scale: of the differences. angle: weight of the AnglE term beside CoSENT (0: off)."""

    scale: float = 20.0
    angle: float = 0.0


@method(
    "graded",
    title="Graded similarity by order (CoSENT, AnglE)",
    paper="arXiv 2309.12871",
    year=2022,
    modalities=("text",),
    needs=("scored",),
    usual=("scored",),
)
class Graded(Method):
    """The order of the cosines must be the order of the scores."""

    Config = Config

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        return batches.scored(self.encoder, rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        a, b = (self.embed(self.encoder, batch.one(role)) for role in ("anchor", "positive"))
        score = batch.labels["score"]
        self.observe(anchor=F.normalize(a, dim=-1), positive=F.normalize(b, dim=-1))
        losses = {"order": cosent(a, b, score, scale=self.config.scale)}
        if self.config.angle:
            losses["angle"] = self.config.angle * angle(a, b, score, scale=self.config.scale)
        return losses

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(),
                train=TrainConfig(batch=32, epochs=5, lr=2e-5, warmup=0.1, schedule="linear"),
            )
        return recipes.static_text(size, Config(), batch=64, epochs=5)
