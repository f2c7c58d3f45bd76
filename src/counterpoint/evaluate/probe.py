"""The linear probe: how well a straight line through frozen embeddings separates the classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from counterpoint.errors import DataError

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Probe:
    """predicted: (N',) class of each test row. strength: the inverse regularisation C that was chosen."""

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
    if len(np.unique(labels)) < 2:
        raise DataError("The training rows are of one class only; a probe needs two. Check how the rows were split.")
    if not np.isfinite(train).all() or not np.isfinite(test).all():
        raise DataError("Some embeddings are not finite (NaN or infinity); a probe cannot be fitted. Check the model.")
    scale = StandardScaler(with_mean=standardise, with_std=standardise).fit(train)
    train, test = scale.transform(train), scale.transform(test)
    if validation is not None:
        held, truth = scale.transform(validation[0]), validation[1]
        fitted = {s: _fit(train, labels, s, steps) for s in strengths}
        strength = max(strengths, key=lambda s: float((fitted[s].predict(held) == truth).mean()))
        return Probe(fitted[strength].predict(test), strength)
    strength = strengths[0] if len(strengths) == 1 else _choose(train, labels, strengths, holdout, steps, seed)
    return Probe(_fit(train, labels, strength, steps).predict(test), strength)


def _choose(x: np.ndarray, y: np.ndarray, strengths: Sequence[float], holdout: float, steps: int, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(x))
    # A class's first row in the order stays in the fitted part, so that every class can be learned.
    first = np.unique(y[order], return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(order)), first)
    held = rest[len(rest) - round(holdout * len(order)) :] if len(rest) > holdout * len(order) else rest
    if not len(held):
        return strengths[len(strengths) // 2]  # one row per class: nothing to choose by
    held, fitted = order[held], np.delete(order, held)
    best, chosen = -1.0, strengths[0]
    for strength in sorted(strengths):
        right = float((_fit(x[fitted], y[fitted], strength, steps).predict(x[held]) == y[held]).mean())
        if right < best:
            break  # weaker penalties fit longest; past the turn they only over-fit more
        if right > best:
            best, chosen = right, strength
    return chosen


def _fit(x: np.ndarray, y: np.ndarray, strength: float, steps: int) -> LogisticRegression:
    with warnings.catch_warnings():
        # A weak penalty may stop at the step limit; the held-out rows judge what it has become by then.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=steps).fit(x, y)
