"""SC-MIL: bags are first arranged by contrast, then, more and more, told apart by a classifier.

Juyal et al. 2024, "SC-MIL: Supervised Contrastive Multiple Instance Learning for Imbalanced Classification in
Pathology", WACV 2024, arXiv 2303.13405.

For whoever has bags of instances (the patches of a slide) with one label each, some labels being rare. Attention makes
one feature of a bag; a projection of it is contrasted between the bags of a batch, a classifier reads it; the weight
moves from the one to the other over the run, so that nothing has to be frozen or trained twice.

    h = encoder(x),  a_j = softmax_j(w·(tanh(V h_j) * sigmoid(U h_j))),  b = Σ_j a_j h_j      for every bag
    z = g(b) / |g(b)|,   o = classifier(b)
    loss = β_t L_scl(z) + (1 - β_t) CE(o, y),     β_t = 1 - (t/T)²  from 1 at the first step to 0 at the last
    L_scl = mean over i of -1/|P(i)| Σ_{p in P(i)} log( exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ) )

P(i) are the bags of i's class; a bag without another of its class in the batch is left out of the mean. Settings:
``curriculum`` is the form of β_t (``parabolic``, ``linear``, ``cosine``; ``none``: always ``beta``, so that ``beta=0``
is cross-entropy alone); ``instances`` of a bag are drawn at each step (0: all); ``views=2`` draws two disjoint parts of
each bag, which then always has a positive. Published: τ = 1; the form of the curriculum, the projection of 128 and
Adam 1e-4 with 16 to 32 bags are sensible choices where the article was not at hand, not its figures.

The model that stays is an encoder of bags with its classifier: ``encode``, ``classify``, ``attend`` (what a heat map
shows) take lists of instances. Before β falls below one half its classifier has hardly been trained.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.bag_attention import BagEncoder, check
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projector
from counterpoint.encoders.image import ConvNetConfig
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.vectors import VectorConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Labels, NotSelf
from counterpoint.processes import total
from counterpoint.train.config import TrainConfig

Curriculum = Literal["parabolic", "linear", "cosine", "none"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """labels: names of the classes; `fit` takes them from the rows. temperature: τ. curriculum, beta: see above.
    projection: width of z. attention: of the attention's hidden layer. gated: its form. instances: of a bag that a step
    looks at, at most (0: all). views: parts of a bag that are contrasted, 1 or 2."""

    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    curriculum: Curriculum = "parabolic"
    beta: float = 0.5
    projection: int = 128
    attention: int = 128
    gated: bool = True
    instances: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        if self.views not in (1, 2):
            raise ConfigError(f"views={self.views}: a bag has one view, or two disjoint ones.")
        if not 0 <= self.beta <= 1:
            raise ConfigError(f"beta={self.beta}: the share of the contrast lies between 0 and 1.")


@method(
    "sc-mil",
    title="SC-MIL: supervised contrast of bags of instances",
    paper="arXiv 2303.13405",
    year=2024,
    modalities=("image", "vector", "text"),
    needs=("bags",),
    usual=("bags",),
)
class SCMIL(Method):
    """Bags of a class attract one another at first; at the end a classifier tells them apart."""

    Config = Config
    progress: Tensor

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c: Config = self.config
        if len(c.labels) < 2:
            raise ConfigError("sc-mil tells classes apart: give the names of at least two, labels=('a', 'b').")
        self.bags = BagEncoder(encoder, width=c.attention, gated=c.gated, labels=c.labels)
        # No normalisation in the head, so that a micro-batch is the same function as the batch (gradient caching).
        self.head = Projector(encoder.dim, (encoder.dim,), c.projection, norm=None)
        self.register_buffer("progress", torch.zeros(()))
        self._steps = 1

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        check([r["bag"] for r in rows])
        parts = [self._parts(len(r["bag"]), rng) for r in rows]
        stream, made = self.encoder.modality, []
        for i, role in enumerate(("anchor", "positive")[: self.config.views]):
            items = [r["bag"][j] for r, part in zip(rows, parts) for j in part[i]]
            owner = torch.tensor([n for n, part in enumerate(parts) for _ in part[i]], dtype=torch.long)
            made.append(View(self.encoder.collate(items), stream, role, owner=owner))
        labels = torch.tensor([r["label"] for r in rows], dtype=torch.long)
        return Batch(tuple(made), torch.tensor([r["row"] for r in rows]), {"label": labels})

    def _parts(self, n: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Positions of the instances of each view of a bag of n; a bag of one is all of both."""
        c, order = self.config, rng.permutation(n)
        parts = [order] if c.views == 1 or n == 1 else np.array_split(order, 2)
        parts = [part[: c.instances] if c.instances else part for part in parts]
        return parts if len(parts) == c.views else parts * 2

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        label, beta = batch.labels["label"], self.beta()
        bags = [self.pooled(view, len(batch)) for view in batch.all()]
        features, labels = torch.cat(bags), label.repeat(len(bags))
        z = F.normalize(self.head(features), dim=-1)
        assert self.bags.classifier is not None
        contrasted = contrast(z, z, Labels(labels) & NotSelf(), scale=1 / self.config.temperature)
        if len(label) > 1 and bool((label == label[0]).all()):
            warnings.warn("All bags of this batch have one label: there is nothing to tell them from.", stacklevel=2)
        # Of the whole batch, over all processes: a mean of its rows.
        count = total(features.new_tensor(float(len(features))))
        told = total(F.cross_entropy(self.bags.classifier(features), labels, reduction="sum")) / count.clamp_min(1)
        self.observe(anchor=z[: len(label)], positive=z[-len(label) :])
        return {"contrast": beta * contrasted, "classification": (1 - beta) * told}

    def pooled(self, view: View, n: int) -> Tensor:
        """Features ``(n, D)`` of the bags whose instances a view holds."""
        assert view.owner is not None
        attention: Tensor = self.bags.attention(self.embed(self.encoder, view), view.owner, n)
        return attention

    def beta(self) -> Tensor:
        """The weight of the contrast at this step of the run, ``()``: 1 at the first, 0 at the last."""
        c, t = self.config, self.progress
        match c.curriculum:
            case "parabolic":
                return 1 - t.square()
            case "linear":
                return 1 - t
            case "cosine":
                return (1 + (math.pi * t).cos()) / 2
        return torch.full_like(t, c.beta)

    def before_training(self, steps: int) -> None:
        self._steps = steps

    def after_step(self, step: int) -> None:
        self.progress.fill_(min(1.0, step / max(1, self._steps - 1)))

    def encode(self, batch: Batch) -> Tensor:
        return self.pooled(batch.views[0], len(batch))

    def towers(self) -> Mapping[str, Encoder]:
        return {self.encoder.modality: self.bags}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        encoder: dict[str, Any] = {
            "image": ConvNetConfig(),
            "vector": VectorConfig(widths=(256,), dim=128),
            "text": StaticTextConfig(token_dropout=0.3),
        }
        train = TrainConfig(batch=32, epochs=50, lr=1e-4, weight_decay=1e-4, stop_on_collapse=False)
        config = Config(instances=100)
        if size == "small":
            train, config = replace(train, epochs=20, lr=1e-3), replace(config, instances=32)
        elif size == "smoke":
            encoder = {
                "image": ConvNetConfig(size=16, stem_width=8, widths=(8, 16), depths=(1, 1)),
                "vector": VectorConfig(dim=16),
                "text": StaticTextConfig(dim=32, vocabulary=1000),
            }
            train = replace(train, batch=8, epochs=1, lr=1e-3)
            config = replace(config, projection=16, attention=16, instances=8)
        return Recipe(config=config, encoder=encoder, train=train)
