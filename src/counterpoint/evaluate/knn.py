"""Classes of the nearest neighbours: what an embedding is worth without any training on top."""

from __future__ import annotations

import numpy as np

from counterpoint.search.exact import top_k


def votes(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, k: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Weighted vote of the k nearest training rows (Wu et al., 2018): Σ exp(cosine / temperature), ``(N', C)``.

    train: (N, D). labels: (N,) class numbers from 0. test: (N', D). Rows of the result sum to 1.
    """
    cosine, near = top_k(test, train, k, metric="cosine")
    # Shifted by the largest so that no power overflows; a common factor does not change a vote.
    weights = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
    classes = int(labels.max()) + 1
    cell = np.arange(len(test))[:, None] * classes + labels[near]
    out = np.bincount(cell.ravel(), weights=weights.ravel(), minlength=len(test) * classes).reshape(-1, classes)
    return out / out.sum(axis=1, keepdims=True)


def predict(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, k: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Class with the largest vote for each test row, ``(N',)``; of equal votes the smaller class number."""
    return votes(train, labels, test, k=k, temperature=temperature).argmax(axis=1)
