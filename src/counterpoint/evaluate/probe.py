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
WIDE = 1_024
"""Columns above which features beside the model's have a ridge regression, which is as good on many and much faster."""
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
    folds: int = 1,
) -> Probe:
    """Multinomial logistic regression on features standardised by the training rows' mean and deviation.

    train: (N, D). labels: (N,). test: (N', D). C is taken from ``strengths``, from the smallest up until accuracy on a
    held-out share of the *training* rows falls; then all of them are fitted again: the test rows decide nothing.
    validation: embeddings (V, D) and labels (V,) that choose C instead. standardise: False takes features as they are.
    folds: several choose C by cross-validation instead, as few rows held out once say little (see `folds_for`).
    holdout: the held-out share. steps: of L-BFGS, at most. seed: of the rows that are held out.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> x = rng.normal(size=(60, 4)) + 3 * labels[:, None]
    >>> found = predict(x[:40], labels[:40], x[40:], strengths=(0.1, 1.0))
    >>> bool((found.predicted == labels[40:]).mean() > 0.9)
    True
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
    strength = _choose(train, labels, sorted(strengths), fit, holdout=holdout, folds=folds, seed=seed)
    return Probe(fit(train, labels, strength).predict(test), strength)


def folds_for(train: Matrix, labels: np.ndarray) -> int:
    """Five where rows are few, but not too few to be parted, and so many fits take seconds; else one.

    train: ``(N, D)``. labels: ``(N,)``.

    >>> folds_for(np.zeros((100, 4)), np.arange(100) % 2)
    5
    """
    work = train.shape[0] * train.shape[1] * len(np.unique(labels))
    return 5 if 10 <= train.shape[0] < 500 and work <= 1_000_000 else 1


def ridge(
    train: Matrix,
    labels: np.ndarray,
    test: Matrix,
    *,
    penalties: Sequence[float] | None = None,
    holdout: float = 0.2,
    seed: int = 0,
) -> Probe:
    """Ridge regression to the classes, one against the others.

    train: (N, D), or a sparse matrix, rows of about unit length. labels: (N,). test: (N', D). penalties: of which one
    is chosen as the strength of `predict` is (None: `PENALTIES`; of those for sparse rows, the ones from 1 up, as
    weaker ones are never better on words and take long). holdout: share of training rows that choose the penalty. seed:
    of which ones.

    >>> labels = np.arange(60) % 2
    >>> x = np.random.default_rng(0).normal(size=(60, 4)) + 3 * labels[:, None]
    >>> bool((ridge(x[:40], labels[:40], x[40:]).predicted == labels[40:]).mean() > 0.9)
    True
    """
    _check(labels, train, test)
    penalties = penalties or [p for p in PENALTIES if p >= 1 or not sparse.issparse(train)]
    penalty = _choose(train, labels, sorted(penalties, reverse=True), _ridge, holdout=holdout, seed=seed)
    return Probe(_ridge(train, labels, penalty).predict(test), penalty)


def linear(train: Matrix, labels: np.ndarray, test: Matrix, *, seed: int = 0) -> Probe:
    """The linear model that suits features: `predict`, or `ridge` where they are sparse or have more than `WIDE`
    columns. train: (N, D). labels: (N,). test: (N', D).

    seed: as of those.

    >>> labels = np.arange(60) % 2
    >>> x = np.random.default_rng(0).normal(size=(60, 4)) + 3 * labels[:, None]
    >>> linear(x[:40], labels[:40], x[40:]).predicted.shape
    (20,)
    """
    wide = sparse.issparse(train) or train.shape[1] > WIDE
    if wide:
        return ridge(train, labels, test, seed=seed)
    return predict(train, labels, test, seed=seed, folds=folds_for(train, labels))


def trees(train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Class of each test row ``(N',)`` by boosted trees: 100 rounds, fewer where there are more than ten classes, each
    of which has a tree in every round.

    train: ``(N, D)``. labels: ``(N,)``. test: ``(N', D)``. seed: of the trees.

    >>> labels = np.arange(60) % 2
    >>> trees(labels[:40, None] + 0.0, labels[:40], labels[40:, None] + 0.0).tolist() == labels[40:].tolist()
    True
    """
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


def _choose(
    x: Any, y: np.ndarray, strengths: Sequence[float], fit: Fit, *, holdout: float, seed: int, folds: int = 1
) -> float:
    """Of strengths, the simplest model first, the last one before accuracy on a held-out share of the rows falls; or
    the one that is best over several folds, the simplest of equal ones."""
    if len(strengths) == 1:
        return strengths[0]
    order = np.random.default_rng(seed).permutation(len(y))
    if folds > 1:
        return max(strengths, key=lambda strength: _right_over_folds(x, y, order, folds, fit, strength))
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


def _right_over_folds(x: Any, y: np.ndarray, order: np.ndarray, folds: int, fit: Fit, strength: float) -> int:
    """Rows that are classified rightly by what learned from the other folds."""
    right = 0
    for fold in (order[i::folds] for i in range(folds)):
        rest = np.setdiff1d(order, fold)
        if len(np.unique(y[rest])) > 1:
            right += int((fit(x[rest], y[rest], strength).predict(x[fold]) == y[fold]).sum())
    return right


def _logistic(x: Any, y: np.ndarray, strength: float, *, steps: int) -> LogisticRegression:
    with warnings.catch_warnings():
        # A weak penalty may stop at the step limit; the held-out rows judge what it has become by then.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=steps).fit(x, y)


def _ridge(x: Any, y: np.ndarray, penalty: float) -> RidgeClassifier:
    if sparse.issparse(x):
        return RidgeClassifier(alpha=penalty, solver="lsqr", tol=1e-2).fit(x, y)
    return RidgeClassifier(alpha=penalty).fit(x.astype(np.float64), y)  # exactly, where float32 would be singular
