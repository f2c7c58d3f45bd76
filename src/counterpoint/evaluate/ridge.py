"""Ridge regression from features to several targets, its strength chosen on other rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.errors import DataError

STRENGTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@dataclass(frozen=True, eq=False)
class Ridge:
    """weight: (F, K). bias: (K,). strength: the penalty that was chosen."""

    weight: np.ndarray
    bias: np.ndarray
    strength: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Targets ``(N, K)`` of features ``(N, F)``.

        x: of the same F as those it was fitted to.
        """
        return x @ self.weight + self.bias


def fit(
    x: np.ndarray, y: np.ndarray, *, validation: tuple[np.ndarray, np.ndarray], strengths: Sequence[float] = STRENGTHS
) -> Ridge:
    """``argmin |x w + b - y|² + strength |w|²`` of features ``(N, F)`` and targets ``(N, K)``; the strength with the
    smallest root mean square plus mean absolute error on the validation rows (features, targets).

    One decomposition of the features serves all strengths. Source of the choice: Yue et al. 2022 (TS2Vec),
    arXiv 2106.10466.

    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> y = x @ np.array([[1.0], [2.0], [0.0]]) + 5
    >>> fitted = fit(x[:40], y[:40], validation=(x[40:], y[40:]))
    >>> bool(np.abs(fitted.predict(x[40:]) - y[40:]).max() < 0.5)
    True
    """
    if len(x) != len(y) or not len(x) or not len(validation[0]):
        raise DataError(f"{len(x)} rows of features, {len(y)} of targets, {len(validation[0])} to choose by: too few.")
    centre, target = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
    a, b = x - centre, y - target
    values, vectors = np.linalg.eigh(a.T @ a)
    turned = vectors.T @ (a.T @ b)
    held, truth = (validation[0] - centre) @ vectors, validation[1] - target
    best: tuple[float, float] | None = None
    for strength in strengths:
        error = held @ (turned / (values.clip(0)[:, None] + strength)) - truth
        score = float(np.sqrt((error**2).mean()) + np.abs(error).mean())
        if best is None or score < best[0]:
            best = score, strength
    assert best is not None
    weight = vectors @ (turned / (values.clip(0)[:, None] + best[1]))
    return Ridge(weight, target - centre @ weight, best[1])
