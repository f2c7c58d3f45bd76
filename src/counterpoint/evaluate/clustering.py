"""Do the classes lie in clusters? k-means on the embeddings, compared with the labels."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize

from counterpoint.errors import DataError
from counterpoint.evaluate.intervals import Sample


def kmeans(x: np.ndarray | sparse.csr_array, k: int, *, restarts: int = 4, seed: int = 0) -> np.ndarray:
    """Cluster of each row, ``(N,)``: k-means on unit vectors, the best of several starts. x: (N, D), perhaps sparse.

    restarts: starts. seed: of the starts.

    >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> clusters = kmeans(x, 2)
    >>> bool(clusters[0] == clusters[1] != clusters[2] == clusters[3])
    True
    """
    if not np.isfinite(x.data if sparse.issparse(x) else x).all():
        raise DataError("Some embeddings are not finite (NaN or infinity); they cannot be clustered. Check the model.")
    if not 1 <= k <= x.shape[0]:
        raise DataError(f"{x.shape[0]} rows cannot form {k} clusters.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters: some stay empty
        found = KMeans(k, n_init=restarts, random_state=seed).fit_predict(normalize(x.astype(np.float32)))
    return np.asarray(found)


def nmi(labels: np.ndarray, clusters: np.ndarray) -> float:
    """2 I(labels; clusters) / (H(labels) + H(clusters)): normalised mutual information with the arithmetic mean.

    As scikit-learn's `normalized_mutual_info_score`; the V-measure is the same number. It is not adjusted for chance:
    random clusters of few rows score above 0, the more the fewer rows there are.

    labels, clusters: ``(N,)``.

    >>> nmi(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3])), nmi(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    (1.0, 0.0)
    """
    table = _table(labels, clusters)
    entropies = _entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0))
    return 2 * _information(table) / entropies if entropies else 1.0


def ari(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Adjusted Rand index (Hubert & Arabie, 1985): agreement on pairs of rows, 0 by chance, 1 when equal.

    1 for a single row, as scikit-learn's `adjusted_rand_score`.

    labels: ``(N,)`` true classes. clusters: ``(N,)`` numbers.

    >>> ari(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3]))
    1.0
    """
    table = _table(labels, clusters)
    cells, rows, columns = (_pairs(x) for x in (table, table.sum(axis=1), table.sum(axis=0)))
    if not (pairs := _pairs(table.sum())):
        return 1.0
    expected = rows * columns / pairs
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((cells - expected) / (most - expected))


def accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Share of rows whose cluster stands for their class, under the best one-to-one match of clusters with classes.

    Clusters (or classes) that are left over, where their numbers differ, match nothing. labels, clusters: (N,).

    >>> accuracy(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 7]))
    0.75
    """
    table = _table(labels, clusters)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def samples(labels: np.ndarray, clusters: np.ndarray) -> dict[str, Sample]:
    """The metrics of a clustering. labels, clusters: (N,).

    Intervals of these are about as many other rows of this one clustering; they do not cover the luck of k-means.

    >>> sorted(samples(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3])))
    ['ari', 'nmi']
    """
    pair = (np.asarray(labels), np.asarray(clusters))
    return {"nmi": Sample(pair, nmi, (0, 1)), "ari": Sample(pair, ari, (-1, 1))}


def _table(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many rows are in class i and cluster j, as floats."""
    rows, width = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a.astype(np.int64) * width + b, minlength=rows * width).astype(np.float64).reshape(rows, width)


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _information(table: np.ndarray) -> float:
    joint = _entropy(table.ravel())
    return max(0.0, _entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0)) - joint)


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())
