"""Telling pairs that belong together from pairs that do not, by their similarity."""

from __future__ import annotations

import numpy as np

from counterpoint.errors import DataError
from counterpoint.evaluate.intervals import Sample
from counterpoint.evaluate.similarity import cosines


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """``Σ_n (R_n − R_{n−1}) P_n`` over the thresholds; pairs with equal scores pass a threshold together.

    scores: ``(N,)``, higher for pairs that are the same. labels: ``(N,)`` of 0 and 1.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([1, 1, 0]))
    1.0
    """
    true, total = _passing(scores, labels)
    if not true[-1]:
        return float("nan")
    return float((np.diff(true, prepend=0) * true / total).sum() / true[-1])


def best_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """F1 at the threshold that suits these very pairs best: an upper bound of what a fixed threshold reaches.

    scores: ``(N,)``. labels: ``(N,)`` of 0 and 1.

    >>> best_f1(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
    0.8
    """
    true, total = _passing(scores, labels)
    return float((2 * true / (total + true[-1])).max())


def best_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy at the threshold that suits these very pairs best.

    scores: ``(N,)``. labels: ``(N,)`` of 0 and 1.

    >>> best_accuracy(np.array([0.9, 0.8, 0.1, 0.2]), np.array([1, 1, 0, 1]))
    1.0
    """
    true, total = _passing(scores, labels)
    n, positives = total[-1], true[-1]
    right = true + (n - positives) - (total - true)
    return float(max(right.max(), n - positives) / n)  # the last: no pair passes


def samples(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> dict[str, Sample]:
    """Metrics of the pairs' cosines. a, b: (N, D). labels: (N,) 1 where the pair belongs together, else 0.

    >>> z = np.eye(3)
    >>> found = samples(z, z[[0, 1, 0]], np.array([1, 1, 0]))
    >>> {name: sample.value for name, sample in found.items()}
    {'average precision': 1.0, 'best F1': 1.0, 'best accuracy': 1.0}
    """
    return of_scores(cosines(a, b), labels)


def of_scores(scores: np.ndarray, labels: np.ndarray) -> dict[str, Sample]:
    """The same of any scores (N,) of the pairs.

    labels: ``(N,)`` of 0 and 1.

    >>> sorted(of_scores(np.array([0.9, 0.8, 0.1]), np.array([1, 1, 0])))
    ['average precision', 'best F1', 'best accuracy']
    """
    labels = np.asarray(labels)
    if not np.isin(labels, (0, 1)).all() or labels.min() == labels.max():
        raise DataError(f"Pair labels must be 0 and 1, both of them; found {np.unique(labels)[:5].tolist()}.")
    pairs = (np.asarray(scores, dtype=np.float64), labels.astype(np.int64))
    return {
        "average precision": Sample(pairs, average_precision, (0, 1)),
        "best F1": Sample(pairs, best_f1, (0, 1)),
        "best accuracy": Sample(pairs, best_accuracy, (0, 1)),
    }


def _passing(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True pairs and all pairs at or above each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    return np.cumsum(labels[order])[last], last + 1
