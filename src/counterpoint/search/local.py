"""Local alignment with affine gaps (Smith & Waterman 1981; Gotoh 1982), many pairs of sequences at once.

All pairs of a batch advance together, one anti-diagonal of their matrices at a time: what a cell needs lies on the two
diagonals before it, so a step is a dozen operations on whole arrays. Scores are whole tenths, as int16 where they fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.errors import ConfigError, DataError

TENTHS = 10
BATCH = 128
"""Pairs computed at once: their diagonals stay in a core's cache."""
ROOM = 2**25
"""Bytes that the ways back of a batch may take."""

# Codes of bases are far enough apart that the exclusive or of two of them is 0 or more than any mismatch costs. N, and
# what fills up a shorter sequence, equals nothing: it has one code in queries and another in targets.
_STEP = 1 << 10
_QUERY, _TARGET = (np.full(256, unknown * _STEP, dtype=np.int16) for unknown in (8, 16))
for _table in (_QUERY, _TARGET):
    _table[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4) * _STEP
_STOP, _DIAGONAL, _DELETE, _INSERT = range(4)
_OPEN_DELETE, _OPEN_INSERT = 4, 8  # flags beside the direction


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a matching base is worth, and what a mismatch, the first base of a gap, and each further one cost: all are
    added to the score, in whole tenths.

    With gaps that cost next to nothing (2, -1, -0.5, -0.1 are in use too) a read of 100 random bases gets some 80 % of
    a perfect score in 500 others, with these some 10 %.

    match: above 0. mismatch, gap_open, gap_extend: below 0.

    >>> Scoring().perfect(100)
    200.0
    """

    match: float = 2.0
    mismatch: float = -3.0
    gap_open: float = -5.0
    gap_extend: float = -2.0

    def __post_init__(self) -> None:
        if not self.match > 0 or max(self.mismatch, self.gap_open, self.gap_extend) >= 0:
            raise ConfigError(f"{self}: a match must be worth more than 0, a mismatch and a gap less.")
        if self.gap_extend < self.gap_open:
            raise ConfigError(f"{self}: a gap's further bases must not cost more than its first.")
        if any(abs(x * TENTHS - round(x * TENTHS)) > 1e-9 or abs(x) > 50 for x in self.values()):
            raise ConfigError(f"{self}: give whole tenths between -50 and 50.")

    def values(self) -> tuple[float, float, float, float]:
        """The four numbers, in the order of the fields."""
        return self.match, self.mismatch, self.gap_open, self.gap_extend

    def perfect(self, length: int) -> float:
        """The score of so many matching bases.

        length: in bases.
        """
        return self.match * length


@dataclass(frozen=True, slots=True)
class Alignment:
    """A local alignment: score, the aligned parts ``[start, end)`` of query and target, and how one becomes the other:
    operations M (aligned bases, equal or not), I (only in the query), D (only in the target) with their lengths.

    query_start, query_end: of the query. target_start, target_end: of the target.
    """

    score: float
    query_start: int
    query_end: int
    target_start: int
    target_end: int
    operations: tuple[tuple[int, str], ...]

    def cigar(self, length: int) -> str:
        """As SAM writes it for a query of this length; what is not aligned at its ends is clipped (S)."""
        ends = ((self.query_start, "S"), *self.operations, (length - self.query_end, "S"))
        return "".join(f"{n}{what}" for n, what in ends if n)


def local_scores(queries: Sequence[str], targets: Sequence[str], *, scoring: Scoring | None = None) -> np.ndarray:
    """Score of the best local alignment of each pair, ``(B,)`` float64; 0 where no base matches.

    queries, targets: B sequences each, of any lengths; work grows with the longest of a batch, so put like lengths
    together. scoring: of bases and gaps (None: the usual).

    >>> local_scores(["ACGTT"], ["GGACGTTGG"]).tolist()
    [10.0]
    """
    scoring = scoring or Scoring()
    out = np.zeros(len(queries))
    for at, q, t in _batches(queries, targets):
        out[at] = _Sweep(q, t, scoring).run().max(axis=0) / TENTHS
    return out


def local_alignments(
    queries: Sequence[str], targets: Sequence[str], *, scoring: Scoring | None = None
) -> list[Alignment]:
    """The best local alignment of each pair. Of several, the one that ends first in the query, then in the target; of
    equal ways to get there, the one with bases aligned rather than gaps.

    queries, targets: B sequences each. scoring: of bases and gaps (None: the usual).

    >>> [found] = local_alignments(["ACGTT"], ["GGACGTTGG"])
    >>> found.score, found.target_start, found.target_end, found.operations
    (10.0, 2, 7, ((5, 'M'),))
    """
    scoring = scoring or Scoring()
    out: list[Alignment] = []
    for _, q, t in _batches(queries, targets, room=ROOM):
        sweep = _Sweep(q, t, scoring, traced=True)
        sweep.run()
        out += sweep.traces()
    return out


def _batches(
    queries: Sequence[str], targets: Sequence[str], *, room: int | None = None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    if len(queries) != len(targets):
        raise DataError(f"{len(queries)} queries and {len(targets)} targets are no pairs; expected as many of each.")
    size = BATCH
    if room is not None and queries:
        q, t = max(map(len, queries)), max(map(len, targets))
        size = max(1, min(size, room // max(1, q * (q + t))))
    for start in range(0, len(queries), size):
        at = slice(start, start + size)
        yield at, _coded(queries[at], _QUERY), _coded(targets[at], _TARGET)


def _coded(sequences: Sequence[str], table: np.ndarray) -> np.ndarray:
    """``(longest, B)`` int16."""
    out = np.full((max(1, *map(len, sequences)), len(sequences)), table[0], dtype=np.int16)
    for column, sequence in enumerate(sequences):
        out[: len(sequence), column] = table[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
    return out


class _Sweep:
    """The matrices of a batch, diagonal by diagonal. H: best alignment that ends in a cell; E: ... with a base of the
    target left out (D); F: ... with a base of the query left out (I). Arrays are ``(L + 1, B)``: row i + 1 is base i of
    the query, row 0 lies before it."""

    def __init__(self, q: np.ndarray, t: np.ndarray, scoring: Scoring, *, traced: bool = False) -> None:
        self.match, mismatch, self.open, self.extend = (round(x * TENTHS) for x in scoring.values())
        self.apart = self.match - mismatch
        self.length, self.size = len(q), len(t)
        self.type = np.int16 if self.match * min(self.length, self.size) + self.apart < 30_000 else np.int32
        self.q, self.t = q, np.ascontiguousarray(t[::-1])  # so that a diagonal is a slice of both
        shape = (self.length + 1, q.shape[1])
        self.h, self.h1, self.h2 = (np.zeros(shape, dtype=self.type) for _ in range(3))
        self.e, self.f, self.f1 = (np.full(shape, -1_000, dtype=self.type) for _ in range(3))
        self.best = np.zeros(shape, dtype=self.type)
        self.where = np.zeros(shape, dtype=np.int32) if traced else None  # diagonal on which `best` was reached
        self.steps: list[tuple[int, np.ndarray]] = []  # of each diagonal: its first row, directions (rows, B) uint8

    def run(self) -> np.ndarray:
        """The best score that ends at each base of the query, ``(L + 1, B)``, in tenths."""
        for d in range(self.length + self.size - 1):
            low, high = max(0, d - self.size + 1), min(self.length, d + 1)
            self._advance(d, low, high)
            self.h2, self.h1, self.h = self.h1, self.h, self.h2
            self.f1, self.f = self.f, self.f1
        return self.best

    def _advance(self, d: int, low: int, high: int) -> None:
        here, before = slice(low + 1, high + 1), slice(low, high)
        opened = self.h1[low : high + 1] + self.type(self.open)
        e, f, h = self.e[here], self.f[here], self.h[here]
        e += self.type(self.extend)
        np.add(self.f1[before], self.type(self.extend), out=f)
        flags = None
        if self.where is not None:  # a gap that ends here began with the base before
            flags = (opened[1:] >= e) * np.uint8(_OPEN_DELETE) + (opened[:-1] >= f) * np.uint8(_OPEN_INSERT)
        np.maximum(e, opened[1:], out=e)
        np.maximum(f, opened[:-1], out=f)
        first = self.size - 1 - d + low
        differ = self.q[low:high] ^ self.t[first : first + high - low]
        np.minimum(differ, self.apart, out=differ)
        np.subtract(self.h2[before], differ, out=h)
        h += self.type(self.match)
        diagonal = h.copy() if flags is not None else None
        np.maximum(h, e, out=h)
        np.maximum(h, f, out=h)
        np.maximum(h, 0, out=h)
        best = self.best[here]
        if flags is not None and diagonal is not None and self.where is not None:
            way = np.where(h == diagonal, _DIAGONAL, np.where(h == e, _DELETE, _INSERT)).astype(np.uint8)
            way[h == 0] = _STOP
            self.steps.append((low, way | flags))
            self.where[here][h > best] = d
        np.maximum(best, h, out=best)

    def traces(self) -> list[Alignment]:
        """The way back from the best cell of each pair."""
        assert self.where is not None
        ends = self.best.argmax(axis=0)
        return [self._trace(b, int(i) - 1, int(self.where[i, b]), int(self.best[i, b])) for b, i in enumerate(ends)]

    def _trace(self, b: int, i: int, d: int, score: int) -> Alignment:
        if not score:
            return Alignment(0.0, 0, 0, 0, 0, ())
        j, query_end, target_end = d - i, i + 1, d - i + 1
        found: list[str] = []
        state = _DIAGONAL  # of a cell: which of H, E, F the way goes through
        while i >= 0 and j >= 0:
            low, way = self.steps[i + j]
            said = int(way[i - low, b])
            if state == _DIAGONAL:
                state = said & 3
                if state == _STOP:
                    break
            if state == _DIAGONAL:
                found.append("M")
                i, j = i - 1, j - 1
            elif state == _DELETE:
                found.append("D")
                j -= 1
                state = _DIAGONAL if said & _OPEN_DELETE else _DELETE
            else:
                found.append("I")
                i -= 1
                state = _DIAGONAL if said & _OPEN_INSERT else _INSERT
        return Alignment(score / TENTHS, i + 1, query_end, j + 1, target_end, _runs(found[::-1]))


def _runs(steps: Sequence[str]) -> tuple[tuple[int, str], ...]:
    out: list[tuple[int, str]] = []
    for step in steps:
        if out and out[-1][1] == step:
            out[-1] = (out[-1][0] + 1, step)
        else:
            out.append((1, step))
    return tuple(out)
