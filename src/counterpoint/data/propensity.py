"""Inverse propensity weighting: candidates drawn by how well they fit, and the less often the better they are found.

A rule that picks candidates by one property (words in common) makes a sample in which this property comes too often.
Dividing by the probability that the rule would have picked a candidate, its propensity, gives the sample without it.
All functions take one row per anchor and one column per candidate.

Sources: Horvitz & Thompson 1952; Schnabel et al. 2016, arXiv 1602.05352 (self-normalised and clipped weights).
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from counterpoint.errors import ConfigError, DataError

Weights: TypeAlias = Literal["ipw", "uniform", "semantic", "surface"]
"""What candidates are drawn by; see `debiased`."""


def softmax(scores: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """``exp(s_ij) / Σ_j exp(s_ij)`` over the entries ``where`` is True, 0 elsewhere; a row without any is all 0.

    scores, where: ``(N, K)``. Returns ``(N, K)`` float64.
    """
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores if where is None else np.where(where, scores, -np.inf)
    top = scores.max(axis=1, keepdims=True, initial=-np.inf)
    raised = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    return normalised(raised)


def ipw(relevance: np.ndarray, propensity: np.ndarray | None, *, clip: float = 0.01) -> np.ndarray:
    """Self-normalised weights ``w_ij ∝ relevance_ij / max(propensity_ij, clip)``, every row summing to 1.

    relevance: ``(N, K)`` >= 0, what a candidate should be drawn by; 0 keeps it out. A row of zeros has weights 0.
    propensity: ``(N, K)``, the probability that the rule to be undone picks it; None: uniform. clip: the smallest
    propensity that counts, so no weight is above ``relevance / clip`` before it is normalised.

    >>> ipw(np.array([[0.5, 0.5, 0.0]]), np.array([[0.8, 0.2, 0.0]]))
    array([[0.2, 0.8, 0. ]])
    """
    if not 0 < clip <= 1:
        raise ConfigError(f"clip={clip}: give a probability above 0 and at most 1, e.g. 0.01.")
    if (relevance < 0).any() or not np.isfinite(relevance).all():
        raise DataError("A relevance is negative, infinite or NaN; weights are made of numbers from 0 up.")
    return normalised(relevance if propensity is None else relevance / np.maximum(propensity, clip))


def debiased(
    meaning: np.ndarray,
    looks: np.ndarray,
    *,
    kept: np.ndarray,
    there: np.ndarray,
    by: Weights = "ipw",
    clip: float = 0.01,
) -> np.ndarray:
    """What candidates of which nobody knows the labels are drawn with: by what they mean, the less the more they were
    found by their looks alone.

    meaning, looks: ``(N, K)``, similarities as they are to count, divided by their temperatures: relevance is
    ``softmax(meaning)`` over those ``kept``, propensity ``softmax(looks)`` over those that are ``there``. by: ``ipw``,
    relevance over propensity; or, to compare, ``semantic``, relevance alone; ``surface``, 1 / propensity of all that
    are there; ``uniform``, all that are kept alike. clip: see `ipw`. Returns ``(N, K)``.

    Source: Miao et al. 2023 (DebCSE), arXiv 2309.07396; the functions are our reading of it.
    """
    if by not in get_args(Weights):
        raise ConfigError(f"weights={by!r}: type {', '.join(get_args(Weights)[:-1])} or {get_args(Weights)[-1]}.")
    if by == "uniform":
        return ipw(kept.astype(np.float64), None)
    propensity = softmax(looks, there)
    if by == "surface":
        return ipw(there.astype(np.float64), propensity, clip=clip)
    return ipw(softmax(meaning, kept), propensity if by == "ipw" else None, clip=clip)


def normalised(weights: np.ndarray) -> np.ndarray:
    """Rows that sum to 1; those of zeros stay zeros.

    weights: ``(N, M)``, at least 0.
    """
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def effective(weights: np.ndarray) -> np.ndarray:
    """``(Σ w)² / Σ w²`` of each row, ``(N,)``: how many candidates the weights are spread over; 0 where all are 0."""
    squares = np.square(weights).sum(axis=1)
    return np.square(weights.sum(axis=1)) / np.where(squares > 0, squares, 1.0)


def draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A column of each row, ``(N,)`` int64, with the probability of its weight; -1 where all weights are 0.

    weights: ``(N, M)``, at least 0. rng: every draw comes from it.
    """
    if weights.shape[1] == 0:
        return np.full(len(weights), -1)
    sums = np.cumsum(weights, axis=1, dtype=np.float64)
    at = (sums <= (rng.random(len(weights)) * sums[:, -1])[:, None]).sum(axis=1)
    return np.where(sums[:, -1] > 0, np.minimum(at, weights.shape[1] - 1), -1)
