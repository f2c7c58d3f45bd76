"""Candidates for pairs among the texts of one corpus: those that mean the like, and those that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from counterpoint.errors import DataError
from counterpoint.search.ann import Ann
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import top_k

EXACT = 200_000
"""Texts up to which every pair is looked at; beyond, an approximate index finds the neighbours."""


def neighbours(z: np.ndarray, k: int, *, of: range | None = None) -> np.ndarray:
    """Ids ``(N, min(k, N - 1))`` of each row's nearest others by cosine, nearest first; -1: not found.

    z: ``(N, D)`` float32. of: some of the rows, one after the other; only theirs are looked for, among all. Raises
    `DataError` where embeddings are not finite.

    >>> z = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=np.float32)
    >>> neighbours(z, 1).ravel().tolist()
    [1, 0, 1]
    """
    k, of = min(k, len(z) - 1), range(len(z)) if of is None else of
    if k < 1 or not of:
        return np.empty((len(of), max(k, 0)), dtype=np.int64)
    asked = z[of.start : of.stop]
    found = top_k(asked, z, k + 1, metric="cosine") if len(z) <= EXACT else Ann(z).search(asked, k + 1)
    return _others(found[1], k, of)


def lookalikes(texts: Sequence[str], k: int, *, of: range | None = None) -> np.ndarray:
    """Ids ``(N, min(k, N - 1))`` of the other texts with most words in common, weighed as BM25 does; -1: none. of: as
    in `neighbours`.

    >>> lookalikes(["a red cat", "a red dog", "one more thing"], 1)[:2].ravel().tolist()
    [1, 0]
    """
    k, of = min(k, len(texts) - 1), range(len(texts)) if of is None else of
    if k < 1 or not of:
        return np.empty((len(of), max(k, 0)), dtype=np.int64)
    try:
        index = BM25(texts)
    except DataError:  # not one word
        return np.full((len(of), k), -1)
    return _others(index.search(texts[of.start : of.stop], k + 1)[1], k, of)


def strangers(n: int, k: int, *, seed: int = 0) -> np.ndarray:
    """Ids ``(N, min(k, N - 1))`` of others drawn at random, with replacement.

    n: N. seed: of the draws.

    >>> ids = strangers(5, 2)
    >>> ids.shape, bool((ids == np.arange(5)[:, None]).any())
    ((5, 2), False)
    """
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0), dtype=np.int64)
    step = np.random.default_rng(seed).integers(1, n, (n, k))
    return (np.arange(n)[:, None] + step) % n


def products(z: np.ndarray, ids: np.ndarray, *, of: range | None = None, block: int = 1024) -> np.ndarray:
    """``z_i · z_j`` ``(N, K)`` float32 of each row with those that ``ids`` ``(N, K)`` names; 0 where it names none. of:
    the rows that are meant (None: all).

    z: ``(M, D)``. ids: numbers of rows, below 0 for none. block: rows handled at once.

    >>> products(np.eye(2, dtype=np.float32), np.array([[1], [-1]])).tolist()
    [[0.0], [0.0]]
    """
    first = 0 if of is None else of.start
    out = np.zeros(ids.shape, dtype=np.float32)
    for start in range(0, len(ids), block):
        part = ids[start : start + block]
        out[start : start + block] = np.einsum("nd,nkd->nk", z[first + start :][: len(part)], z[part])
    return np.where(ids >= 0, out, 0.0).astype(np.float32)


def _others(ids: np.ndarray, k: int, of: range) -> np.ndarray:
    """The first k of each row that are not the row itself, which equal ones may have pushed out."""
    own = ids == np.asarray(of)[:, None]
    return np.take_along_axis(ids, np.argsort(own, axis=1, kind="stable")[:, :k], axis=1)
