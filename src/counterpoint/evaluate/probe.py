"""The linear probe: how well a straight line through frozen embeddings separates the classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import StandardScaler

from counterpoint.errors import DataError
from counterpoint.evaluate.knn import Matrix

Fit: TypeAlias = Callable[[Any, np.ndarray, float], Any]
"""Features, labels and a strength to what predicts."""

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Of a ridge on rows of about unit length, from the strongest down."""


@dataclass(frozen=True)
class Probe:
    """predicted: (N',) class of each test row. strength: what was chosen: C of a logistic regression (the inverse of
    its regularisation), the penalty of a ridge."""

    predicted: np.ndarray
    strength: float


def predict(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    strengths: Sequence[float] = STRENGTHS,
    holdout: float = 0.2,
    steps: int = 200,
    seed: int = 0,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    standardise: bool = True,
) -> Probe:
    """Multinomial logistic regression on features standardised by the training rows' mean and deviation.

    train: (N, D). labels: (N,). test: (N', D). C is taken from ``strengths``, from the smallest up until accuracy
    on a held-out share of the *training* rows falls; then all of them are fitted again: the test rows decide nothing.
    validation: embeddings (V, D) and labels (V,) that choose C instead. standardise: False takes features as they are.
    """
    _check(labels, train, test)
    scale = StandardScaler(with_mean=standardise, with_std=standardise).fit(train)
    train, test = scale.transform(train), scale.transform(test)
    if validation is not None:
        held, truth = scale.transform(validation[0]), validation[1]
        fitted = {s: _logistic(train, labels, s, steps=steps) for s in strengths}
        strength = max(strengths, key=lambda s: float((fitted[s].predict(held) == truth).mean()))
        return Probe(fitted[strength].predict(test), strength)
    fit = partial(_logistic, steps=steps)
    strength = _choose(train, labels, sorted(strengths), fit, holdout=holdout, seed=seed)
    return Probe(fit(train, labels, strength).predict(test), strength)


def ridge(
    train: Matrix,
    labels: np.ndarray,
    test: Matrix,
    *,
    penalties: Sequence[float] = PENALTIES,
    holdout: float = 0.2,
    seed: int = 0,
) -> Probe:
    """Ridge regression to the classes, one against the others: as good as the logistic one on many features, at a tenth
    of its time.

    train: (N, D), or a sparse matrix, rows of about unit length. labels: (N,). test: (N', D). The penalty is chosen as
    the strength of `predict` is.
    """
    _check(labels, train, test)
    penalty = _choose(train, labels, sorted(penalties, reverse=True), _ridge, holdout=holdout, seed=seed)
    return Probe(_ridge(train, labels, penalty).predict(test), penalty)


def trees(train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Class of each test row ``(N',)`` by boosted trees: 100 rounds, fewer where there are more than ten classes, each
    of which has a tree in every round."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes as long to import as all else here

    _check(labels, train, test)
    rounds = max(10, min(100, 1_000 // len(np.unique(labels))))
    found = HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False, random_state=seed).fit(train, labels)
    predicted: np.ndarray = found.predict(test)
    return predicted


def _check(labels: np.ndarray, *features: Matrix) -> None:
    if len(np.unique(labels)) < 2:
        raise DataError("The training rows are of one class only; a probe needs two. Check how the rows were split.")
    if not all(np.isfinite(x.data if sparse.issparse(x) else x).all() for x in features):
        raise DataError("Some embeddings are not finite (NaN or infinity); a probe cannot be fitted. Check the model.")


def _choose(x: Any, y: np.ndarray, strengths: Sequence[float], fit: Fit, *, holdout: float, seed: int) -> float:
    """Of strengths, the simplest model first, the last one before accuracy on a held-out share of the rows falls."""
    if len(strengths) == 1:
        return strengths[0]
    order = np.random.default_rng(seed).permutation(len(y))
    # A class's first row in the order stays in the fitted part, so that every class can be learned.
    first = np.unique(y[order], return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(order)), first)
    held = rest[len(rest) - round(holdout * len(order)) :] if len(rest) > holdout * len(order) else rest
    if not len(held):
        return strengths[len(strengths) // 2]  # one row per class: nothing to choose by
    held, fitted = order[held], np.delete(order, held)
    best, chosen = -1.0, strengths[0]
    for strength in strengths:
        right = float((fit(x[fitted], y[fitted], strength).predict(x[held]) == y[held]).mean())
        if right < best:
            break  # weaker penalties fit longest; past the turn they only over-fit more
        if right > best:
            best, chosen = right, strength
    return chosen


def _logistic(x: Any, y: np.ndarray, strength: float, *, steps: int) -> LogisticRegression:
    with warnings.catch_warnings():
        # A weak penalty may stop at the step limit; the held-out rows judge what it has become by then.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=steps).fit(x, y)


def _ridge(x: Any, y: np.ndarray, penalty: float) -> RidgeClassifier:
    return RidgeClassifier(alpha=penalty, tol=1e-3).fit(x, y)
