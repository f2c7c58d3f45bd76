"""A corpus in which pairs can be drawn: of each text, others that mean the like, and others that look alike.

Mined once. What means the same is said by a guide, vectors that nothing is learned of; how alike two texts look, by
their tokens (`counterpoint.data.surface`). What is drawn from the candidates, and how often, is a matter of weights
(`counterpoint.data.propensity`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, TypeAlias, cast

import numpy as np
import torch

from counterpoint.data.propensity import draw, effective
from counterpoint.data.surface import Surface
from counterpoint.encoders import folder
from counterpoint.encoders.base import Encoder
from counterpoint.processes import gathered, rank, world
from counterpoint.search import candidates
from counterpoint.search.lsa import lsa
from counterpoint.search.ngrams import hashed_ngrams

SHORT = 3
"""Tokens below which a text looks like another one wholly or not at all: no candidate, and drawn none."""

Tokenize: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[Hashable]]]
"""Texts to the tokens by which they look alike or not."""
Guide: TypeAlias = Literal["lsa", "spelling"] | Callable[[Sequence[str]], np.ndarray]
"""What means the same: `lsa` of the corpus, n-grams of characters, or what makes unit vectors ``(N, E)`` of texts."""
Edit: TypeAlias = Callable[[Sequence[str], np.random.Generator], Sequence[str]]
"""The words of a text to those of a copy."""


@dataclass(frozen=True)
class Candidates:
    """Candidates of every text, ``(N, K)``: ids (-1: none), guide's similarity a and surface similarity b.

    a, b: ``(N, K)`` float.
    """

    ids: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Which places hold a candidate, ``(N, K)`` bool."""
        return self.ids >= 0

    def of(self, rows: np.ndarray) -> Candidates:
        """Those of some texts ``(M,)``; -1, a text that is not in the corpus, has none.

        rows: numbers of texts.
        """
        ids = np.where(rows[:, None] >= 0, self.ids[rows], -1)
        return Candidates(ids, self.a[rows], self.b[rows])

    def beside(self, other: Candidates) -> Candidates:
        """Those of the same texts, ``(N, K + L)``, these first.

        other: of the same N.
        """
        both = ((self.ids, other.ids), (self.a, other.a), (self.b, other.b))
        return Candidates(*(np.concatenate(x, 1) for x in both))

    def chosen(self, columns: np.ndarray) -> np.ndarray:
        """``ids[i, columns[i]]``, ``(N,)``; -1 where the column is -1."""
        if not self.ids.shape[1]:
            return np.full(len(self.ids), -1)
        return np.where(columns >= 0, self.ids[np.arange(len(self.ids)), columns], -1)


@dataclass(frozen=True)
class Pool:
    """A corpus without duplicates. number: text -> id. guide: ``(N, E)`` unit vectors. near: candidates that mean the
    like; far: that look alike, and strangers. upper, lower: the similarities a from which a candidate of the near ones
    means the same, and up to which one of the far ones means something else.

    texts: each once.
    """

    texts: list[str]
    number: dict[str, int]
    guide: np.ndarray
    near: Candidates
    far: Candidates
    upper: float
    lower: float

    def find(self, texts: Sequence[str]) -> np.ndarray:
        """Their ids, ``(M,)``; -1: not in the corpus.

        texts: M, with or without spaces around them.
        """
        return np.array([self.number.get(text, -1) for text in texts], dtype=np.int64)

    def coverage(self, near: np.ndarray, far: np.ndarray) -> str:
        """How many texts have what to draw, in a sentence. near, far: weights ``(N, K)`` of the candidates."""
        alone, without = (int((w.sum(1) == 0).sum()) for w in (near, far))
        spread = [float(np.mean(found[found > 0])) if (found := effective(w)).any() else 0.0 for w in (near, far)]
        return (
            f"Of {len(self.texts):,} different sentences {alone:,} have no positive but themselves (or an edited copy) "
            f"and {without:,} no negative of their own; the weights of the others are spread over {spread[0]:.1f} "
            f"positives and {spread[1]:.1f} negatives on average."
        )

    def vectors(self, ids: np.ndarray) -> torch.Tensor:
        """The guide's vectors of these ids ``(..., E)`` float32; zeros, like nothing else, for -1."""
        if not len(self.guide):
            return torch.zeros(*ids.shape, self.guide.shape[1])
        return torch.from_numpy(np.where(ids[..., None] >= 0, self.guide[ids], 0.0).astype(np.float32))


Weigh: TypeAlias = Callable[[Pool, Candidates, int], np.ndarray]
"""A pool, candidates ``(N, K)`` of some texts and a sign, to what each is drawn with ``(N, K)``."""


