"""Parts of a loss that need no tiles: structured targets, and extra candidates that belong to one anchor each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from counterpoint.kernels.tile import Asked, Pairs, Sums
from counterpoint.objectives.forms import logaddexp, scattered
from counterpoint.objectives.masks import NotSelf
from counterpoint.objectives.rules import Margin, Pairing

Linear = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def linear_terms(
    plan: Pairing, q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, both: bool
) -> Linear | None:
    """``sum_j T_ij S_ij`` and ``sum_j T_ij`` of rows ``(N,)``, then of columns ``(M,)``; None where T has no structure.

    The sum is linear in T: ``q_i . (T k)_i``. Where T is sparse, a matrix of classes or of low rank, ``T k`` costs
    O(N D) or O(N D E) instead of a pass over N x M pairs. Masks that spare positives do not change it; masking (i, i)
    subtracts one term.
    """
    targets, margin = plan.targets, plan.one(Margin)
    hard = [mask for mask in plan.masks if not mask.spare]
    if not all(isinstance(mask, NotSelf) and mask.ids is None for mask in hard):
        return None
    if plan.masks and len(hard) < len(plan.masks) and not targets.crisp:
        return None
    n, m = len(q), len(k)
    x = k if extra is None or targets.reach(m, len(extra)) == m else torch.cat([k, extra])
    if targets.pull(x[:, :0], n) is None:
        return None
    own = None  # T_ii of pairs that are masked: what they add is taken off again
    if hard:
        both_sides = torch.arange(min(n, m), device=q.device)
        own = targets.values(Pairs(both_sides, both_sides), q.dtype)

    def pull(x: Tensor) -> Tensor:
        return _known(targets.pull(x, n))

    def push(x: Tensor) -> Tensor:
        return _known(targets.push(x, m))

    def less(sums: Tensor, of_own: Tensor | None) -> Tensor:
        """Sums ``(N,)`` or ``(M,)`` less a term for each pair (i, i)."""
        return sums if of_own is None else sums - pad(of_own, (0, len(sums) - len(of_own)))

    own_dot = None if own is None else own * (q[: len(own)] * k[: len(own)]).sum(1)
    total = less(pull(q.new_ones(len(x), 1))[:, 0], own)
    dot = less((q * pull(x)).sum(1), own_dot)
    margins = None if margin is None else q.new_ones(n) * margin.margin
    if margins is not None:
        dot = dot - margins * total
    if bias is not None:
        dot = dot + bias * total
    if not both:
        return dot, total, None, None
    column_dot = less((k * push(q)).sum(1), own_dot)
    if margins is not None:
        own_margins = None if own is None else own * margins[: len(own)]
        column_dot = column_dot - less(push(margins[:, None])[:, 0], own_margins)
    return dot, total, column_dot, less(push(q.new_ones(n, 1))[:, 0], own)


def _known(x: Tensor | None) -> Tensor:
    assert x is not None
    return x


def add_own(
    sums: Sums, plan: Pairing, q: Tensor, own: Tensor, owner: Tensor, bias: Tensor | None, m: int, asked: Asked
) -> Tensor:
    """Join extra candidates ``own`` ``(K, D)``, each seen by one anchor ``owner`` ``(K,)`` alone, to the rows' sums.

    They are negatives, under the pairing's masks and weights. Returns how many each row owns, ``(N,)``.
    """
    n = len(q)
    s = (q.index_select(0, owner) * own).sum(1)
    if bias is not None:
        s = s + bias
    pairs = Pairs(owner, m + torch.arange(len(own), device=q.device), extra=True, scores=s.detach())
    cell = plan.cell(pairs, Asked(dot=False, counts=asked.counts), s.dtype)
    w = torch.zeros_like(s) if cell.log_weights is None else cell.log_weights.expand_as(s)
    dropped = torch.zeros_like(owner, dtype=torch.bool) if cell.dropped is None else cell.dropped
    if asked.form == "sigmoid":
        terms = softplus(s, threshold=20 if s.dtype == torch.float32 else 40) * w.exp()
        sums.over = sums.over.index_add(0, owner, terms.masked_fill(dropped, 0))
    else:
        sums.over = logaddexp(sums.over, scattered((s + w).masked_fill(dropped, -torch.inf), owner, n))
    if sums.weights is not None:
        sums.weights = logaddexp(sums.weights, scattered(w.masked_fill(dropped, -torch.inf), owner, n))
    if sums.n_dropped is not None:
        sums.n_dropped = sums.n_dropped.index_add(0, owner, dropped.to(s.dtype))
    return q.new_zeros(n).index_add(0, owner, torch.ones_like(s.detach()))
