"""In-batch ranking: the positives of the other rows are the negatives.

Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", arXiv 1705.00652 (there: one
direction, dot products); normalised and with a temperature as in today's sentence encoders.

For whoever has pairs that belong together: question and answer, title and text, docstring and code. Row i's anchor must
find its positive among the positives, and the explicit hard negatives, of the whole batch; `both` lets each positive
find its anchor as well. The larger the batch, the harder the task.

    L_i = -log( exp(scale a_i·p_i) / (Σ_j exp(scale a_i·p_j) + Σ_m exp(scale a_i·n_m)) )

Settings in common use: temperature 0.05, batch 64 to 65,536, AdamW 2e-5 for a pretrained transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.methods import batches, recipes
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the softmax. learnable: learn it. both: positives find their anchors too."""

    temperature: float = 0.05
    learnable: bool = False
    both: bool = True


@method(
    "in-batch",
    title="In-batch ranking (multiple negatives ranking)",
    paper="arXiv 1705.00652",
    year=2017,
    modalities=("text",),
    needs=("pairs",),
    usual=("pairs",),
)
class InBatch(Method):
    """Anchor finds positive among all positives and hard negatives of the batch."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature, learnable=self.config.learnable)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        return batches.pairs(self.encoder, rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        views = [batch.one("anchor"), batch.one("positive"), *batch.all("negative")]
        anchor, positive, *negatives = (F.normalize(z, dim=-1) for z in self.embed_each(self.encoder, views))
        # Every row sees every hard negative: one row's hard negative is another's ordinary one.
        extra = torch.cat(negatives) if negatives else None
        scale = self.scale()
        self.observe(anchor=anchor, positive=positive, scale=scale)
        loss = contrast(anchor, positive, Diagonal(), scale=scale, both=self.config.both, extra=extra)
        return {"rank": loss}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(),
                train=TrainConfig(batch=64, epochs=1, lr=2e-5, warmup=0.1, schedule="linear"),
            )
        return recipes.static_text(size, Config(), batch=1024, epochs=3, lr=5e-3, dim=512)