def pool_of(
    texts: Sequence[str],
    guide: Guide,
    tokenize: Tokenize,
    *,
    neighbours: int = 16,
    lookalikes: int = 32,
    strangers: int = 16,
    upper: float = 0.75,
    lower: float = 0.5,
    length: bool = False,
) -> Pool:
    """Candidates of every text among the others, with both similarities.

    texts: the corpus; each counts once, without the spaces around it. tokenize, length: see `Surface`. neighbours:
    near candidates of a text, the nearest by the guide. lookalikes, strangers: far candidates, those with most
    words in common and others drawn at random. upper, lower: quantiles of a over all near and over all far candidates.

    Over many processes, each of which has all texts and calls this, each mines for a share of them and comes out with
    everything.

    guide: ``lsa``, ``spelling``, or what makes unit vectors of texts. neighbours: near candidates of a text.
    """
    texts = list(dict.fromkeys(text.strip() for text in texts))
    n = len(texts)
    ends = [n * r // world() for r in range(world() + 1)]
    counts, own = [b - a for a, b in pairwise(ends)], range(*ends[rank() :][:2])

    def every(x: np.ndarray) -> np.ndarray:
        """The rows of all shares, from those of this one."""
        return gathered(torch.from_numpy(x), counts).numpy()

    if guide == "lsa":
        z = lsa(texts)  # of all texts at once
    else:
        embed = hashed_ngrams if guide == "spelling" else guide
        z = every(embed(texts[own.start : own.stop]))
    tokens = tokenize(texts)
    surface = Surface(tokens, length=length)
    short = np.fromiter(map(len, tokens), np.int64, n) < SHORT
    near = candidates.neighbours(z, neighbours, of=own)
    far = [
        candidates.lookalikes(texts, lookalikes, of=own),
        candidates.strangers(n, strangers)[own.start : own.stop],
    ]
    mined = []
    for ids in (near, np.concatenate(far, axis=1)):
        ids = np.where((ids >= 0) & ~short[ids] & ~short[own.start : own.stop, None], ids, -1)
        b = surface(np.repeat(np.asarray(own, dtype=np.int64), ids.shape[1]), np.maximum(ids, 0).ravel())
        a = candidates.products(z, ids, of=own).clip(0, 1)
        mined.append(Candidates(every(ids), every(a), every(b.reshape(ids.shape))))
    high, low = (float(np.quantile(f.a[f.there], q)) if f.there.any() else 1.0 for f, q in zip(mined, (upper, lower)))
    number = {text: i for i, text in enumerate(texts)}
    return Pool(texts, number, z, mined[0], mined[1], max(high, low), low)


def guide_of(name: str, encoder: Encoder) -> Guide:
    """What a name stands for: ``lsa``, ``spelling``, ``start`` (the encoder as it is now), else a model folder."""
    if name in ("lsa", "spelling"):
        return cast(Guide, name)
    return partial((encoder if name == "start" else folder.load(name)).encode, normalize=True)


# --- pairs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Of N texts: ids ``(N,)``; positives, N texts, and whose meaning they have ``(N,)``; negatives, ids ``(N, H)``. An
    id of -1 is of no text of the pool.

    positive_ids: of the texts the positives stand for. negative_ids: -1 where there is none.
    """

    ids: np.ndarray
    positives: list[str]
    positive_ids: np.ndarray
    negative_ids: np.ndarray


def pairs(
    pool: Pool,
    texts: Sequence[str],
    weigh: Weigh,
    rng: np.random.Generator,
    *,
    tokenize: Tokenize,
    negatives: int = 1,
    edits: Sequence[Edit] = (),
) -> Pairs:
    """Draw, for each text, a positive of the near candidates and of edited copies of it, and negatives of the far ones.

    weigh: what candidates are drawn with, sign +1: as positives, -1: as negatives. edits: from the words of a text to
    those of a copy, which counts as a candidate that means the same. Where there is no positive, the text is its own;
    where there is no negative, its id is -1. pool: of candidates. texts: N. rng: every draw comes from it. tokenize: of
    the edits. negatives: H.
    """
    ids = pool.find(texts)
    near, far = pool.near.of(ids), pool.far.of(ids)
    copies = [[" ".join(edit(text.split() or [text], rng)) for text in texts] for edit in edits]
    if copies:
        near = near.beside(_edited(texts, copies, ids, tokenize))
    columns, first = draw(weigh(pool, near, +1), rng), pool.near.ids.shape[1]
    positives = [
        text if k < 0 else copies[k - first][i] if k >= first else pool.texts[near.ids[i, k]]
        for i, (text, k) in enumerate(zip(texts, columns))
    ]
    own, weights = np.where(columns < 0, ids, near.chosen(columns)), weigh(pool, far, -1)
    drawn = [far.chosen(draw(weights, rng)) for _ in range(negatives)]
    return Pairs(ids, positives, own, np.stack(drawn, 1) if drawn else np.empty((len(ids), 0), dtype=np.int64))


def _edited(texts: Sequence[str], copies: Sequence[Sequence[str]], ids: np.ndarray, tokenize: Tokenize) -> Candidates:
    """Copies as candidates ``(N, K)`` of the texts ``(N,)`` that they were made of: they mean the same, a = 1."""
    n = len(texts)
    surface = Surface(tokenize([*texts, *(copy for some in copies for copy in some)]))
    original = np.tile(np.arange(n), len(copies))
    b = surface(original, np.arange(n, n + len(original))).reshape(len(copies), n).T
    return Candidates(np.repeat(ids[:, None], len(copies), axis=1), np.ones_like(b), b)
