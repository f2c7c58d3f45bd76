"""How alike two texts look, whatever they mean: the tokens they share, the edits between them, their lengths."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from counterpoint.errors import ConfigError

PAIRS = 8192
"""Pairs whose edits are counted at once: their tables then stay in a processor's cache."""


class Surface:
    """Surface similarity in [0, 1] of pairs of texts, given as tokens (words, or numbers of subwords).

    ``b(i, j) = mean of jaccard(i, j) and 1 - edits(i, j) / max(|i|, |j|)``; length: with the ratio of the lengths as a
    third. limit: tokens of a text that are read, at most 64. Two texts without a token are alike.

    >>> s = Surface([text.split() for text in ("the cat sat", "the cat sat", "the cat sat down", "birds sing")])
    >>> s([0, 0, 0], [1, 2, 3]).tolist()
    [1.0, 0.75, 0.0]
    """

    def __init__(self, tokens: Sequence[Sequence[Hashable]], *, limit: int = 64, length: bool = False) -> None:
        if not 1 <= limit <= 64:
            raise ConfigError(f"limit={limit}: between 1 and 64 tokens of a text can be compared.")
        self.length = length
        number: dict[Hashable, int] = {}
        rows = [[number.setdefault(t, len(number)) for t in row[:limit]] for row in tokens]
        self.lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        self._ids = np.full((len(rows), int(self.lengths.max(initial=1))), -1, dtype=np.int32)
        self._ids[np.arange(self._ids.shape[1]) < self.lengths[:, None]] = [t for row in rows for t in row]
        sets = [list(dict.fromkeys(row)) for row in rows]
        starts = np.cumsum([0, *map(len, sets)])
        columns = np.array([t for row in sets for t in row], dtype=np.int32)
        shape = (len(rows), max(1, len(number)))
        self._sets = csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=shape)
        self._distinct = np.diff(starts)

    def __len__(self) -> int:
        return len(self.lengths)

    def __call__(self, i: np.ndarray | Sequence[int], j: np.ndarray | Sequence[int]) -> np.ndarray:
        """Similarities ``(P,)`` float32 of texts i with texts j ``(P,)``."""
        i, j = np.asarray(i), np.asarray(j)
        longest = np.maximum(np.maximum(self.lengths[i], self.lengths[j]), 1)
        parts = [self.jaccard(i, j), 1 - self.edits(i, j) / longest]
        if self.length:
            shortest = np.minimum(self.lengths[i], self.lengths[j])
            parts.append(np.where(self.lengths[i] == self.lengths[j], 1.0, shortest / longest))
        return np.mean(parts, axis=0).astype(np.float32)

    def jaccard(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """``|A ∩ B| / |A ∪ B|`` of the sets of tokens, ``(P,)``."""
        out = np.ones(len(i))
        for start in range(0, len(i), 64 * PAIRS):
            a, b = i[start : start + 64 * PAIRS], j[start : start + 64 * PAIRS]
            both = np.asarray(self._sets[a].multiply(self._sets[b]).sum(1)).ravel()
            either = self._distinct[a] + self._distinct[b] - both
            out[start : start + len(a)] = np.where(either > 0, both / np.maximum(either, 1), 1.0)
        return out

    def edits(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Insertions, deletions and replacements of tokens that make one text the other (Levenshtein), ``(P,)``."""
        swap = self.lengths[i] > self.lengths[j]
        short, long = np.where(swap, j, i), np.where(swap, i, j)
        out = np.empty(len(i), dtype=np.int64)
        order = np.lexsort((self.lengths[long], self.lengths[short]))[::-1]  # what costs alike together
        for start in range(0, len(order), PAIRS):
            part = order[start : start + PAIRS]
            out[part] = self._edits(short[part], long[part])
        return out

    def _edits(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Of pairs in falling order of a's lengths, a the shorter text of each.

        A column of Levenshtein's table is kept as the signs of its differences, one bit per token of b, so a token of a
        costs a few operations on words of 64 bits (Myers 1999; Hyyrö 2003), here for all pairs at once.
        """
        n, m = self.lengths[a], self.lengths[b]
        tokens, pattern = self._ids[a, : n.max(initial=0)].T.copy(), self._ids[b, : m.max(initial=0)]
        one = np.uint64(1)
        last = np.maximum(m - 1, 0).astype(np.uint64)
        up, down = np.full(len(a), ~np.uint64(0)), np.zeros(len(a), dtype=np.uint64)
        out = m.copy()
        for place, token in enumerate(tokens):
            alive = slice(0, int(np.searchsorted(-n, -place, side="left")))  # those with a token here
            equal = _bits(pattern[alive] == token[alive, None])
            p, q = up[alive], down[alive]
            x = (((equal & p) + p) ^ p) | equal
            right, left = q | ~(x | p), p & x
            out[alive] += ((right >> last[alive]) & one).astype(np.int64) - ((left >> last[alive]) & one).astype(
                np.int64
            )
            right, left, x = (right << one) | one, left << one, equal | q
            up[alive], down[alive] = left | ~(x | right), right & x
        return out


def _bits(rows: np.ndarray) -> np.ndarray:
    """Booleans ``(P, L)``, L <= 64, as words ``(P,)`` uint64 of which bit l is column l."""
    words = np.zeros((len(rows), 8), dtype=np.uint8)
    packed = np.packbits(rows, axis=1, bitorder="little")
    words[:, : packed.shape[1]] = packed
    return words.view("<u8")[:, 0].astype(np.uint64)
