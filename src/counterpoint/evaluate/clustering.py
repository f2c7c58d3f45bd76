"""Do the classes lie in clusters? k-means on the embeddings, compared with the labels."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

from counterpoint.errors import DataError
from counterpoint.evaluate.intervals import Sample


def kmeans(x: np.ndarray, k: int, *, restarts: int = 4, seed: int = 0) -> np.ndarray:
    """Cluster of each row, ``(N,)``: k-means on unit vectors, the best of several starts. x: (N, D)."""
    if not np.isfinite(x).all():
        raise DataError("Some embeddings are not finite (NaN or infinity); they cannot be clustered. Check the model.")
    if not 1 <= k <= len(x):
        raise DataError(f"{len(x)} rows cannot form {k} clusters.")
    return KMeans(k, n_init=restarts, random_state=seed).fit_predict(normalize(x.astype(np.float32)))


def homogeneity(labels: np.ndarray, clusters: np.ndarray) -> float:
    """1 − H(labels | clusters) / H(labels): 1 where every cluster holds one class."""
    table = _table(labels, clusters)
    entropy = _entropy(table.sum(axis=1))
    return 1.0 if entropy == 0 else _information(table) / entropy


def v_measure(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Harmonic mean of homogeneity and completeness (Rosenberg & Hirschberg, 2007)."""
    h, c = homogeneity(labels, clusters), homogeneity(clusters, labels)
    return 2 * h * c / (h + c) if h + c else 0.0


def nmi(labels: np.ndarray, clusters: np.ndarray) -> float:
    """I(labels; clusters) / √(H(labels) · H(clusters)), Strehl & Ghosh (2002).

    The geometric mean, since with the arithmetic one it would be the V-measure again.
    """
    table = _table(labels, clusters)
    a, b = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if a == 0 and b == 0:
        return 1.0
    return _information(table) / float(np.sqrt(a * b)) if a * b else 0.0


def ari(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Adjusted Rand index (Hubert & Arabie, 1985): agreement on pairs of rows, 0 by chance, 1 when equal."""
    table = _table(labels, clusters)
    cells, rows, columns = (_pairs(x) for x in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / _pairs(table.sum())
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((cells - expected) / (most - expected))


def accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Share of rows whose cluster stands for their class, under the best one-to-one match of clusters with classes.

    Clusters (or classes) that are left over, where their numbers differ, match nothing. labels, clusters: (N,).
    """
    table = _table(labels, clusters)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def samples(labels: np.ndarray, clusters: np.ndarray) -> dict[str, Sample]:
    """The metrics of a clustering. labels, clusters: (N,).

    Intervals of these resample the rows of this one clustering; they do not cover the luck of k-means.
    """
    pair = (np.asarray(labels), np.asarray(clusters))
    return {"nmi": Sample(pair, nmi), "ari": Sample(pair, ari), "v-measure": Sample(pair, v_measure)}


def _table(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many rows are in class i and cluster j, as floats."""
    width = int(b.max()) + 1
    counts = np.bincount(a.astype(np.int64) * width + b).astype(np.float64)
    return np.pad(counts, (0, -len(counts) % width)).reshape(-1, width)


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _information(table: np.ndarray) -> float:
    joint = _entropy(table.ravel())
    return max(0.0, _entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0)) - joint)


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())
