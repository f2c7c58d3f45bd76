"""SimCSE (unsupervised): a sentence is its own positive, dropout the only augmentation.

Gao, Yao, Chen 2021, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", arXiv 2104.08821.

For whoever has single sentences and no labels. Each sentence is encoded twice with independent dropout; the two vectors
must find each other among the batch. A one-layer head with tanh sits on top in training and is dropped afterwards.

    L_i = -log( exp(scale z_i·z'_i) / Σ_j exp(scale z_i·z'_j) ),   z, z' = unit(head(encoder(x))), two dropout draws

Published: BERT-base, [CLS] + head in training only, temperature 0.05, dropout 0.1, batch 64, lr 3e-5, one epoch of 10^6
Wikipedia sentences of at most 32 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.methods import recipes
from counterpoint.methods.base import LONG, Method, Recipe, Usual, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the softmax. head: the one-layer training head of the paper (off for static encoders)."""

    temperature: float = 0.05
    head: bool = True


@method(
    "simcse",
    title="SimCSE: Simple Contrastive Learning of Sentence Embeddings",
    paper="arXiv 2104.08821",
    year=2021,
    modalities=("text",),
    needs=("texts",),
    usual=(
        Usual(
            "texts",
            below=LONG,
            because="They are short (median {words:.0f} words), so whole texts are contrasted.",
        ),
    ),
)
class SimCSE(Method):
    """Two dropout draws of one sentence find each other among the batch."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)
        self.head = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh()) if self.config.head else nn.Identity()

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        data = self.encoder.collate([r["text"] for r in rows])
        stream = self.encoder.modality
        # One tokenisation, two passes: the difference between the views is the dropout drawn in `losses`.
        views = (View(data, stream, "anchor"), View(data, stream, "positive"))
        return Batch(views, torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        anchor, positive = (
            F.normalize(self.head(self.embed(self.encoder, batch.one(role))), dim=-1) for role in ("anchor", "positive")
        )
        scale = self.scale()
        self.observe(anchor=anchor, positive=positive, scale=scale)
        return {"contrast": contrast(anchor, positive, Diagonal(), scale=scale)}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(pooling="cls", max_length=32),
                train=TrainConfig(batch=64, epochs=1, lr=3e-5, warmup=0.0, schedule="linear"),
            )
        return recipes.static_text(size, Config(head=False), batch=512, token_dropout=0.3)
