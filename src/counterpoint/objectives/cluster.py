"""Clustering: views agree on which prototypes they belong to (SwAV and its relatives)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import (
    Reduction,
    at_least_float32,
    batch_size,
    reduced,
    same_shape,
)
from counterpoint.processes import rank, total


def _example_targets(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    s, t = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (s,), {"target": t.softmax(-1), "temperature": 0.5}


def _example_views(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    a, noise = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (a.tanh(), (a + 0.3 * noise).tanh()), {}


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    prior: Tensor | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """Soft assignments of rows to prototypes that use every prototype: ``Q ∝ diag(u) exp(scores / epsilon) diag(v)``.

    Each round scales the columns of Q to their share of the mass, then the rows to sum 1, so rows are exact
    and columns are met in the limit (3 rounds are usual). Computed in logarithms: no score overflows at any
    ``epsilon``.

    scores: ``(N, K)`` of rows against prototypes. epsilon: smoothness (towards 0: one-hot). prior: ``(K,)`` share of
    the mass per prototype (None: 1 / K each). extra: ``(Q, K)`` scores of a queue's entries, which take part in the
    balance but are not returned; needed where N < K. Rows of all processes are balanced together; a queue is the same
    on all of them and counts once. Returns ``(N, K)`` without gradient, rows summing to 1. iterations: rounds.

    Source: Cuturi 2013, arXiv 1306.0895; Caron et al. 2020 (SwAV), arXiv 2006.09882.

    >>> scores = torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.7, 0.2], [0.6, 0.5]])  # all nearer to prototype 0
    >>> q = sinkhorn(scores, iterations=50)
    >>> [round(x, 2) for x in q.sum(0).tolist()], q.argmax(1).tolist()  # and yet both are used
    ([2.0, 2.0], [0, 0, 0, 1])
    """
    if epsilon <= 0 or iterations < 1:
        raise ConfigError(f"Sinkhorn needs epsilon > 0 and iterations >= 1; got {epsilon} and {iterations}.")
    if extra is not None and extra.shape[1:] != scores.shape[1:]:
        raise DataError(f"scores {tuple(scores.shape)} and extra {tuple(extra.shape)} need the same prototypes.")
    n, k = scores.shape
    if prior is not None and (prior.shape != (k,) or not (prior > 0).all()):
        raise DataError(f"prior must hold {k} shares above 0, one per prototype; it is {prior.tolist()}.")
    x = scores if extra is None or rank() else torch.cat([scores, extra])
    log_q = at_least_float32(x) / epsilon
    share = torch.full((k,), 1 / k) if prior is None else prior / prior.sum()
    log_share = share.to(log_q).log()
    for _ in range(iterations):
        log_q = log_q - _log_sum_of_columns(log_q) + log_share
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q[:n].exp().to(scores.dtype)


def _log_sum_of_columns(log_q: Tensor) -> Tensor:
    """``(K,)`` logarithm of the sums of the columns over the rows of all processes."""
    lowest = torch.finfo(log_q.dtype).min
    peak = total(log_q.amax(0) if len(log_q) else log_q.new_full(log_q.shape[1:], lowest), "max")
    return total((log_q - peak).exp().sum(0)).log() + peak


def student_t(z: Tensor, centres: Tensor, *, freedom: float = 1.0) -> Tensor:
    """Soft assignments ``q_ik ∝ (1 + |z_i - c_k|² / freedom)^(-(freedom + 1) / 2)``, rows sum to 1.

    z: ``(N, D)``. centres: ``(K, D)``. Returns ``(N, K)``. Source: Xie et al. 2016 (DEC), arXiv 1511.06335, eq. 1.

    >>> q = student_t(torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    >>> [round(x, 3) for x in q[0].tolist()]  # 1 to 1/2
    [0.667, 0.333]
    """
    near = (1 + (z.unsqueeze(1) - centres).square().sum(-1) / freedom).pow(-(freedom + 1) / 2)
    return near / near.sum(1, keepdim=True)


@torch.no_grad()
def sharpened(q: Tensor) -> Tensor:
    """``p_ik ∝ q_ik² / f_k`` with ``f_k = Σ_i q_ik`` over all processes: surer than q, and fair to small clusters.

    q: ``(N, K)``. A cluster that holds nothing gets nothing. Source: Xie et al. 2016 (DEC), arXiv 1511.06335, eq. 3.

    >>> [[round(x, 2) for x in row] for row in sharpened(torch.tensor([[0.7, 0.3], [0.3, 0.7]])).tolist()]
    [[0.84, 0.16], [0.16, 0.84]]
    """
    share = q.square() / total(q.sum(0)).clamp_min(torch.finfo(q.dtype).tiny)
    return share / share.sum(1, keepdim=True)


@objective(rank=RankBehaviour.LOCAL, example=_example_targets)
def prototype_cross_entropy(
    scores: Tensor, target: Tensor, *, temperature: float = 0.1, reduction: Reduction = "mean"
) -> Tensor:
    """``L_i = -Σ_k q_ik log softmax_k(s_i / temperature)``; no gradient reaches the assignments q.

    scores: ``(N, K)`` of rows against prototypes. target: ``(N, K)`` assignments, or ``(N,)`` long numbers of
    prototypes. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss each.

    Source: Caron et al. 2020 (SwAV), arXiv 2006.09882, eq. 2.

    >>> scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> right, wrong = (prototype_cross_entropy(scores, torch.tensor(q)) for q in ([0, 1], [1, 0]))
    >>> round(float(right), 4), round(float(wrong), 4)
    (0.0, 10.0)
    """
    log_p = (scores / temperature).log_softmax(-1)
    if not target.is_floating_point():
        return reduced(F.nll_loss(log_p, target, reduction="none"), reduction)
    same_shape(scores=scores, target=target)
    return reduced(-(target.detach() * log_p).sum(-1), reduction)


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example_views)
def swapped_prediction(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    extra_a: Tensor | None = None,
    extra_b: Tensor | None = None,
) -> Tensor:
    """``L = ½ mean_i [ℓ(a_i, q(b)_i) + ℓ(b_i, q(a)_i)]``: each view predicts the other's balanced assignment.

    ℓ is `prototype_cross_entropy`, q is `sinkhorn`. a, b: ``(N, K)`` scores of the two views against the prototypes
    (cosines). extra_a, extra_b: ``(Q, K)`` scores of earlier entries, for the balance only. temperature: of the
    predictions. epsilon, iterations: of `sinkhorn`, which assigns. Returns ``()``, the loss of the rows of all
    processes.

    temperature: of the predictions. epsilon, iterations: of the balancing.

    Source: Caron et al. 2020 (SwAV), arXiv 2006.09882, eqs. 1 and 2.

    >>> a = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    >>> bool(swapped_prediction(a, a) < swapped_prediction(a, a.flip(0)))
    True
    """
    same_shape(a=a, b=b)
    q_a = sinkhorn(a, epsilon=epsilon, iterations=iterations, extra=extra_a)
    q_b = sinkhorn(b, epsilon=epsilon, iterations=iterations, extra=extra_b)
    rows = prototype_cross_entropy(a, q_b, temperature=temperature, reduction="none")
    rows = rows + prototype_cross_entropy(b, q_a, temperature=temperature, reduction="none")
    return total(rows.sum()) / batch_size(a, at_least=1) / 2
