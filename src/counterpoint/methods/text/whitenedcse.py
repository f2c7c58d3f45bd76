"""WhitenedCSE: SimCSE with several positives, each whitened in its own random groups of channels.

Zhuo et al. 2023, "WhitenedCSE: Whitening-based Contrastive Learning of Sentence Embeddings", ACL 2023, arXiv
2305.17746.

For whoever has single sentences, no labels, and a SimCSE-like encoder whose space is badly spread. Every sentence is
encoded once per view with dropout of its own; each view of the batch is whitened in groups of channels, which a
permutation of its own makes up; what whitening does differently is what the positives differ by. Whitening and the head
on top of it are for training alone: afterwards the encoder's own embedding counts.

    x^v = P_v⁻¹ W_v P_v (h^v - mean h^v),   W_v block-diagonal: (S_g + eps I)^(-1/2) of each of the groups, no gradient
    z^v = tanh(A x^v + b) / |...|
    L = Σ_{v=1..positives} -(1/N) Σ_i log( exp(scale z^0_i·z^v_i) / Σ_j exp(scale z^0_i·z^v_j) )

Published: BERT-base, [CLS], 128 groups of 6 channels, two positives, temperature 0.05, batch 128, lr 1e-5, one epoch of
10^6 Wikipedia sentences of at most 32 tokens; 78.8 on seven STS sets, SimCSE 76.3.

The released code means one permutation per view, but cuts rows that lie view beside view into equal blocks of
sentences: a sentence's views share one, and the blocks are whitened apart. Here ``shuffle="views"`` is what is meant,
``"blocks"`` what is released, ``"none"`` leaves the channels where they are. ``eps``, and sentences that stand twice in
a batch being no negatives of each other, are ours. The statistics are those of the whole batch, over all processes and
whatever the encoder's passes are (``micro_batch``); with ``accumulate`` those of each batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods import recipes
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import number
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, NotSame
from counterpoint.objectives.reduce import batch_size
from counterpoint.objectives.scale import LogitScale
from counterpoint.objectives.whiten import groups_for, shared_permutation, shuffled_whiten
from counterpoint.processes import rank, sizes, starts
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """positives: views of a sentence beside the anchor. whiten: off, it is SimCSE with several positives. groups: of
    channels (0: as few as the batch allows). shuffle: views, blocks or none, see above. eps: added to the variances.
    through_statistics: let the gradient flow through the whitening matrix. head: the one-layer head for training.
    temperature: of the loss."""

    temperature: float = 0.05
    positives: int = 2
    whiten: bool = True
    groups: int = 0
    shuffle: Literal["views", "blocks", "none"] = "views"
    eps: float = 1e-5
    through_statistics: bool = False
    head: bool = True

    def __post_init__(self) -> None:
        if self.positives < 1:
            raise ConfigError(f"positives={self.positives}: a sentence needs at least one view to be found by.")
        if self.shuffle not in ("views", "blocks", "none"):
            raise ConfigError(f"shuffle={self.shuffle!r}: type shuffle=views, shuffle=blocks or shuffle=none.")
        if self.groups < 0 or self.eps < 0:
            raise ConfigError(f"groups={self.groups}, eps={self.eps}: neither can be negative; groups=0 chooses.")


@method(
    "whitenedcse",
    title="WhitenedCSE: contrastive sentence embeddings with shuffled group whitening",
    paper="arXiv 2305.17746",
    year=2023,
    modalities=("text",),
    needs=("texts",),
)
class WhitenedCSE(Method):
    """Dropout draws of a sentence, each whitened in other groups of channels, find each other among the batch."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)
        dim, groups = encoder.dim, self.config.groups
        if groups and dim % groups:
            raise ConfigError(
                f"The encoder's {dim} channels cannot be cut into {groups} equal groups. Give a divisor of {dim}, or "
                "let the batch decide: --set groups=0."
            )
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if self.config.head else nn.Identity()
        self._looked = False

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Label ``text`` ``(N,)``: a number for each text, the same for equal ones, in every process."""
        data, stream = self.encoder.collate([r["text"] for r in rows]), self.encoder.modality
        views = (View(data, stream, role) for role in ("anchor", *["positive"] * self.config.positives))
        same = torch.tensor([number(str(r["text"])) for r in rows], dtype=torch.long)
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]), {"text": same})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        hidden = [self.embed(self.encoder, v) for v in (batch.one("anchor"), *batch.all("positive"))]
        white = self.whitened(hidden) if self.config.whiten else hidden
        anchor, *positives = (F.normalize(self.head(x), dim=-1) for x in white)
        scale = self.scale()
        self.observe(anchor=anchor, positive=positives[0], scale=scale)
        pairing = Diagonal() & NotSame(batch.labels["text"])
        return {"contrast": torch.stack([contrast(anchor, p, pairing, scale=scale) for p in positives]).sum()}

    def whitened(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Every view ``(N, D)`` of the batch in white groups. Raises `DataError` where the batch is one row. views: one
        after another."""
        c = self.config
        if c.shuffle != "blocks":
            return [self._white(h) for h in views]
        # As released: sentence 0 with all its views, sentence 1 with all of its, ..., cut into as many blocks as views,
        # each of as many rows as there are sentences, over all processes.
        stacked = torch.stack(list(views), 1)
        n, counts = stacked.shape[1], sizes(len(stacked), stacked.device)
        first, rows = n * starts(counts)[rank()], stacked.flatten(0, 1)
        ends = [min(max(sum(counts) * block - first, 0), len(rows)) for block in range(n + 1)]
        blocks = [rows[start:end] for start, end in pairwise(ends)]
        return list(torch.cat([self._white(h) for h in blocks]).unflatten(0, stacked.shape[:2]).unbind(1))

    def _white(self, h: Tensor) -> Tensor:
        c, dim = self.config, h.shape[1]
        groups = c.groups
        if not groups or (self.training and not self._looked):  # on a GPU the number of rows has to be waited for
            n = int(batch_size(h))
            groups = groups or groups_for(dim, n)
            if n * groups < 2 * dim and c.eps and not self._looked:
                warnings.warn(
                    f"{n} rows say little of the covariance of {dim // groups} channels; eps={c.eps:g} keeps it from "
                    f"being singular. Use a batch of at least {2 * dim // groups}, or --set groups=0.",
                    stacklevel=5,
                )
            self._looked = True
        order = torch.arange(dim, device=h.device) if c.shuffle == "none" else shared_permutation(dim, device=h.device)
        return shuffled_whiten(h, order, groups=groups, eps=c.eps, through_statistics=c.through_statistics)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(groups=128),
                encoder=TextTransformerConfig(layers=12, width=768, pooling="cls", max_length=32),
                train=TrainConfig(batch=128, epochs=1, lr=1e-5, warmup=0.0, schedule="linear"),
            )
        config = Config(groups=64 if size == "small" else 16, head=False)
        return recipes.static_text(size, config, batch=512, token_dropout=0.3)


def _number(text: Any) -> int:
    digest = blake2b(str(text).strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
