"""Margins: pairs that must be near or far, candidates that must be in order, tokens that must be unlikely; and copies
that must agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape, weighted


def _example_pairs(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x, y = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x, y), {"same": torch.tensor([1, 0, 1, 0, 0, 1]).bool(), "margin": 3.0}


@objective(rank=RankBehaviour.LOCAL, example=_example_pairs)
def pair_margin(x: Tensor, y: Tensor, same: Tensor, *, margin: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """``L_i = d_i²`` of pairs that are the same, ``max(0, margin - d_i)²`` of others, d the Euclidean distance.

    x, y: ``(N, D)``. same: ``(N,)`` bool. margin: how far apart different things must be. Returns ``()`` or ``(N,)``.
    reduction: ``mean``, or ``none`` for a loss each. Source: Hadsell, Chopra & LeCun 2006, "Dimensionality Reduction by
    Learning an Invariant Mapping" (whose losses are half of these).

    >>> x, y = torch.zeros(2, 2), torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    >>> pair_margin(x, y, torch.tensor([True, False]), reduction="none").tolist()
    [0.25, 0.25]
    """
    same_shape(x=x, y=y)
    if same.shape != x.shape[:1] or same.dtype != torch.bool:
        raise DataError(f"same is {same.dtype} {tuple(same.shape)}; expected torch.bool ({len(x)},), one per pair.")
    squares = (x - y).square().sum(1)
    # At distance 0 the root has no slope; the floor gives equal rows a gradient of 0 instead of NaN.
    apart = (margin - squares.clamp_min(1e-16).sqrt()).relu().square()
    return reduced(torch.where(same, squares, apart), reduction)


def _example_order(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    scores = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (scores,), {"margin": 0.3, "mask": torch.arange(4) < torch.tensor([4, 2, 3, 1, 4, 2]).unsqueeze(1)}


@objective(rank=RankBehaviour.LOCAL, example=_example_order)
def sequence_margin(
    scores: Tensor, *, margin: float = 0.01, mask: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """``L_b = Σ_{i<j} max(0, f_j - f_i + (j - i) margin)``: of candidates in falling order of quality, the better one
    scores higher, by more the further apart their places are.

    scores: ``(N, L)``, e.g. length-normalised log-probabilities of generated texts, the best first. mask: ``(N, L)``
    bool, False where a list has no candidate. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss
    each. Source: Liu et al. 2022 (BRIO), arXiv 2203.16804, eq. 8; Liu & Liu 2021 (SimCLS), arXiv 2106.01890.

    >>> right, wrong = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[-2.0, -1.0]])
    >>> float(sequence_margin(right)), float(sequence_margin(wrong, margin=0.5))
    (0.0, 1.5)
    """
    if scores.ndim != 2:
        raise DataError(f"scores have shape {tuple(scores.shape)}; expected (N, L): lists, the best candidate first.")
    place = torch.arange(scores.shape[1], device=scores.device)
    apart = place - place[:, None]  # (L, L), j - i
    pairs = (apart > 0).expand(len(scores), -1, -1)
    if mask is not None:
        same_shape(scores=scores, mask=mask)
        pairs = pairs & mask[:, :, None] & mask[:, None, :]
        scores = scores.masked_fill(~mask, 0.0)
    hinge = (scores[:, None, :] - scores[:, :, None] + apart * margin).relu()
    return reduced(hinge.masked_fill(~pairs, 0.0).sum((1, 2)), reduction)


def _example_tokens(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 4, 5, dtype=torch.float64, generator=random)
    negatives = torch.randint(5, (6, 4, 2), generator=random)
    negatives[1, 2] = -1
    return (logits,), {"negatives": negatives}


@objective(rank=RankBehaviour.LOCAL, example=_example_tokens)
def unlikelihood(logits: Tensor, negatives: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``-Σ_{c in negatives of t} log(1 - p(c | t))``, the mean over the tokens of the batch that have negatives: what
    must not be said (tokens said before, wrong ones) becomes unlikely.

    logits: ``(B, T, V)``. negatives: ``(B, T, K)`` long, -1 where there is none. Returns ``()``, or ``(B,)`` means of
    the sequences. reduction: ``mean``, or ``none`` for a loss each. Source: Welleck et al. 2020, arXiv 1908.04319, eq.
    4.

    >>> said = torch.tensor([[[2, -1]]])  # token 2 must not come again
    >>> round(float(unlikelihood(torch.zeros(1, 1, 4), said)), 4)  # -log(1 - 1/4)
    0.2877
    """
    if logits.ndim != 3 or negatives.ndim != 3 or negatives.shape[:2] != logits.shape[:2]:
        raise DataError(
            f"logits {tuple(logits.shape)} and negatives {tuple(negatives.shape)}; expected (B, T, V) and (B, T, K)."
        )
    there = negatives >= 0
    log_p = logits.log_softmax(-1).gather(2, negatives.clamp_min(0))
    # A probability of 1 would be an infinite loss without a way back.
    terms = -torch.log1p(-log_p.exp().clamp_max(1 - torch.finfo(logits.dtype).eps))
    values = terms.masked_fill(~there, 0.0).sum((1, 2))
    count = there.any(2).sum(1)
    return weighted(values / count.clamp_min(1), count, reduction)


def _example_copies(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (torch.randn(6, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)),), {}


@objective(rank=RankBehaviour.LOCAL, example=_example_copies)
def consistency_js(logits: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """``L_i = H(mean_v p_iv) - mean_v H(p_iv)``, ``p = softmax(logits / temperature)``: the Jensen-Shannon divergence
    of what a model says of the copies of a row; 0 where it says the same of all, at most log V.

    logits: ``(N, V, C)``, V copies of each row. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss
    each. Source: Shen et al. 2020 (Cutoff), arXiv 2009.13818, section 2.3; Lin 1991.

    >>> alike, apart = torch.zeros(1, 2, 3), 50 * torch.eye(3)[:2][None]
    >>> float(consistency_js(alike)), round(float(consistency_js(apart)), 4)  # log 2
    (0.0, 0.6931)
    """
    if logits.ndim != 3:
        raise DataError(f"logits have shape {tuple(logits.shape)}; expected (N, V, C): V copies of each row.")
    if not temperature > 0:
        raise ConfigError(f"temperature={temperature}: a temperature is positive. Try 1.")
    log_p = (logits / temperature).log_softmax(-1)
    count = torch.tensor(float(logits.shape[1])).to(logits)
    log_mean = log_p.logsumexp(1) - count.log()
    each = (log_p.exp() * log_p).sum(-1).mean(1)
    return reduced(each - (log_mean.exp() * log_mean).sum(-1), reduction)
