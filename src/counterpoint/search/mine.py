"""Hard negatives: for each pair of anchor and positive, texts that look like the positive and are not it.

Of a corpus, ordered by likeness to the anchor, the first ranks hold what is right but was not marked so, the far ones
are too easy: a window of ranks lies between (`Mining.ranks`). Within it, a candidate must stay below the positive's own
score, by a share of it (de Souza P. Moreira et al. 2024, arXiv 2407.15831) or by a fixed amount. Who judges that can be
a better model than the one that proposes: a guide (Qu et al. 2021, arXiv 2010.08191, with a cross-encoder).

The search is exact. The corpus is encoded block by block, each block once, into files named after what is in them; so a
job that was killed goes on where it was, and one with other ranks or margins encodes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.inspect import normalise
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.search.bm25 import BM25
from counterpoint.search.cache import Cache, digest
from counterpoint.search.exact import select

CHUNK = 16_384
"""Anchors whose running rankings are in memory at once; each such chunk reads the corpus's embeddings once."""
_ROWS = 1_024  # anchors compared with a block at once
_BINS = 20

Blocks: TypeAlias = Callable[[slice], Iterator[tuple[int, Callable[[slice], Tensor]]]]
"""Anchors to the blocks of the texts: where each begins, and scores ``(A', B)`` of some of these anchors with it."""


