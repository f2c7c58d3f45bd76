"""Does the cosine of two embeddings follow people's judgement? Spearman's and Pearson's correlation."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from counterpoint.errors import DataError
from counterpoint.evaluate.intervals import Sample


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of row i of ``a (N, D)`` with row i of ``b (N, D)``, ``(N,)``; 0 where one of them is zero.

    Raises DataError for embeddings that are not finite.

    >>> cosines(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    if a.shape != b.shape:
        raise DataError(f"The two sides have shapes {a.shape} and {b.shape}; expected the same.")
    a, b = a.astype(np.float64), b.astype(np.float64)
    out = (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    if not np.isfinite(out).all():
        raise DataError(
            f"{int((~np.isfinite(out)).sum()):,} of {len(out):,} pairs have an embedding that is not finite."
        )
    return out


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation of ``x`` and ``y`` ``(N,)``; NaN where one of them is constant.

    >>> x = np.array([1.0, 2.0, 3.0])
    >>> round(pearson(x, 2 * x), 6), pearson(x, np.ones(3))
    (1.0, nan)
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # asked first: the mean of equal values may differ from them by rounding
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of the ranks, equal values sharing their mean rank; NaN where one side is constant.

    x, y: ``(N,)``.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 1000.0])), 6)
    1.0
    """
    return pearson(rankdata(x), rankdata(y))


def samples(a: np.ndarray, b: np.ndarray, scores: np.ndarray) -> dict[str, Sample]:
    """Both correlations of the pairs' cosines with their scores. a, b: (N, D). scores: (N,).

    >>> z = np.eye(3)
    >>> found = samples(z, z[[0, 1, 0]], np.array([5.0, 4.0, 0.0]))
    >>> {name: round(sample.value, 3) for name, sample in found.items()}
    {'spearman': 0.866, 'pearson': 0.982}
    """
    return of_scores(cosines(a, b), scores)


def of_scores(found: np.ndarray, scores: np.ndarray) -> dict[str, Sample]:
    """The same of any similarities ``found`` (N,) of the pairs.

    scores: (N,) gold ones.

    >>> sorted(of_scores(np.array([0.9, 0.8, 0.1]), np.array([5.0, 4.0, 0.0])))
    ['pearson', 'spearman']
    """
    pairs = (np.asarray(found, dtype=np.float64), np.asarray(scores, dtype=np.float64))
    return {"spearman": Sample(pairs, spearman, (-1, 1)), "pearson": Sample(pairs, pearson, (-1, 1))}
