"""From the reductions of the pair matrix to losses: formulas on vectors of N values, differentiated by torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from counterpoint.kernels.reference import lse
from counterpoint.kernels.tile import Asked, Form, Sums
from counterpoint.objectives.rules import Pairing
from counterpoint.objectives.weights import Debiased, Decoupled


def asked(pairing: Pairing, form: Form, *, both: bool, linear: bool, watched: bool) -> Asked:
    """The reductions a loss needs. linear: the caller works out ``sum_j T S`` without tiles."""
    split = pairing.one(Debiased) is not None or unit_mean(pairing)
    return Asked(
        form=form,
        both=both,
        dot=not linear and form != "marginal",
        positives=form == "marginal" or split,
        negatives=split or pairing.one(Decoupled) is not None,
        counts=split or watched or (form == "sigmoid" and bool(pairing.masks)),
        weights=unit_mean(pairing),
    )


def unit_mean(pairing: Pairing) -> bool:
    return any(weight.unit_mean for weight in pairing.weights)


def losses(form: Form, sums: Sums, pairing: Pairing, candidates: int | Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Loss ``(N,)`` of each row and whether it counts ``(N,)`` bool; a row that does not has loss 0 and gradient 0.

    candidates: number of columns that were reduced. scale: ``()`` or ``(N,)``.
    """
    if form == "sigmoid":
        assert sums.dot is not None
        counts = torch.ones_like(sums.over, dtype=torch.bool) if sums.n_dropped is None else sums.n_dropped < candidates
        return (sums.over - sums.dot).where(counts, 0), counts
    over = log_denominator(sums, pairing, candidates, scale)
    if form == "marginal":
        assert sums.positives is not None
        counts = (sums.positives > -torch.inf) & (over > -torch.inf)
        return finite(over, counts) - finite(sums.positives, counts), counts
    assert sums.dot is not None
    assert sums.total is not None
    counts = (sums.total > 0) & (over > -torch.inf)
    over, total = finite(over, counts), sums.total.where(counts, 1)
    loss = over - sums.dot / total if pairing.targets.normalise else total * over - sums.dot
    return loss.where(counts, 0), counts


def log_denominator(sums: Sums, pairing: Pairing, candidates: int | Tensor, scale: Tensor) -> Tensor:
    """The logarithm of what a row's positives are divided by, ``(N,)``; -inf where there is nothing."""
    debiased = pairing.one(Debiased)
    if debiased is None and not unit_mean(pairing):
        return sums.over
    assert sums.positives is not None
    assert sums.n_positives is not None
    assert sums.n_dropped is not None
    n = candidates - sums.n_positives - sums.n_dropped
    log_n = n.clamp_min(1).log()
    negatives = sums.over
    if sums.weights is not None:
        negatives = negatives - sums.weights.where(n > 0, 0) + log_n
    if debiased is not None:
        mean_positive = sums.positives - sums.n_positives.clamp_min(1).log()
        mean = corrected(negatives - log_n, mean_positive, debiased.prior)
        negatives = torch.maximum(mean, debiased.floor * scale) + log_n
    negatives = finite(negatives, n > 0, -torch.inf)
    if pairing.one(Decoupled) is not None:
        return negatives
    return logaddexp(sums.positives, negatives)


def corrected(negative: Tensor, positive: Tensor, prior: float) -> Tensor:
    """``log((exp(negative) - prior exp(positive)) / (1 - prior))``, -inf where that is the logarithm of no number."""
    if prior == 0:
        return negative
    positive = positive + math.log(prior)
    some = negative > positive
    a, b = finite(negative, some), finite(positive, some, -1)
    b = b.where(b > -torch.inf, a - 1e4)
    out = a + torch.log(-torch.expm1(b - a)) - math.log(1 - prior)
    return finite(out, some, -torch.inf)


def finite(x: Tensor, where: Tensor, otherwise: float = 0.0) -> Tensor:
    """``x`` where the condition holds, else a constant; there the gradient is 0 even if ``x`` is infinite."""
    return x.masked_fill(~where, otherwise)


def logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """log(exp a + exp b), with a gradient of 0, not NaN, where both are -inf."""
    return lse(torch.stack([a, b], 1))


def scattered(x: Tensor, owner: Tensor, n: int) -> Tensor:
    """logsumexp of ``x`` ``(K,)`` by owner: ``(N,)``, -inf for rows that own nothing."""
    largest = x.new_full((n,), -torch.inf).scatter_reduce(0, owner, x.detach(), "amax")
    nothing = largest == -torch.inf
    shift = largest.masked_fill(nothing, 0)
    total = x.new_zeros(n).index_add(0, owner, (x - shift[owner]).exp()).masked_fill(nothing, 1)
    return (total.log() + shift).masked_fill(nothing, -torch.inf)
