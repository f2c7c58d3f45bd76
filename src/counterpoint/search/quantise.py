"""Cheap vectors: fewer dimensions, fewer bits for each, and a second look at the best of them.

- The first dimensions alone, for models trained so that these do on their own (Kusupati et al. 2022, arXiv 2205.13147).
- int8: 256 steps between the least and the greatest value that a dimension has in the corpus.
- binary: the sign of each dimension, eight to a byte, compared by how many differ (Yamada et al. 2021, arXiv
  2106.00882, who also score the best again with the query as it is: `Vectors.rescored`).

Codes are those of other libraries' ``int8``, ``binary`` and ``ubinary`` (but int8 is rounded here, not floored).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np

from counterpoint.encoders.transforms import unit
from counterpoint.errors import ConfigError, DataError
from counterpoint.search.exact import INT8_SCALE, Run, top_k

Dtype: TypeAlias = Literal["float32", "float16", "int8", "binary", "ubinary"]
"""What a vector is kept as. ubinary: signs packed into uint8; binary: the same bits, the byte less 128, as int8."""
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
_STEPS = 255.0  # between the 256 values of an int8
_WORD = 8  # bytes that are compared at once
_SAMPLE = 4_096  # rows that tell the average one: its cosine is then off by a hundredth or two of their deviation


def truncated(x: np.ndarray, dim: int) -> np.ndarray:
    """The first ``dim`` dimensions of vectors ``(N, D)``, float32 of unit length; a vector of zeros stays one.

    Raises `ConfigError` where the vectors have not as many.

    x: the vectors.

    >>> [round(float(x), 2) for x in truncated(np.array([[3.0, 4.0, 12.0]]), 2)[0]]
    [0.6, 0.8]
    """
    if not 1 <= dim <= x.shape[1]:
        raise ConfigError(
            f"{dim} dimensions were asked of vectors that have {x.shape[1]}. Give a number from 1 to {x.shape[1]}."
        )
    return unit(np.asarray(x[:, :dim], dtype=np.float32))


def ranges_of(x: np.ndarray) -> np.ndarray:
    """Least and greatest value of each dimension of a corpus ``(M, D)``, ``(2, D)`` float32: what int8 is fitted to.

    Raises `DataError` for no vectors and for such as are not finite.

    x: the corpus.

    >>> ranges_of(np.array([[0.0, 1.0], [-1.0, 0.5]])).tolist()
    [[-1.0, 0.5], [0.0, 1.0]]
    """
    if x.ndim != 2 or not len(x):
        raise DataError(f"Vectors have shape {x.shape}; int8 needs (M, D) with at least one to fit its range to.")
    found = np.stack([x.min(axis=0), x.max(axis=0)]).astype(np.float32)
    if not np.isfinite(found).all():
        raise DataError("Some of the vectors are not finite (NaN or infinity). Check the model.")
    return found


def quantised(x: np.ndarray, dtype: Dtype, ranges: np.ndarray | None = None) -> np.ndarray:
    """Vectors ``(N, D)`` as codes: ``(N, D)``, or ``(N, ceil(D / 8))`` for binary and ubinary (the last byte is filled
    up with zero bits).

    ranges: of int8, from `ranges_of` (None: those of ``x`` itself). What lies beyond them is cut off. A positive
    dimension is a 1, zero and less a 0. x: the vectors. dtype: of the codes.

    >>> x = np.array([[0.5, -0.5, 0.1, -0.1, 0.2, 0.3, 0.4, 0.5]])
    >>> quantised(x, "ubinary").tolist(), quantised(x, "int8", np.array([[-1.0] * 8, [1.0] * 8])).shape
    ([[175]], (1, 8))
    """
    if dtype not in DTYPES:
        raise ConfigError(f"Vectors are kept as {', '.join(DTYPES)}; {dtype!r} was asked.")
    if dtype in ("float32", "float16"):
        return x.astype(dtype)
    if dtype == "int8":
        low, step = _scale(ranges_of(x) if ranges is None else ranges, x.shape[1])
        # A dimension that is the same everywhere has no step; its code is the least one, whatever comes later.
        return (np.clip(np.rint((x - low) / np.where(step > 0, step, np.inf)), 0, _STEPS) - 128).astype(np.int8)
    packed = np.packbits(x > 0, axis=1)
    return packed if dtype == "ubinary" else (packed ^ 128).view(np.int8)


def restored(codes: np.ndarray, dtype: Dtype, dim: int, ranges: np.ndarray | None = None) -> np.ndarray:
    """What codes stand for, ``(N, dim)`` float32: of int8 within half a step of what was there (within the range),
    of binary +1 and -1, scaled to unit length.

    ranges: of int8; None: codes are ``round(127 x)``, as indexes of format 1 have them. codes: as `quantised` gave
    them. dtype: of the codes.

    >>> x = np.array([[0.6, -0.8]], dtype=np.float32)
    >>> codes = quantised(x, "int8", np.array([[-1.0, -1.0], [1.0, 1.0]]))
    >>> bool(np.abs(restored(codes, "int8", 2, np.array([[-1.0, -1.0], [1.0, 1.0]])) - x).max() < 0.01)
    True
    """
    if dtype in ("float32", "float16"):
        return codes.astype(np.float32)
    if dtype == "int8":
        if ranges is None:
            return codes.astype(np.float32) / INT8_SCALE
        low, step = _scale(ranges, dim)
        return low + step * (codes.astype(np.float32) + 128)
    bits = np.unpackbits(_bytes(codes), axis=1, count=dim)
    return (2 * bits.astype(np.float32) - 1) / np.float32(dim**0.5)


def hamming(queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """How many bits differ, ``(Q, M)`` int32, of packed signs ``(Q, B)`` and ``(M, B)`` (int8 or uint8).

    queries, codes: of one width.

    >>> hamming(np.array([[0b1010]], dtype=np.uint8), np.array([[0b1010], [0b0101]], dtype=np.uint8)).tolist()
    [[0, 4]]
    """
    if queries.ndim != 2 or codes.ndim != 2 or queries.shape[1] != codes.shape[1]:
        raise DataError(f"Packed signs have shapes {queries.shape} and {codes.shape}; expected (Q, B) and (M, B).")
    a, b = _words(queries), _words(codes)
    out = np.zeros((len(a), len(b)), dtype=np.int32)
    for word in range(a.shape[1]):
        out += np.bitwise_count(a[:, word, None] ^ b[None, :, word])
    return out


def hamming_top_k(
    queries: np.ndarray, codes: np.ndarray, k: int, *, block: int = 65_536, query_block: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Distances ``(Q, min(k, M))`` int32, ascending, and ids; equal distances are ordered by id.

    Working memory is about ``20·block·query_block`` bytes, whatever M and Q are.

    queries, codes: packed signs ``(Q, B)`` and ``(M, B)``. k: results wanted. block, query_block: rows handled at once.

    >>> queries, codes = np.array([[0b1010]], dtype=np.uint8), np.array([[0b0101], [0b1011]], dtype=np.uint8)
    >>> distances, ids = hamming_top_k(queries, codes, 1)
    >>> distances.tolist(), ids.tolist()
    ([[1]], [[1]])
    """
    if k < 1:
        raise ConfigError(f"k is {k}; the number of results wanted must be at least 1.")
    size = min(k, len(codes))
    found = np.empty((len(queries), size), dtype=np.int64)
    for first in range(0, len(queries), query_block):
        some = slice(first, first + query_block)
        best = np.empty((len(queries[some]), 0), dtype=np.int64)
        for start in range(0, len(codes), block):
            part = codes[start : start + block]
            # One number that orders by distance, then by id: ties need no more care.
            keys = (hamming(queries[some], part).astype(np.int64) << 40) + np.arange(start, start + len(part))
            best = np.concatenate([best, _least(keys, size)], axis=1)
        found[some] = np.sort(_least(best, size), axis=1)
    return (found >> 40).astype(np.int32), found & ((1 << 40) - 1)


