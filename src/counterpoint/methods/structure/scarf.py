"""SCARF: a row of a table and the same row with many of its cells from other rows find each other.

Bahri, Jiang, Tay & Metzler 2022, "SCARF: Self-Supervised Contrastive Learning using Random Feature Corruption",
arXiv 2106.15147.

For whoever has a table and few labels or none, perhaps with cells missing. Of every row a share of the cells, drawn
anew each time, is replaced by what the same column holds in rows drawn at random: the empirical marginal distribution
of the column, here of the batch. The corrupted row must find the row it was made of among the batch.

    x~_ic = x_jc for c in a random set of columns, j random;   z = unit(g(f(x))),  z~ = unit(g(f(x~)))
    L = -1/N Σ_i log( exp(scale z_i·z~_i) / Σ_k exp(scale z_i·z~_k) )

Published: f and g perceptrons of 4 and 2 layers, width 256, on one-hot and standardised columns; 60 % of the cells
corrupted, temperature 1, batch 128, Adam at 1e-3, early stopping. Here f is a transformer over cells, which knows which
of them are missing: a missing cell stays missing, and no missing one is put in.
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
from counterpoint.encoders.table import TableTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.train.config import TrainConfig
from counterpoint.views.table import corrupt_cells


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the softmax. corrupt: share of the cells that come from other rows. projection: width of the
    training head."""

    temperature: float = 1.0
    corrupt: float = 0.6
    projection: int = 256

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.corrupt <= 1):
            raise ConfigError(
                f"temperature={self.temperature}, corrupt={self.corrupt}: expected a temperature above 0, and a share "
                "of the cells above 0, at most 1."
            )


@method(
    "scarf",
    title="SCARF: contrast with randomly corrupted table rows",
    paper="arXiv 2106.15147",
    year=2022,
    modalities=("table",),
    needs=("items",),
    usual=("items",),
)
class SCARF(Method):
    """A row and its corrupted copy find each other."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.head = Projector(encoder.dim, (encoder.dim,), self.config.projection, norm=None)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        cells = self.encoder.collate([r["table"] for r in rows])
        assert not isinstance(cells, Tensor)
        other = corrupt_cells(dict(cells), rng, rate=self.config.corrupt)
        views = (View(cells, "table", "anchor"), View(other, "table", "positive"))
        return Batch(views, torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        z, other = (
            F.normalize(self.head(self.embed(self.encoder, batch.one(role))), dim=-1) for role in ("anchor", "positive")
        )
        self.observe(anchor=z, positive=other)
        return {"contrast": contrast(z, other, Diagonal(), scale=1 / self.config.temperature)}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TableTransformerConfig(dim=256),
                train=TrainConfig(batch=128, epochs=1000, optimizer="adam", lr=1e-3, weight_decay=0.0),
            )
        small = size == "small"
        return Recipe(
            # At temperature 1 a small batch hardly repels.
            config=Config(temperature=0.2, projection=64 if small else 16),
            encoder=TableTransformerConfig(dim=64 if small else 16, layers=2, heads=4),
            train=TrainConfig(batch=256 if small else 32, epochs=30 if small else 1, lr=1e-3),
        )