class Scorer(Protocol):
    """Scores pairs of texts, ``(N,)``; higher: they belong together. A cross-encoder is one."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """How much the two texts of each pair have to do with each other, ``(N,)``; a higher score is more. pairs: of
        texts."""
        ...


@dataclass(frozen=True, kw_only=True)
class Mining:
    """What is mined.

    ranks: first and last rank that is looked at, from 1; neither the anchor's positives nor copies of them or of the
    anchor count. ratio, margin: a candidate's score is at most the positive's less ``(1 - ratio) · |positive's|``, and
    less ``margin`` (None: no such limit). number: of negatives for a pair. sample: the first in rank, or any of the
    window. seed: of that.

    >>> Mining(ranks=(1, 10), number=2).ranks
    (1, 10)
    """

    ranks: tuple[int, int] = (10, 100)
    ratio: float | None = 0.95
    margin: float | None = None
    number: int = 5
    sample: Literal["top", "random"] = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        first, last = self.ranks
        if not 1 <= first <= last:
            raise ConfigError(f"Ranks {first} to {last}: they count from 1, the first before the last, as in 10-100.")
        if self.number < 1:
            raise ConfigError(f"{self.number} negatives were asked for each pair; give 1 or more.")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio={self.ratio}: a share of the positive's score, above 0 and at most 1, as 0.95.")
        if self.sample not in ("top", "random"):
            raise ConfigError(f"sample={self.sample!r}: type top or random.")

    def limit(self, positive: np.ndarray) -> np.ndarray:
        """The greatest score of a negative, where the positive has these scores; of any sign, as logits have."""
        out = np.full(positive.shape, np.inf, dtype=np.float32)
        if self.ratio is not None:
            out = np.minimum(out, positive - (1 - self.ratio) * np.abs(positive))
        return out if self.margin is None else np.minimum(out, positive - self.margin)


def ranks(text: str) -> tuple[int, int]:
    """``10-100`` as (10, 100).

    text: as it is typed.

    >>> ranks("10-100")
    (10, 100)
    """
    found = re.fullmatch(r"(\d+)-(\d+)", text.strip())
    if found is None:
        raise ConfigError(f"--ranks {text}: expected the first and the last rank, as in 10-100.")
    return int(found[1]), int(found[2])


@dataclass(frozen=True, eq=False)
class Problem:
    """Pairs and what they are mined from, as numbers.

    anchors, texts: each distinct text once, trimmed; the first ``candidates`` texts are the corpus, the others are
    positives that it lacks. anchor, positive: ``(P,)`` of each pair. starts, banned: the texts that anchor i must not
    get are ``banned[starts[i] : starts[i + 1]]``, ascending. repeated: texts of the corpus that were there already.

    >>> problem = Problem.of(["a question"], ["its answer"], corpus=["another text", "its answer"])
    >>> problem.candidates, problem.anchors
    (2, ['a question'])
    """

    anchors: list[str]
    texts: list[str]
    candidates: int
    anchor: np.ndarray
    positive: np.ndarray
    starts: np.ndarray
    banned: np.ndarray
    repeated: int

    @classmethod
    def of(cls, anchors: Sequence[str], positives: Sequence[str], corpus: Sequence[str] | None = None) -> Problem:
        """corpus: None: the positives themselves. Texts count as the same where they differ in case, punctuation and
        spaces at most. Raises `DataError` where nothing is left to mine."""
        anchors, positives, corpus = (([x] if isinstance(x, str) else x) for x in (anchors, positives, corpus))
        asked, texts = _Numbers(), _Numbers()
        anchor = np.array([asked.number(a) for a in anchors], dtype=np.int64)
        given = [t for t in (positives if corpus is None else corpus) if t and t.strip()]
        for text in given:
            texts.number(text)
        candidates = len(texts.items)
        positive = np.array([texts.number(p) for p in positives], dtype=np.int64)
        if not len(anchor) or not candidates:
            raise DataError("There are no pairs, or no texts to mine from.")
        same: dict[str, list[int]] = {}
        for number, text in enumerate(texts.items):
            same.setdefault(_key(text), []).append(number)
        keys = [_key(a) for a in asked.items]
        wrong: dict[str, set[int]] = {key: set(same.get(key, ())) for key in keys}
        for a, p in zip(anchor, positive):
            wrong[keys[a]].update(same[_key(texts.items[p])])
        rows = [sorted(wrong[key]) for key in keys]
        starts = np.cumsum([0, *map(len, rows)])
        banned = np.array([t for row in rows for t in row], dtype=np.int64)
        return cls(asked.items, texts.items, candidates, anchor, positive, starts, banned, len(given) - candidates)


class _Numbers:
    def __init__(self) -> None:
        self.items: list[str] = []
        self._known: dict[str, int] = {}

    def number(self, text: str) -> int:
        text = text.strip()
        if (found := self._known.get(text)) is None:
            found = self._known[text] = len(self.items)
            self.items.append(text)
        return found


def _key(text: str) -> str:
    return normalise(text) or text  # of signs alone nothing would be left


# --- who proposes ----------------------------------------------------------------------------------------------


def dense(encoder: Encoder, problem: Problem, cache: Cache, *, model: str, block: int = 16_384) -> Blocks:
    """Cosines of embeddings. model: what tells the encoder's embeddings from others', for the cache. block: texts whose
    embeddings are in memory at once.

    encoder: of texts. problem: pairs and corpus. cache: of what was encoded.
    """

    def embedded(texts: Sequence[str], role: str) -> Tensor:
        def make() -> dict[str, np.ndarray]:
            x = encoder.encode(texts, role=role, normalize=True)
            if not np.isfinite(x).all():
                raise DataError("Some embeddings are not finite (NaN or infinity). Check the model.")
            return {"x": x}

        return torch.from_numpy(cache.get(digest("embeddings", model, role, *texts), make)["x"]).to(encoder.device)

    def blocks(which: slice) -> Iterator[tuple[int, Callable[[slice], Tensor]]]:
        asked = problem.anchors[which]
        q = torch.cat([embedded(asked[at : at + block], "query") for at in range(0, len(asked), block)])
        for start in range(0, len(problem.texts), block):
            part = embedded(problem.texts[start : start + block], "document")
            yield start, partial(_products, q, part)
            del part

    return blocks


def _products(q: Tensor, part: Tensor, rows: slice) -> Tensor:
    return (q[rows] @ part.T).cpu()


def words(problem: Problem, *, tokenizer: str = "words") -> Blocks:
    """BM25: what shares words with the anchor. A text that shares none is never proposed.

    problem: pairs and corpus. tokenizer: of BM25.
    """
    index = BM25(problem.texts, tokenizer=tokenizer)

    def blocks(which: slice) -> Iterator[tuple[int, Callable[[slice], Tensor]]]:
        asked = problem.anchors[which]

        def scores(rows: slice) -> Tensor:
            found = torch.from_numpy(index.scores(asked[rows]))
            return found.masked_fill(found <= 0, -torch.inf)

        yield 0, scores

    return blocks


class Likeness:
    """The cosine of two embeddings as a `Scorer`: a guide that is an encoder.

    >>> from counterpoint.encoders.static import StaticText
    >>> [round(float(s), 3) for s in Likeness(StaticText.example()).score([("a cat", "a cat")])]
    [1.0]
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Cosine of the two texts of each pair, ``(N,)``, the first as a query, the second as a document. pairs: of
        texts."""
        out = []
        for side, role in ((0, "query"), (1, "document")):
            texts, where = np.unique(np.array([p[side] for p in pairs], dtype=object), return_inverse=True)
            out.append(self.encoder.encode(list(texts), role=role, normalize=True)[where])
        return (out[0] * out[1]).sum(axis=1)


# --- mining ----------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What was looked at, and why it was dropped. own: the anchor's positives and copies that would have been in the
    window. edges, kept, dropped: histogram of the positive's score less the candidate's.

    pairs, anchors, candidates: of the problem. repeated: texts that the corpus holds twice. looked_at: candidates.
    too_like: dropped for being too near the positive. mined: negatives. short, none: anchors with fewer than asked for,
    and without one.
    """

    pairs: int = 0
    anchors: int = 0
    candidates: int = 0
    repeated: int = 0
    own: int = 0
    looked_at: int = 0
    too_like: int = 0
    mined: int = 0
    short: int = 0
    none: int = 0
    edges: list[float] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)

    def see(self, apart: np.ndarray, kept: np.ndarray) -> None:
        """Candidates ``(N,)``: how far below the positive they are, and which passed.

        apart: a difference for each candidate. kept: bool.
        """
        if not len(apart):
            return
        if not self.edges:  # what lies beyond the first ones' range is counted at its ends
            low, high = float(apart.min()), float(apart.max())
            self.edges = np.linspace(low, high if high > low else low + 1, _BINS + 1).round(4).tolist()
            self.kept, self.dropped = [0] * _BINS, [0] * _BINS
        place = np.clip(np.searchsorted(self.edges, apart, side="right") - 1, 0, _BINS - 1)
        for held, which in ((self.kept, kept), (self.dropped, ~kept)):
            for bin_, n in zip(*np.unique(place[which], return_counts=True)):
                held[bin_] += int(n)
        self.looked_at += len(apart)
        self.too_like += int((~kept).sum())


