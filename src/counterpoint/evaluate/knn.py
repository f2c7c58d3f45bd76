"""Classes of the nearest neighbours: what an embedding is worth without any training on top."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

from counterpoint.search.exact import top_k

Matrix: TypeAlias = "np.ndarray | sparse.csr_array"
"""``(N, F)``, a row of features for each item: embeddings, or what stands beside them."""

_BLOCK = 1_024


def votes(train: Matrix, labels: np.ndarray, test: Matrix, *, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """Weighted vote of the k nearest training rows (Wu et al., 2018): Σ exp(cosine / temperature), ``(N', C)``.

    train: (N, D), or a sparse matrix. labels: (N,) class numbers from 0. test: (N', D). Rows of the result sum to 1.
    train: ``(N, D)``. labels: ``(N,)``. test: ``(N', D)``.

    >>> train, labels = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    >>> votes(train, labels, np.array([[0.9, 0.1]]), k=2).argmax(1).tolist()
    [0]
    """
    cosine, near = nearest(test, train, k)
    # Shifted by the largest so that no power overflows; a common factor does not change a vote.
    weights = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
    classes = int(labels.max()) + 1
    cell = np.arange(test.shape[0])[:, None] * classes + labels[near]
    out = np.bincount(cell.ravel(), weights=weights.ravel(), minlength=test.shape[0] * classes).reshape(-1, classes)
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def predict(train: Matrix, labels: np.ndarray, test: Matrix, *, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """Class with the largest vote for each test row, ``(N',)``; of equal votes the smaller class number.

    train: ``(N, D)``. labels: ``(N,)``. test: ``(N', D)``. k: neighbours. temperature: of their votes.

    >>> train, labels = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    >>> predict(train, labels, np.array([[0.9, 0.1], [0.2, 0.8]]), k=1).tolist()
    [0, 1]
    """
    return np.asarray(votes(train, labels, test, k=k, temperature=temperature).argmax(axis=1))


def nearest(queries: Matrix, corpus: Matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and numbers ``(Q, min(k, M))`` of the rows of the corpus nearest to each query; equal ones by number.

    queries: (Q, D). corpus: (M, D). Both arrays, or both sparse matrices.

    >>> cosines, ids = nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0]]), 2)
    >>> ids.tolist(), [round(float(c), 3) for c in cosines[0]]
    ([[1, 0]], [0.707, 0.0])
    """
    if not sparse.issparse(corpus):
        return top_k(queries, corpus, k, metric="cosine")
    across, size = normalize(corpus).T.tocsr(), min(k, corpus.shape[0])
    scores = np.empty((queries.shape[0], size), dtype=np.float32)
    ids = np.empty((queries.shape[0], size), dtype=np.int64)
    for start in range(0, queries.shape[0], _BLOCK):
        part = slice(start, start + _BLOCK)
        found = (normalize(queries[part]) @ across).toarray()
        ids[part] = np.argsort(-found, axis=1, kind="stable")[:, :size]
        scores[part] = np.take_along_axis(found, ids[part], 1)
    return scores, ids
