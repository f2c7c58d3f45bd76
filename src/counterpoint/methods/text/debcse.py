"""DebCSE: pairs drawn by inverse propensity, so that surface form stops deciding.

Miao et al. 2023, "DebCSE: Rethinking Unsupervised Contrastive Sentence Embedding Learning in the Debiasing
Perspective", CIKM 2023, arXiv 2309.07396.

For whoever has single sentences and no labels. Rules such as "a sentence is its own positive, all others are negatives"
teach shortcuts: same length, same words. Here a positive is a sentence that means the same as far as a frozen guide can
tell, and is drawn the likelier the *less* it looks alike; a negative means something else, and is drawn the likelier
the *more* it looks alike.

    a(x,y) = cos of the guide, in [0, 1];   b(x,y) = mean of token Jaccard and 1 - edit distance / length, in [0, 1]
    C+ = nearest by the guide, edited copies;   C- = most words in common, strangers
    relevance  r+ = 1[a >= d+] softmax(a / t_semantic) over C+,   r- = 1[a <= d-] softmax(-a / t_semantic) over C-
    propensity e+ = softmax(b / t_surface) over C+,               e- = softmax(-b / t_surface) over C-
    weights    w ∝ r / max(e, clip);   y+ ~ w+,   y- ~ w-, drawn anew each time;   C+ empty: y+ = x, another dropout
    L_i = -log( exp(scale x_i·y_i+) / (Σ_j exp(scale x_i·y_j+) + Σ_jh exp(scale x_i·y_jh-)) ),   candidates of other
          rows left out where a(x_i, .) > d-

Published is that pairs are drawn by inverse propensity, by surface and semantic similarity, and the outcome: BERT-base,
80.3 on seven STS sets (SimCSE 76.3); of the settings lr 3e-5, batch 64, length 32 are SimCSE's. No code was released:
all functions above, the candidates and their settings are our reading. d+ is a quantile of a over C+, d- over C-, since
guides differ in what they call similar. ``weights="uniform"``, ``"semantic"`` (r alone) and ``"surface"`` (1 / e alone,
ungated) are ablations; ``neighbours=0`` leaves the positives as SimCSE's, ``negatives=0`` the negatives.

The candidates are mined once, before training, in the whole corpus (`sampler`); of several processes each mines those
of its share of the rows. Without a corpus a batch is its own, with spelling as its guide. The guide is never refreshed
by what is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.propensity import draw, effective, ipw, softmax
from counterpoint.data.sampler import Sampler, Shuffled
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.data.surface import Surface
from counterpoint.encoders import folder
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.subwords import TextEncoder
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, FalseNegatives
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import alone, gathered, rank, world
from counterpoint.search.candidates import lookalikes, neighbours, products, strangers
from counterpoint.search.lsa import lsa
from counterpoint.search.ngrams import hashed_ngrams
from counterpoint.train.config import TrainConfig
from counterpoint.train.team import launched
from counterpoint.views.text import delete_tokens, repeat_tokens, shuffle_tokens

SHORT = 3
"""Tokens below which a text looks like another one wholly or not at all: no candidate, and drawn none."""
GUIDES = ("lsa", "start", "spelling")
EDITS = (delete_tokens, repeat_tokens, shuffle_tokens)


@dataclass(frozen=True, kw_only=True)
class Config:
    """guide: the frozen encoder that says what means the same: lsa (of the corpus), start (the encoder as training
    begins; for pretrained ones), spelling (n-grams of characters), or a model folder. neighbours, edits: of a sentence
    in C+. lookalikes, strangers: in C-. negatives: drawn per row. upper, lower: the quantiles that d+ and d- are.
    weights: ipw, uniform, semantic or surface. guard: leave out false negatives. length: lengths count in b as well.
    The rest as above."""

    temperature: float = 0.05
    guide: str = "lsa"
    neighbours: int = 16
    edits: int = 0
    lookalikes: int = 32
    strangers: int = 16
    negatives: int = 1
    upper: float = 0.75
    lower: float = 0.5
    t_semantic: float = 0.1
    t_surface: float = 0.2
    clip: float = 0.01
    weights: Literal["ipw", "uniform", "semantic", "surface"] = "ipw"
    guard: bool = True
    length: bool = False
    head: bool = True

    def __post_init__(self) -> None:
        if self.weights not in ("ipw", "uniform", "semantic", "surface"):
            raise ConfigError(f"weights={self.weights!r}: type ipw, uniform, semantic or surface.")
        if min(self.neighbours, self.edits, self.lookalikes, self.strangers, self.negatives) < 0:
            raise ConfigError("neighbours, edits, lookalikes, strangers and negatives count: none can be below 0.")
        if not (0 <= self.upper <= 1 and 0 <= self.lower <= 1):
            raise ConfigError(f"upper={self.upper}, lower={self.lower}: quantiles lie between 0 and 1.")
        if min(self.t_semantic, self.t_surface, self.temperature) <= 0 or not 0 < self.clip <= 1:
            raise ConfigError("t_semantic, t_surface and temperature are above 0, and clip above 0 and at most 1.")


@dataclass(frozen=True)
class Candidates:
    """Candidates of every text, ``(N, K)``: ids (-1: none), guide's similarity a and surface similarity b."""

    ids: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def there(self) -> np.ndarray:
        return self.ids >= 0

    def of(self, rows: np.ndarray) -> Candidates:
        """Those of some texts; -1, a text that is not in the corpus, has none."""
        ids = np.where(rows[:, None] >= 0, self.ids[rows], -1)
        return Candidates(ids, self.a[rows], self.b[rows])