@dataclass(frozen=True, eq=False)
class Mined:
    """negatives, scores: ``(P, number)`` numbers of texts, -1 where there are fewer, and their scores. positive:
    ``(P,)`` scores of the pairs themselves. Scores are the judge's.

    problem: that was mined. counts: of what was looked at.
    """

    problem: Problem
    negatives: np.ndarray
    scores: np.ndarray
    positive: np.ndarray
    counts: Counts

    def texts(self) -> list[list[str]]:
        """The negatives of each pair, best rank first."""
        return [[self.problem.texts[i] for i in row if i >= 0] for row in self.negatives]


def mine(
    problem: Problem,
    blocks: Blocks,
    mining: Mining,
    *,
    cache: Cache,
    name: str,
    guide: Scorer | None = None,
    guide_name: str = "",
    chunk: int = CHUNK,
    say: Callable[[str], None] | None = None,
) -> Mined:
    """Negatives for every pair.

    blocks: who proposes (`dense`, `words`). name, guide_name: what tells their scores from others', for the cache.
    guide: who judges margins in place of who proposes; it looks at as many candidates as it takes to find the number
    asked for. Raises `DataError` where the corpus is smaller than the first rank. problem: pairs and corpus. mining:
    how. cache: of scores. chunk: anchors handled at once. say: told how far it is.

    >>> from pathlib import Path
    >>> corpus = ["a red cat", "a red dog", "a red bird", "a red house", "stocks fell"]
    >>> problem = Problem.of(["red cat"], ["a red cat"], corpus=corpus)
    >>> mining = Mining(ranks=(1, 5), ratio=None, number=2)
    >>> found = mine(problem, words(problem), mining, cache=Cache(Path("cache")), name="words")
    >>> found.negatives.shape, found.counts.mined
    ((1, 2), 2)
    """
    if problem.candidates < mining.ranks[0]:
        raise DataError(
            f"The corpus holds {problem.candidates:,} different texts, so none has rank {mining.ranks[0]}. Give more "
            "of them, or ranks that begin earlier, as --ranks 1-100."
        )
    total = len(problem.anchor)
    out = Mined(
        problem,
        np.full((total, mining.number), -1, dtype=np.int64),
        np.full((total, mining.number), -np.inf, dtype=np.float32),
        np.empty(total, dtype=np.float32),
        Counts(total, len(problem.anchors), problem.candidates, problem.repeated),
    )
    # A pair belongs to the chunk of its anchor.
    by_anchor = np.argsort(problem.anchor, kind="stable")
    base = digest("windows", name, str(mining.ranks[1]), str(problem.candidates), *problem.texts)
    for number, start in enumerate(range(0, len(problem.anchors), chunk)):
        which = slice(start, min(start + chunk, len(problem.anchors)))
        rows = problem.starts[which.start : which.stop + 1]
        key = digest(
            base, *problem.anchors[which], *map(str, rows - rows[0]), "", *map(str, problem.banned[rows[0] : rows[-1]])
        )
        found = cache.get(key, partial(_windows, problem, blocks, which, mining.ranks[1]))
        low, high = np.searchsorted(problem.anchor[by_anchor], [which.start, which.stop])
        _choose(out, by_anchor[low:high], which.start, found, mining, guide, cache, guide_name, number)
        if say is not None and len(problem.anchors) > chunk:
            say(f"{which.stop:,} of {len(problem.anchors):,} anchors")
    counts, size = out.counts, (out.negatives >= 0).sum(axis=1)
    counts.mined, counts.none = int(size.sum()), int((size == 0).sum())
    counts.short = int((size < mining.number).sum()) - counts.none
    return out


