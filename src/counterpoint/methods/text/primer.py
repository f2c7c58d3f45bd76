"""Primer: a text against words and class names, so that classes can be named afterwards.

Rethmeier & Augenstein 2021, "A Primer on Contrastive Pretraining in Language Processing", arXiv 2102.12982, whose
input-label objectives stand here for their simplest self-supervised one: Rethmeier & Augenstein 2020 (CLESS),
arXiv 2010.01061. The survey's other objectives: docs/taxonomy.md.

For whoever has single texts, perhaps with classes, and wants to rank classes by their names without a labelled example
(zero-shot), or to add classes later. A text's own words are its pseudo-labels: a few are drawn and taken out of it, and
the rest of the text must tell them from the words drawn from the other texts of the batch. Words, class names and texts
go through one encoder; nothing is augmented.

    z_i = unit(encoder(text i without its drawn words)),  w_j = unit(encoder(word j)),  T_ij = 1 if word j stands in i
    s_ij = z_i·w_j / temperature + bias, both learned
    binary   L_i = -Σ_{j: T_ij = 1} log σ(s_ij) - Σ_{j: T_ij = 0} log(1 - σ(s_ij))           (O1 without correction)
    ranking  L_i = -Σ_j T_ij / Σ_k T_ik · log [ exp(s_ij) / Σ_k exp(s_ik) ]                  (O4, several positives)
    crops    L_i = -log [ exp(c_i·c'_i / t) / Σ_k exp(c_i·c'_k / t) ], both directions        (O4, input with input)

Words of a batch are drawn as often as they are frequent, which is the noise. With labelled rows the class names are
further words, positive for the rows of the class. `crops` is the ablation: two crops of a text instead of words.
CLESS matches text and label by a small network over both, their product included; here a scaled cosine does, so that
one encoder serves search and ranking alike, and labels can be encoded once.

Published (CLESS): a convolutional text encoder and a label encoder over shared word embeddings, trained from scratch on
small data; 3 to 5 words as positives, 10 to 100 negatives. (These numbers are not certain.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View, padded
from counterpoint.data.classes import as_texts
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods import recipes
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import number, places
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Soft
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import gathered, rank, sizes, starts, world
from counterpoint.search.terms import words
from counterpoint.train.config import TrainConfig
from counterpoint.views.text import crop_words

WORDLESS = "None of these texts has a word. Drop rows without words first."


@dataclass(frozen=True, kw_only=True)
class Config:
    """loss: binary, ranking, or crops (see above). drawn: words taken out of each text. temperature, bias: at the
    start; the bias (binary only) stands for how rare a positive is. crop: least and largest share of a crop.

    labels: names of the classes; `fit` takes them from the rows.
    """

    loss: Literal["binary", "ranking", "crops"] = "binary"
    drawn: int = 3
    temperature: float = 0.1
    bias: float = -5.0
    crop: tuple[float, float] = (0.3, 0.8)
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.loss not in ("binary", "ranking", "crops"):
            raise ConfigError(f"loss={self.loss!r}: type binary, ranking or crops.")
        if self.drawn < 1:
            raise ConfigError(f"drawn={self.drawn}: at least one word of each text must be drawn. Try 3.")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ConfigError(f"crop={self.crop}: give two shares with 0 < least <= largest <= 1, e.g. 0.3 0.8.")


@method(
    "primer",
    title="Primer: texts against words and class names",
    paper="arXiv 2102.12982",
    year=2021,
    modalities=("text",),
    needs=("texts", "labelled"),
)
class Primer(Method):
    """A text without some of its words finds them among the words of the batch."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        self.scale = LogitScale(c.temperature, learnable=True)
        self.bias = nn.Parameter(torch.tensor(float(c.bias))) if c.loss == "binary" else None
        self.names = as_texts(c.labels)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Views ``anchor``, the texts, and ``label``, the candidates, each owned by the first row that drew it. Labels:
        numbers for what is said, filled up with 0; ``held`` ``(N, L)`` of the words that stand in a text and of its
        class, ``owned`` ``(N, W)`` of the candidates of a row in their order."""
        texts, at = [r["text"] for r in rows], torch.tensor([r["row"] for r in rows])
        stream = self.encoder.modality
        if self.config.loss == "crops":
            crops = [[crop_words(t, rng, ratio=self.config.crop) if t.strip() else t for t in texts] for _ in range(2)]
            pair = (View(self.encoder.collate(c), stream, r) for c, r in zip(crops, ("anchor", "positive")))
            return Batch(tuple(pair), at)
        held = [words(t) for t in texts]
        drawn = [draw(h, rng, self.config.drawn) for h in held]
        seen = [" ".join(w for w in h if w not in out) for h, out in zip(held, drawn)]
        owner = {w: i for i, out in reversed(list(enumerate(drawn))) for w in out}
        pool, owners = list(owner), list(owner.values())
        known = {w: number(w) for w in {w for h in held for w in h}}
        said, owned = [[known[w] for w in dict.fromkeys(h)] for h in held], [list[int]() for _ in rows]
        for w, row in owner.items():
            owned[row].append(known[w])
        labels = [r["label"] for r in rows] if self.names and rows and "label" in rows[0] else []
        for row, label in enumerate(labels):
            said[row].append(number(f"class {self.names[label]}"))
        for label in dict.fromkeys(labels):
            pool.append(self.names[label])
            owners.append(labels.index(label))
            owned[owners[-1]].append(number(f"class {self.names[label]}"))
        if not pool and world() == 1:
            raise DataError(WORDLESS)
        views = (
            View(self.encoder.collate(seen), stream, "anchor"),
            View(self.encoder.collate(pool), stream, "label", owner=torch.tensor(owners, dtype=torch.long)),
        )
        return Batch(views, at, {"held": padded(said), "owned": padded(owned)})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        z, scale = F.normalize(self.embed(self.encoder, batch.one("anchor")), dim=-1), self.scale()
        if self.config.loss == "crops":
            other = F.normalize(self.embed(self.encoder, batch.one("positive")), dim=-1)
            self.observe(anchor=z, positive=other, scale=scale)
            return {"crops": contrast(z, other, scale=scale, both=True)}
        kept, targets, first = compared(batch)
        w = F.normalize(self.embed(self.encoder, batch.one("label")), dim=-1)[kept]
        own = targets[:, first : first + len(w)]
        some = own.any(1)
        self.observe(anchor=z[some], positive=w[F.pad(own[some], (0, 1)).argmax(1)], scale=scale)
        if self.bias is None:
            return {"ranking": contrast(z, w, Soft(targets, normalise=True, first=first), scale=scale)}
        pairing = Soft(targets, first=first)
        return {"binary": contrast(z, w, pairing, scale=scale, bias=self.bias, form="sigmoid")}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(),
                train=TrainConfig(batch=1024, epochs=30, lr=1e-3, weight_decay=0.0),
            )
        return recipes.static_text(size, Config(), batch=256, epochs=10)


def compared(batch: Batch) -> tuple[Tensor, Tensor, int]:
    """Which words of a batch are candidates, ``(W,)`` bool, as of those that several processes drew the first counts;
    the targets ``(N, candidates of all processes)`` of its texts; and where its own candidates begin among them."""
    owner, held = batch.one("label").owner, batch.labels["held"]
    assert owner is not None
    own = batch.labels["owned"][owner, places(owner)]
    counts = sizes(len(own), own.device)
    every, start = gathered(own, counts), starts(counts)[rank()]
    if not len(every):
        raise DataError(WORDLESS)
    order = every.argsort(stable=True)
    again = torch.zeros_like(every, dtype=torch.bool)
    again[order[1:]] = every[order[1:]] == every[order[:-1]]
    candidates, place = every[~again].sort()
    at = torch.searchsorted(candidates, held).clamp_max(len(candidates) - 1)
    row, word = ((candidates[at] == held) & (held != 0)).nonzero(as_tuple=True)
    targets = torch.zeros(len(held), len(candidates), device=held.device)
    targets[row, place[at[row, word]]] = 1
    return ~again[start : start + len(own)], targets, int((~again[:start]).sum())


def draw(held: Sequence[str], rng: np.random.Generator, n: int) -> list[str]:
    """At most n distinct words, and of a short text at most half of them, so that something is left to read.

    held: the words of a text. rng: of the draw."""
    distinct = list(dict.fromkeys(held))
    n = min(n, max(1, len(distinct) // 2)) if distinct else 0
    return [distinct[i] for i in rng.choice(len(distinct), n, replace=False)]
