"""MultiCSR: sentence pairs that a language model wrote, refined three times.

Wang et al. 2024, "Large Language Models can Contrastively Refine their Generation for Better Sentence Representation
Learning", NAACL 2024, arXiv 2310.10962.

For whoever has sentences without labels and any language model that follows instructions, even a weak one. It writes a
positive and a negative of each sentence, against the opposite instruction where its probabilities can be seen; it
scores its own writing, and what does not hold is dropped or turned round. These two stages are `counterpoint refine`,
whose file of triplets this method learns from; the third is here: negatives that a frozen guide g finds almost the same
as the anchor are none.

    l_ij = scale f(x_i)·f(c_j),  c = all positives, then all negatives;   kept_ij = g(x_i)·g(c_j) <= phi, or j = i
    L_i = -log( exp(l_ii) / Σ_{j kept} exp(l_ij) ),   f, g of unit length, scale = 1 / temperature

The released code multiplies masked logits by 0 instead, which leaves them in the sum with weight 1, takes binary
cross-entropy over all entries, and runs g with dropout and inside the optimiser; what is here is what the paper says.
f carries a one-layer tanh head in training only. `guide` is a model folder, in the paper unsupervised SimCSE of the
same backbone; without one, the encoder as it was at the beginning.

Published settings: BERT-base, [CLS], Flan-T5-XL or ChatGPT as generator, lines at 3 of 5, temperature 0.05, phi 0.95,
batch 128, lr 5e-5, 3 epochs, 32 tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders import folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.memory.teacher import Teacher
from counterpoint.methods import batches, recipes
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, FalseNegatives
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig

MANY = 0.2
"""Share of masked negatives above which the guide is taken to find everything alike."""
LOOKED = 512
"""Most anchors, and most candidates, that this share is measured on."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """phi: cosine by the guide above which a negative is none; 1: no mask, and no guide. guide: a model folder (none:
    the encoder as it was at the beginning). head: the one-layer head of the paper, in training only. temperature: of
    the loss."""

    temperature: float = 0.05
    phi: float = 0.95
    guide: str = ""
    head: bool = True

    def __post_init__(self) -> None:
        if not -1 <= self.phi <= 1:
            raise ConfigError(f"phi={self.phi}: a cosine, above which a negative is none; 1 masks nothing.")
        if self.guide and self.phi == 1:
            raise ConfigError("phi=1 masks nothing, so the guide would have no effect. Leave guide out, or lower phi.")


@method(
    "multicsr",
    title="MultiCSR: triplets written and refined by a language model",
    paper="arXiv 2310.10962",
    year=2024,
    modalities=("text",),
    needs=("pairs",),
)
class MultiCSR(Method):
    """Anchor finds positive among all positives and negatives that a frozen guide does not find the same."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None, *, guide: Encoder | None = None) -> None:
        """guide: what stands for the folder that the configuration names."""
        super().__init__(encoder, config)
        dim = encoder.dim
        self.scale = LogitScale(self.config.temperature)
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if self.config.head else nn.Identity()
        self.guide: Teacher | None = None
        if self.config.phi < 1:
            frozen = guide or (folder.load(self.config.guide) if self.config.guide else encoder)
            self.guide = Teacher(frozen, momentum=1.0, dropout=False)
        self._told = False

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        batch = batches.pairs(self.encoder, rows)
        if self.guide is None:
            return batch
        # The guide has a vocabulary of its own.
        others = batches.pairs(self.guide.model, rows)
        guided = (replace(view, role=f"guide {view.role}") for view in others.views)
        return Batch((*batch.views, *guided), batch.rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        views = [batch.one("anchor"), batch.one("positive"), *batch.all("negative")]
        found = self.embed_each(self.encoder, views)
        anchor, positive, *negatives = (F.normalize(self.head(z), dim=-1) for z in found)
        pairing = Diagonal() if self.guide is None else Diagonal() & self.mask(batch)
        scale = self.scale()
        self.observe(anchor=anchor, positive=positive, scale=scale)
        extra = torch.cat(negatives) if negatives else None
        return {"contrast": contrast(anchor, positive, pairing, scale=scale, extra=extra)}

    def mask(self, batch: Batch) -> FalseNegatives:
        """The rule that takes out what the guide finds more alike than phi; the own positive always stays. batch: as
        `views` made it."""
        assert self.guide is not None
        with torch.no_grad():
            views = [v for role in ("anchor", "positive", "negative") for v in batch.all(f"guide {role}")]
            anchor, *others = (F.normalize(z, dim=-1) for z in self.embed_each(self.guide.model, views))
        candidates = torch.cat(others)
        self._look(anchor, candidates)
        return FalseNegatives(anchor, candidates, threshold=anchor.new_full((len(anchor),), self.config.phi))

    def _look(self, anchor: Tensor, candidates: Tensor) -> None:
        """Warn, once, where the guide takes out so much that little is left to tell apart."""
        if self._told or len(candidates) < 2:
            return
        above = anchor[:LOOKED] @ candidates[:LOOKED].T > self.config.phi
        above.fill_diagonal_(False)  # own positives
        if (share := above.sum().item() / (above.numel() - min(above.shape))) > MANY:
            self._told = True
            warnings.warn(
                f"The guide finds {share:.0%} of the negatives more alike than phi={self.config.phi:g}, so they are "
                "masked and hardly anything is left to learn. Raise phi, or name a guide that tells texts apart "
                "(--set guide=FOLDER).",
                stacklevel=4,
            )

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, pooling="cls", max_length=32),
                train=TrainConfig(batch=128, epochs=3, lr=5e-5, warmup=0.0, schedule="linear"),
            )
        return recipes.static_text(size, Config(head=False), batch=128, epochs=3)