def _windows(problem: Problem, blocks: Blocks, which: slice, depth: int) -> dict[str, np.ndarray]:
    """The ``depth`` best texts of some anchors, those banned left out, and the scores of the banned ones."""
    first, n = which.start, which.stop - which.start
    starts = problem.starts[first : which.stop + 1]
    banned, owner = problem.banned[starts[0] : starts[-1]], np.repeat(np.arange(n), np.diff(starts))
    own = np.full(len(banned), -np.inf, dtype=np.float32)
    size = min(depth, problem.candidates)
    best = torch.full((n, 0), -torch.inf), torch.zeros((n, 0), dtype=torch.long)
    for start, score in blocks(which):
        fresh = []
        for at in range(0, n, _ROWS):
            rows = slice(at, min(at + _ROWS, n))
            scores = score(rows)
            here = np.flatnonzero((owner >= rows.start) & (owner < rows.stop) & (banned >= start)
                                  & (banned < start + scores.shape[1]))  # fmt: skip
            row, column = (torch.from_numpy(x) for x in (owner[here] - rows.start, banned[here] - start))
            own[here] = scores[row, column].numpy()
            scores[row, column] = -torch.inf
            scores[:, max(0, problem.candidates - start) :] = -torch.inf
            fresh.append(select(scores, size))
        scores = torch.cat([best[0], torch.cat([f[0] for f in fresh])], dim=1)
        ids = torch.cat([best[1], torch.cat([f[1] for f in fresh]) + start], dim=1)
        kept, place = select(scores, size)
        best = kept, ids.gather(1, place)
    ids = best[1].masked_fill(best[0] == -torch.inf, -1)
    return {"scores": best[0].numpy(), "ids": ids.numpy(), "own": own}