@dataclass(frozen=True)
class Pool:
    """A corpus without duplicates. number: text -> id. guide: ``(N, E)`` unit vectors. upper, lower: d+ and d-."""

    texts: list[str]
    number: dict[str, int]
    guide: np.ndarray
    near: Candidates
    far: Candidates
    upper: float
    lower: float


@method(
    "debcse",
    title="DebCSE: contrastive pairs by inverse propensity, so that surface form stops deciding",
    paper="arXiv 2309.07396",
    year=2023,
    modalities=("text",),
    needs=("texts",),
)
class DebCSE(Method):
    """Positives that mean the same and look different, negatives that look alike and mean something else."""

    Config = Config
    encoder: TextEncoder

    def __init__(self, encoder: TextEncoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)
        self.head = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh()) if self.config.head else nn.Identity()
        self.pool: Pool | None = None
        self._corpus: tuple[RowSet, str | TextEncoder] | None = None

    # --- the corpus ------------------------------------------------------------------------------------------------

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler:
        """Mines the candidates; the order of the rows is random. Says how many rows have which.

        Several processes mine together, as the training begins.
        """
        if isinstance(rows, Stream):
            raise ConfigError("debcse looks for pairs in all sentences, not in a stream of them. Add --no-streaming.")
        guide: str | TextEncoder = self.config.guide
        if guide not in GUIDES:
            guide = cast(TextEncoder, folder.load(guide))
        self._corpus = rows, guide
        if launched()[1] == 1:
            self.before_training(0)
        return Shuffled(len(rows), config.batch, seed=config.seed)

    def before_training(self, steps: int) -> None:
        if self._corpus is None:
            return
        (rows, guide), self._corpus = self._corpus, None
        self.pool = pool = self.mine(list(rows.texts()), guide, together=True)
        near, far = self.weights(pool, pool.near, +1), self.weights(pool, pool.far, -1)
        alone, without = (int((w.sum(1) == 0).sum()) for w in (near, far))
        spread = [float(np.mean(found[found > 0])) if (found := effective(w)).any() else 0.0 for w in (near, far)]
        rows.log.note(
            f"Of {len(pool.texts):,} different sentences {alone:,} have no positive but themselves (or an edited copy) "
            f"and {without:,} no negative of their own; the weights of the others are spread over {spread[0]:.1f} "
            f"positives and {spread[1]:.1f} negatives on average."
        )

    def mine(self, texts: Sequence[str], guide: str | TextEncoder, *, together: bool = False) -> Pool:
        """Candidates of every text among the others, with both similarities.

        guide: as in the configuration, or the encoder itself. together: all processes do it, with the same texts; each
        mines for a share of them, and comes out with everything.
        """
        with nullcontext() if together else alone():
            return self._mined(list(dict.fromkeys(text.strip() for text in texts)), guide)

    def _mined(self, texts: list[str], guide: str | TextEncoder) -> Pool:
        c, n = self.config, len(texts)
        ends = [n * r // world() for r in range(world() + 1)]
        counts, own = [b - a for a, b in pairwise(ends)], range(*ends[rank() :][:2])

        def every(x: np.ndarray) -> np.ndarray:
            """The rows of all shares, from those of this one."""
            return gathered(torch.from_numpy(x), counts).numpy()

        if guide == "lsa":
            z = lsa(texts)  # of all texts at once
        elif guide == "spelling":
            z = every(hashed_ngrams(texts[own.start : own.stop]))
        else:
            encoder = self.encoder if isinstance(guide, str) else guide
            z = every(encoder.encode(texts[own.start : own.stop], normalize=True))
        tokens = self.encoder.ids(texts)
        surface = Surface(tokens, length=c.length)
        short = np.fromiter(map(len, tokens), np.int64, n) < SHORT
        near = neighbours(z, c.neighbours, of=own)
        far = [lookalikes(texts, c.lookalikes, of=own), strangers(n, c.strangers)[own.start : own.stop]]
        found = []
        for ids in (near, np.concatenate(far, axis=1)):
            ids = np.where((ids >= 0) & ~short[ids] & ~short[own.start : own.stop, None], ids, -1)
            b = surface(np.repeat(np.asarray(own, dtype=np.int64), ids.shape[1]), np.maximum(ids, 0).ravel())
            a = products(z, ids, of=own).clip(0, 1)
            found.append(Candidates(every(ids), every(a), every(b.reshape(ids.shape))))
        upper, lower = (
            float(np.quantile(f.a[f.there], q)) if f.there.any() else 1.0 for f, q in zip(found, (c.upper, c.lower))
        )
        number = {text: i for i, text in enumerate(texts)}
        return Pool(texts, number, z, *found, max(upper, lower), lower)

    def weights(self, pool: Pool, found: Candidates, sign: int) -> np.ndarray:
        """What each candidate ``(N, K)`` is drawn with; sign +1 for positives, -1 for negatives."""
        c = self.config
        keep = found.there & (found.a >= pool.upper if sign > 0 else found.a <= pool.lower)
        if c.weights == "uniform":
            return ipw(keep.astype(np.float64), None)
        propensity = softmax(sign * found.b / c.t_surface, found.there)
        if c.weights == "surface":
            return ipw(found.there.astype(np.float64), propensity, clip=c.clip)
        relevance = softmax(sign * found.a / c.t_semantic, keep)
        return ipw(relevance, propensity if c.weights == "ipw" else None, clip=c.clip)

    # --- batches ---------------------------------------------------------------------------------------------------

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Labels: ``guide``, ``guide_positive`` ``(N, E)``; ``guide_negative`` ``(N, H, E)``, of which there are those
        that ``drawn`` ``(N, H)`` says, as many as items in the view of negatives; ``limit`` ``(N,)``, which is d-."""
        texts = [r["text"].strip() for r in rows]
        pool = self.pool or self.mine(texts, "spelling")  # which means the same in every process
        at = np.array([pool.number.get(text, -1) for text in texts], dtype=np.int64)
        positives, ids = self._positives(pool, texts, at, rng)
        far = pool.far.of(at)
        weights = self.weights(pool, far, -1)
        drawn = np.empty((len(texts), self.config.negatives), dtype=np.int64)
        for h in range(self.config.negatives):
            drawn[:, h] = _taken(far.ids, draw(weights, rng))
        owner, place = np.nonzero(drawn >= 0)
        encoder, stream = self.encoder, self.encoder.modality
        views = [View(encoder.collate(texts), stream), View(encoder.collate(positives), stream, "positive")]
        if self.config.negatives:
            data = encoder.collate([pool.texts[i] for i in drawn[owner, place]])
            views.append(View(data, stream, "negative", owner=torch.from_numpy(owner)))
        labels = {
            "guide": _embedded(pool.guide, at),
            "guide_positive": _embedded(pool.guide, ids),
            "guide_negative": _embedded(pool.guide, drawn),
            "drawn": torch.from_numpy(drawn >= 0),
            "limit": torch.full((len(texts),), pool.lower),
        }
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]), labels)

    def _positives(
        self, pool: Pool, texts: list[str], at: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[str], np.ndarray]:
        """A positive of each text, and whose meaning it has: an id, the text's own for copies."""
        near, n = pool.near.of(at), len(texts)
        edits = [EDITS[k % len(EDITS)] for k in range(self.config.edits)]
        copies = [[" ".join(edit(t.split() or [t], rng)) for t in texts] for edit in edits]
        if copies:
            surface = Surface(self.encoder.ids([*texts, *(text for edited in copies for text in edited)]))
            own = np.tile(np.arange(n), len(copies))
            b = surface(own, np.arange(n, n + len(own))).reshape(len(copies), n).T
            same = np.repeat(at[:, None], len(copies), axis=1)
            near = Candidates(*(np.concatenate(x, 1) for x in ((near.ids, same), (near.a, b * 0 + 1), (near.b, b))))
        chosen = draw(self.weights(pool, near, +1), rng)
        first = pool.near.ids.shape[1]
        out, ids = [], _taken(near.ids, chosen)
        for i, (text, k) in enumerate(zip(texts, chosen)):
            out.append(text if k < 0 else copies[k - first][i] if k >= first else pool.texts[near.ids[i, k]])
        return out, np.where(chosen < 0, at, ids)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        anchor, positive = (self._unit(batch.one(role)) for role in ("anchor", "positive"))
        negatives = self._unit(batch.one("negative")) if self.config.negatives else None
        scale, labels = self.scale(), batch.labels
        self.observe(anchor=anchor, positive=positive, scale=scale)
        pairing: Diagonal | FalseNegatives = Diagonal()
        if self.config.guard:
            known = torch.cat([labels["guide_positive"], labels["guide_negative"][labels["drawn"]]])
            pairing = pairing & FalseNegatives(labels["guide"], known, threshold=labels["limit"])
        return {"contrast": contrast(anchor, positive, pairing, scale=scale, extra=negatives)}

    def _unit(self, view: View) -> Tensor:
        return F.normalize(self.head(self.embed(self.encoder, view)), dim=-1)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, pooling="cls", max_length=32),
                train=TrainConfig(batch=64, epochs=1, lr=3e-5, warmup=0.0, schedule="linear"),
            )
        small = size == "small"
        return Recipe(
            config=Config(head=False),
            encoder=StaticTextConfig(dim=256 if small else 64, token_dropout=0.3),
            train=TrainConfig(batch=512 if small else 32, epochs=1, lr=3e-3, weight_decay=0.0),
        )


def _taken(ids: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``ids[i, columns[i]]``, -1 where the column is -1."""
    if not ids.shape[1]:
        return np.full(len(ids), -1)
    return np.where(columns >= 0, ids[np.arange(len(ids)), columns], -1)


def _embedded(guide: np.ndarray, ids: np.ndarray) -> Tensor:
    """The guide's vectors of these ids; zeros, like nothing else, for -1."""
    if not len(guide):
        return torch.zeros(*ids.shape, guide.shape[1])
    return torch.from_numpy(np.where(ids[..., None] >= 0, guide[ids], 0.0).astype(np.float32))
