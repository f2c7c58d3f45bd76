"""Contriever: unsupervised dense retrieval by contrasting random crops.

Izacard et al. 2021, "Unsupervised Dense Information Retrieval with Contrastive Learning", arXiv 2112.09118 (TMLR 2022).

For whoever has a pile of documents, no queries and no labels, and wants a vector search that stands beside BM25. Two
crops of one document are drawn independently (they may overlap), every token of each is deleted with a small
probability; the encoder's crop must find the momentum encoder's crop of the same document among a long queue of earlier
ones.

    L_i = -log( exp(scale q_i·k_i) / (exp(scale q_i·k_i) + Σ_{k in queue} exp(scale q_i·k)) ),   scale = 1 / temperature
    key encoder <- momentum · key encoder + (1 - momentum) · encoder, once per step

Only q carries a gradient; other rows of the same batch are no negatives, they join the queue after the step.
`negatives="in-batch"` is the paper's other variant: keys of the batch, with gradient, by the one encoder.

Published: BERT-base, mean pooling, products of raw (not unit) vectors, chunks of 256 tokens, crops of 5-50 %, deletion
0.1, temperature 0.05, queue 131,072, momentum 0.9995, batch 2,048, AdamW 5e-5 (0.9, 0.98), 20k warm-up, 500k steps.
The released code encodes keys *with* dropout (its switch tests the wrong flag); `key_dropout` keeps that default,
because every published number was measured so.
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
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.memory.pending import Pending
from counterpoint.memory.queue import Queue
from counterpoint.memory.teacher import Teacher
from counterpoint.methods import recipes
from counterpoint.methods.base import LONG, Method, Recipe, Usual, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, OnlyOwn
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig
from counterpoint.views.text import delete_tokens, independent_crops


@dataclass(frozen=True, kw_only=True)
class Config:
    """chunk: tokens of the window the crops are drawn from. crop: least and largest share of it. delete: probability
    per token. negatives: queue (momentum encoder) or in-batch. normalize: compare unit vectors. temperature: of the
    loss. key_dropout: of the momentum encoder."""

    chunk: int = 256
    crop: tuple[float, float] = (0.05, 0.5)
    delete: float = 0.1
    temperature: float = 0.05
    negatives: str = "queue"
    queue: int = 131_072
    momentum: float = 0.9995
    key_dropout: bool = True
    normalize: bool = False

    def __post_init__(self) -> None:
        if self.negatives not in ("queue", "in-batch"):
            raise ConfigError(f"negatives={self.negatives!r}: type negatives=queue or negatives=in-batch.")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ConfigError(f"crop={self.crop}: give two shares with 0 < least <= largest <= 1, e.g. 0.05 0.5.")
        if self.momentum == 1:
            raise ConfigError("momentum=1: the keys would never learn. The paper uses 0.9995.")


@method(
    "contriever",
    title="Contriever: unsupervised dense retrieval by contrasting random crops",
    paper="arXiv 2112.09118",
    year=2021,
    modalities=("text",),
    needs=("texts",),
    usual=(
        Usual(
            "texts",
            least=LONG,
            because="They are long (median {words:.0f} words), so crops of a text are contrasted.",
        ),
    ),
)
class Contriever(Method):
    """Two independent crops of a document find each other among a queue of earlier ones."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)
        encoder.normalize = self.config.normalize
        if self.config.negatives == "queue":
            self.teacher = Teacher(encoder, momentum=self.config.momentum, dropout=self.config.key_dropout)
            self.queue = Queue(self.config.queue, encoder.dim)
        self._pending = Pending[Tensor]()

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        crops: dict[str, list[list[int]]] = {"anchor": [], "positive": []}
        for document in self.encoder.ids([r["text"] for r in rows]):
            start = int(rng.integers(max(1, len(document) - self.config.chunk + 1)))
            chunk = document[start : start + self.config.chunk]
            for role, crop in zip(crops, independent_crops(chunk, rng, ratio=self.config.crop)):
                crops[role].append(delete_tokens(crop, rng, p=self.config.delete))
        views = (View(self.encoder.collate_ids(c), self.encoder.modality, role) for role, c in crops.items())
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))

    def _unit(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=-1) if self.config.normalize else z

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        query = self._unit(self.embed(self.encoder, batch.one("anchor")))
        scale = self.scale()
        if self.config.negatives == "in-batch":
            key = self._unit(self.embed(self.encoder, batch.one("positive")))
            loss = contrast(query, key, Diagonal(), scale=scale)
        else:
            with torch.no_grad():
                key = self._unit(self.embed(self.teacher, batch.one("positive")))
            self._pending.put(batch, key)
            queue = self.queue.snapshot()
            loss = contrast(query, key, Diagonal() & OnlyOwn(), scale=scale, extra=queue, shared=True)
        self.observe(anchor=F.normalize(query, dim=-1), positive=F.normalize(key, dim=-1), scale=scale)
        return {"contrast": loss}

    def after_step(self, step: int) -> None:
        if self.config.negatives == "queue":
            for _, keys in self._pending.take():
                self.queue.push(keys)
            self.teacher.update(self.encoder)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(pooling="mean", max_length=256),
                train=TrainConfig(
                    batch=2048,
                    steps=500_000,
                    lr=5e-5,
                    betas=(0.9, 0.98),
                    eps=1e-6,
                    warmup=20_000,
                    schedule="linear",
                ),
            )
        config = Config(queue=8_192 if size == "small" else 256, momentum=0.99, normalize=True, crop=(0.1, 0.5))
        return recipes.static_text(size, config, batch=256, epochs=5)