def _choose(
    out: Mined,
    pairs: np.ndarray,
    first: int,
    found: dict[str, np.ndarray],
    mining: Mining,
    guide: Scorer | None,
    cache: Cache,
    guide_name: str,
    number: int,
) -> None:
    """Fill in the negatives of these pairs (all of one chunk of anchors, which begins with ``first``)."""
    problem, counts = out.problem, out.counts
    scores, ids, own = found["scores"], found["ids"], found["own"]
    starts = problem.starts[first : first + len(ids) + 1] - problem.starts[first]
    banned = problem.banned[problem.starts[first] :][: starts[-1]]
    owner = np.repeat(np.arange(len(ids)), np.diff(starts))
    counts.own += int((np.isfinite(own) & (own >= scores[owner, -1])).sum())

    # Where a pair's positive stands among the banned of its anchor: both are ascending within an anchor.
    width, mine_ = len(problem.texts), problem.anchor[pairs] - first
    own_at = np.searchsorted(owner * width + banned, mine_ * width + problem.positive[pairs])
    window = slice(mining.ranks[0] - 1, mining.ranks[1])
    at, likeness = ids[mine_, window], scores[mine_, window]
    order = np.broadcast_to(np.arange(at.shape[1]), at.shape)
    if mining.sample == "random":
        order = np.random.default_rng([mining.seed, number]).permuted(order, axis=1)
    at, likeness = np.take_along_axis(at, order, 1), np.take_along_axis(likeness, order, 1)

    def judged(rows: np.ndarray, texts: np.ndarray) -> np.ndarray:
        asked = [(problem.anchors[problem.anchor[pairs[r]]], problem.texts[t]) for r, t in zip(rows, texts)]
        assert guide is not None
        return _judged(guide, asked, cache, guide_name)

    every = np.arange(len(pairs))
    positive = own[own_at] if guide is None else judged(every, problem.positive[pairs])
    # BM25 leaves a positive without a score that shares no word with its anchor: nothing is below that.
    positive = np.where(np.isfinite(positive), positive, 0).astype(np.float32)
    out.positive[pairs] = positive
    limit = mining.limit(positive)
    size = np.zeros(len(pairs), dtype=np.int64)
    taken = np.full((len(pairs), mining.number), -1, dtype=np.int64)  # columns of the window
    step = at.shape[1] if guide is None else mining.number
    for start in range(0, at.shape[1], max(1, step)):
        some, there = at[:, start : start + step], likeness[:, start : start + step]
        row, column = np.nonzero((some >= 0) & (size < mining.number)[:, None])
        value = there[row, column] if guide is None else judged(row, some[row, column])
        passed = value <= limit[row]
        counts.see(positive[row] - value, passed)
        row, column, value = row[passed], column[passed] + start, value[passed]
        place = size[row] + np.arange(len(row)) - np.searchsorted(row, row)  # rows ascend
        fits = place < mining.number
        taken[row[fits], place[fits]] = column[fits]
        out.negatives[pairs[row[fits]], place[fits]] = at[row[fits], column[fits]]
        out.scores[pairs[row[fits]], place[fits]] = value[fits]
        size = np.minimum(mining.number, size + np.bincount(row, minlength=len(size)))
    if mining.sample == "random":  # the best rank first, as without it
        rank = np.where(taken >= 0, np.take_along_axis(order, np.maximum(taken, 0), 1), at.shape[1])
        back = np.argsort(rank, axis=1, kind="stable")
        for values in (out.negatives, out.scores):
            values[pairs] = np.take_along_axis(values[pairs], back, 1)


def _judged(guide: Scorer, pairs: list[tuple[str, str]], cache: Cache, name: str, block: int = 8_192) -> np.ndarray:
    """The guide's scores, ``(N,)`` float32, block by block so that few are lost with a killed job."""
    out = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(pairs), block):
        some = pairs[start : start + block]

        def make(some: list[tuple[str, str]] = some) -> dict[str, np.ndarray]:
            scores = np.asarray(guide.score(some), dtype=np.float32)
            if scores.shape != (len(some),) or not np.isfinite(scores).all():
                raise DataError(
                    f"The guide gave scores of shape {scores.shape} for {len(some):,} pairs, or such that are not "
                    "finite; expected a number for each."
                )
            return {"x": scores}

        out.append(cache.get(digest("guide", name, *(t for pair in some for t in pair)), make)["x"])
    return np.concatenate(out)