@dataclass(frozen=True, eq=False)
class Vectors:
    """A corpus of M vectors as it is kept.

    codes: ``(M, B)``, in memory or mapped from a file. dim: dimensions of the vectors that they stand for. ranges:
    ``(2, dim)`` of int8; None: of format 1 (see `restored`). dtype: of the codes.

    >>> z = truncated(np.random.default_rng(0).normal(size=(100, 64)), 64)
    >>> kept = Vectors.of(z, "int8")
    >>> kept.bytes, kept.nearest(z[:3], 1)[1].ravel().tolist()
    (64, [0, 1, 2])
    """

    codes: np.ndarray
    dtype: Dtype
    dim: int
    ranges: np.ndarray | None = None

    @classmethod
    def of(cls, x: np.ndarray, dtype: Dtype = "float32", *, dim: int | None = None) -> Vectors:
        """Vectors ``(M, D)`` of unit length, cut to ``dim`` dimensions and made cheap; int8 is fitted to them.

        x: the vectors. dtype: of the codes.
        """
        x = x if dim is None or dim == x.shape[1] else truncated(x, dim)
        ranges = ranges_of(x) if dtype == "int8" else None
        return cls(quantised(x, dtype, ranges), dtype, x.shape[1], ranges)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def bytes(self) -> int:
        """Of one vector."""
        return int(self.codes.shape[1] * self.codes.dtype.itemsize)

    def floats(self, which: np.ndarray | slice) -> np.ndarray:
        """What some of the vectors stand for, ``(N, dim)`` float32.

        which: numbers, or a slice.
        """
        return restored(np.asarray(self.codes[which]), self.dtype, self.dim, self.ranges)

    def nearest(self, queries: np.ndarray, k: int) -> Run:
        """The ``min(k, M)`` best for queries ``(Q, dim)`` float32 of unit length, equal scores ordered by id.

        Of signs, the query's are compared too, and the score is the cosine of both, ``1 - 2 · distance / dim``; else
        it is the product of the query as it is with what the codes stand for.
        """
        if self.dtype in ("binary", "ubinary"):
            distance, ids = hamming_top_k(quantised(queries, self.dtype), self.codes, k)
            return (1 - 2 * distance / self.dim).astype(np.float32), ids
        if self.dtype != "int8" or self.ranges is None:
            return top_k(queries, self.codes, k)
        # q·(low + step·(c + 128)): the steps go into the query, and no float copy of the corpus is made.
        low, step = _scale(self.ranges, self.dim)
        scores, ids = top_k(queries * step * np.float32(INT8_SCALE), self.codes, k)
        return scores + (queries @ (low + 128 * step))[:, None], ids

    def scored(self, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The scores that `nearest` gives the rows ``ids (Q, K)``, ``(Q, K)`` float32; -inf for id -1.

        queries: unit vectors ``(Q, dim)``.
        """
        asked = self._as_compared(queries)
        out = np.full(ids.shape, -np.inf, dtype=np.float32)
        for row, (query, found) in enumerate(zip(asked, ids)):
            out[row, found >= 0] = self.floats(found[found >= 0]) @ query
        return out

    def average(self, queries: np.ndarray) -> np.ndarray:
        """The mean of the scores that `nearest` gives rows, ``(Q,)``; of many rows, of some spread evenly.

        queries: unit vectors ``(Q, dim)``.
        """
        return self._as_compared(queries).astype(np.float64) @ self._mean

    @cached_property
    def _mean(self) -> np.ndarray:
        some = np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64)
        return self.floats(some).mean(axis=0, dtype=np.float64)  # type: ignore[no-any-return]

    def _as_compared(self, queries: np.ndarray) -> np.ndarray:
        """Queries ``(Q, dim)`` as `nearest` compares them with what the codes stand for."""
        signs = self.dtype in ("binary", "ubinary")
        return restored(quantised(queries, self.dtype), self.dtype, self.dim) if signs else queries

    def rescored(self, queries: np.ndarray, ids: np.ndarray, k: int) -> Run:
        """The ``min(k, K)`` best of each query's candidates ``(Q, K)`` (-1: none), scored by the query as it is.

        queries: unit vectors ``(Q, dim)``. ids: of the candidates. k: results wanted.
        """
        size = min(k, ids.shape[1])
        scores = np.full((len(ids), size), -np.inf, dtype=np.float32)
        chosen = np.full((len(ids), size), -1, dtype=np.int64)
        for row, (query, found) in enumerate(zip(queries, ids)):
            found = np.sort(found[found >= 0])  # so that equal scores are ordered by id
            if len(found):
                best, place = top_k(query[None], self.floats(found), size)
                scores[row, : best.shape[1]], chosen[row, : best.shape[1]] = best[0], found[place[0]]
        return scores, chosen


def blank(x: np.ndarray) -> int:
    """How many vectors of ``(N, D)`` are all zero: they have a sign in no dimension, and rank anywhere as binary.

    x: the vectors.

    >>> blank(np.array([[0.0, 0.0], [1.0, 0.0]]))
    1
    """
    return int((~x.any(axis=1)).sum())


def check_dims(dims: Sequence[int], width: int) -> None:
    """Raise `ConfigError` for dimensions that vectors of this width do not have.

    dims: that are asked for. width: D.

    >>> check_dims([64, 128], 256)
    """
    for dim in dims:
        if not 1 <= dim <= width:
            raise ConfigError(f"--dim {dim}: this model's embeddings have {width} dimensions; give 1 to {width}.")


def _scale(ranges: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    if ranges.shape != (2, dim):
        raise DataError(f"The ranges have shape {ranges.shape}; vectors of {dim} dimensions need (2, {dim}).")
    low, high = ranges.astype(np.float32)
    return low, (high - low) / np.float32(_STEPS)


def _bytes(codes: np.ndarray) -> np.ndarray:
    """Packed signs as uint8."""
    return codes if codes.dtype == np.uint8 else codes.view(np.uint8) ^ 128


def _words(codes: np.ndarray) -> np.ndarray:
    """Packed signs ``(N, B)`` as ``(N, ceil(B / 8))`` uint64, filled up with zeros, which differ in nothing."""
    codes = np.ascontiguousarray(codes).view(np.uint8)
    if rest := -codes.shape[1] % _WORD:
        # int8 codes have 128 added to every byte on both sides, which cancels; so do equal fillings.
        codes = np.pad(codes, ((0, 0), (0, rest)))
    return codes.view(np.uint64)


def _least(x: np.ndarray, k: int) -> np.ndarray:
    return x if x.shape[1] <= k else np.partition(x, k - 1, axis=1)[:, :k]
