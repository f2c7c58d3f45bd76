"""Parts of a loss that need no tiles: structured targets, and extra candidates that belong to one anchor each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from counterpoint.kernels.backend import Linear
from counterpoint.kernels.tile import Asked, Pairs, Sums
from counterpoint.objectives.engine.forms import logaddexp, scattered
from counterpoint.objectives.masks import NotSelf
from counterpoint.objectives.rules import Margin, Pairing


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
    offsets = {mask.offset for mask in hard if isinstance(mask, NotSelf)}
    if len(offsets) > 1 or (plan.masks and len(hard) < len(plan.masks) and not targets.crisp):
        return None
    n, m = len(q), len(k)
    x = k if extra is None or targets.reach(m, len(extra)) == m else torch.cat([k, extra])
    if targets.pull(x[:, :0], n) is None:
        return None
    # Masked pairs (i, i + offset) and their T: what they add to the sums is taken off again.
    offset = min(offsets, default=0)
    first = max(0, -offset)
    i = torch.arange(first, max(first, min(n, m - offset)) if hard else first, device=q.device)
    j = i + offset
    t = _or_zeros(targets.values(Pairs(i, j), q.dtype) if len(i) else None, i, q)

    def pull(x: Tensor) -> Tensor:
        return _known(targets.pull(x, n))

    def push(x: Tensor) -> Tensor:
        return _known(targets.push(x, m))

    own = t * (q[i] * k[j]).sum(1)
    total = pull(q.new_ones(len(x), 1))[:, 0].index_add(0, i, t, alpha=-1)
    dot = (q * pull(x)).sum(1).index_add(0, i, own, alpha=-1)
    margins = None if margin is None else q.new_ones(n) * margin.margin
    if margins is not None:
        dot = dot - margins * total
    if bias is not None:
        dot = dot + bias * total
    if not both:
        return dot, total, None, None
    if targets.paired() is not None:  # a column has the pair of its row, and nothing else
        return dot, total, push(dot[:, None])[:, 0], push(total[:, None])[:, 0]
    column_total = push(q.new_ones(n, 1))[:, 0].index_add(0, j, t, alpha=-1)
    column_dot = (k * push(q)).sum(1).index_add(0, j, own, alpha=-1)
    if margins is not None:
        column_dot = column_dot - push(margins[:, None])[:, 0].index_add(0, j, t * margins[i], alpha=-1)
    return dot, total, column_dot, column_total


def _or_zeros(t: Tensor | None, pairs: Tensor, like: Tensor) -> Tensor:
    return like.new_zeros(len(pairs)) if t is None else t


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
