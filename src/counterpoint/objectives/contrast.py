"""One face for the cross-entropy family: embeddings, a pairing and a scale in, a loss out, in memory O(N + M)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from counterpoint.kernels import reference, sizes, tiled
from counterpoint.kernels.backend import reduce
from counterpoint.kernels.tile import Form, Job
from counterpoint.objectives import forms
from counterpoint.objectives.base import objective
from counterpoint.objectives.byproducts import Stats
from counterpoint.objectives.checks import (
    Backend,
    Precision,
    Reduction,
    check_choice,
    check_finite,
    check_scale,
    check_settings,
    check_shapes,
)
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.rules import Pairing, Rule
from counterpoint.objectives.shortcuts import add_own, linear_terms
from counterpoint.objectives.targets import Diagonal

log = logging.getLogger(__name__)

DENSE = 256 * 256
"""Pairs up to which the whole matrix is cheaper than tiles."""


def example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(7, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return (q, k), {"scale": 2.0}


@objective(rank=RankBehaviour.GATHER, example=example)
def contrast(
    anchors: Tensor,
    candidates: Tensor,
    pairing: Rule | None = None,
    *,
    scale: float | Tensor = 1.0,
    bias: float | Tensor | None = None,
    form: Form = "softmax",
    both: bool = False,
    extra: Tensor | None = None,
    owner: Tensor | None = None,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
    tile: int | None = None,
    budget: int | None = None,
    precision: Precision | None = None,
    stats: Stats | None = None,
) -> Tensor:
    """Contrast every anchor with every candidate, exactly, without ever making the matrix of pairs.

    With scores ``S_ij = scale_i anchors_i . candidates_j`` (normalise both for cosines; `distance` gives squared
    distances), and from the pairing targets T, log-weights W, masks and margins:

        softmax   L_i = c_i logsumexp_j(S_ij + W_ij) - sum_j T_ij S_ij,   c_i = sum_j T_ij
        marginal  L_i = logsumexp_j(S_ij + W_ij) - logsumexp_{j: T_ij > 0} S_ij
        sigmoid   L_i = sum_j exp(W_ij) softplus(S_ij + bias) - T_ij (S_ij + bias)

    In the softmax form L_i is divided by c_i where the target rule says ``normalise`` (`Labels` does: that is SupCon's
    mean over positives; with one positive it makes no difference). The sigmoid form takes T as it is.

    anchors: ``(N, D)``. candidates: ``(M, D)``. pairing: see `counterpoint.objectives.pairing`; None: `Diagonal`.
    scale: 1 / temperature, a number, ``()`` or ``(N,)`` per anchor. bias: ``()``, sigmoid form only.
    both: the mean of the losses of rows and of columns (CLIP), in one pass. The column's loss has the same T and W.
    extra: ``(K, D)`` further candidates (queue, bank, hard negatives), for the rows only, as if concatenated to the
    candidates; they are negatives unless the pairing knows better. owner: ``(K,)`` long, the anchor that alone sees
    each extra candidate, as a negative; None: every anchor sees all.
    reduction: ``mean`` over the rows that count, ``sum``, ``none`` -> ``(N,)``. With both, the mean of that of rows and
    that of columns, and for ``none`` ``(N + M,)``: rows, then columns. A row without a positive (softmax, marginal),
    with an empty denominator or with every candidate masked does not count: its loss and gradient are 0.
    backend: ``reference`` (dense), ``tiled``, ``auto``. tile: side of a tile; None: by device. budget: bytes that all
    tiles together may take. precision: ``bfloat16`` products (sums, exponentials and gradients of embeddings stay in
    float32; a CPU rounds each tile of products to bfloat16) or ``full``; None: bfloat16 on a GPU under autocast.
    stats: a `Stats`, filled with by-products of the pass.

    Returns ``()``, or ``(N,)``, ``(N + M,)``. Gradients reach anchors, candidates, extra, scale and bias. Not
    differentiable twice. Raises `DataError` (shapes, NaN, metadata that does not fit), `ConfigError` (settings).

    Sources: InfoNCE van den Oord et al. 2018 (1807.03748); SupCon Khosla et al. 2020 (2004.11362); CLIP Radford et al.
    2021 (2103.00020); SigLIP Zhai et al. 2023 (2303.15343); MIL-NCE Miech et al. 2020 (1912.06430; marginal).

    >>> q = torch.eye(4)
    >>> round(float(contrast(q, q, scale=2.0, both=True)), 4)    # log(e^2 + 3) - 2
    0.3408
    """
    if precision is None:
        cuda = anchors.device.type == "cuda"
        precision = "bfloat16" if cuda and torch.is_autocast_enabled("cuda") else "full"
    check_choice("form", form, Form)
    check_choice("reduction", reduction, Reduction)
    check_choice("backend", backend, Backend)
    check_choice("precision", precision, Precision)
    with torch.autocast(anchors.device.type, enabled=False):
        q, k, extra = check_shapes(anchors, candidates, extra)
        n, m = len(q), len(k)
        plan = Pairing([Diagonal() if pairing is None else pairing])
        scale = check_scale(scale, q)
        check_settings(form, plan, both, bias, owner, extra, n, scale)
        plan.check(n, m, 0 if extra is None else len(extra), both)
        plan = plan.like(q)
        bias = None if bias is None else torch.as_tensor(bias, dtype=q.dtype, device=q.device)
        limit = check_finite(q, k, extra, scale, bias)
        q = q * (scale[:, None] if scale.ndim else scale)

        own, extra = (extra, None) if owner is not None else (None, extra)
        columns_seen = m + (0 if extra is None else len(extra))
        if backend == "auto":
            backend = "reference" if n * columns_seen <= DENSE else "tiled"
        side = sizes.side(q.device, q.dtype, tile, budget)
        linear = None  # the reference takes no short cut
        if form != "marginal" and backend != "reference":
            linear = linear_terms(plan, q, k, extra, bias, both)
        asked = forms.asked(plan, form, both=both, linear=linear is not None, watched=stats is not None)
        log.debug(
            "contrast: %s back end, %s x %s, tile %s, %s precision, %s", backend, n, columns_seen, side, precision, plan
        )
        watcher = None if stats is None else stats.watch(plan, q, k, extra, side)
        job = Job(rules=plan, asked=asked, limit=limit, tile=side, precision=precision, watcher=watcher)
        reduced = (
            reference.reduce(q, k, extra, bias, job)
            if backend == "reference"
            else reduce(tiled, q, k, extra, bias, job)
        )
        if linear is not None:
            reduced.rows.dot, reduced.rows.total = linear[:2]
            if reduced.columns is not None:
                reduced.columns.dot, reduced.columns.total = linear[2:]
        if stats is not None:
            stats.finish(reduced.rows, columns_seen)
        seen: int | Tensor = columns_seen
        if own is not None and owner is not None:
            seen = columns_seen + add_own(reduced.rows, plan, q, own, owner, bias, m, asked)

        rows, row_counts = forms.losses(form, reduced.rows, plan, seen, scale)
        if reduced.columns is None:
            return combined(rows, row_counts, reduction)
        columns, column_counts = forms.losses(form, reduced.columns, plan, n, scale)
        if reduction == "none":
            return torch.cat([rows, columns])
        return (combined(rows, row_counts, reduction) + combined(columns, column_counts, reduction)) / 2


def combined(losses: Tensor, counts: Tensor, reduction: Reduction) -> Tensor:
    """Losses of rows to one number; the mean over the rows that count, 0 where none does."""
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / counts.sum().clamp_min(1)


def distance(anchors: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings ``(N, D + 2)``, ``(M, D + 2)`` whose dot products are ``-|anchor_i - candidate_j|^2``.

    ``contrast(*distance(q, k), pairing, scale=1 / (2 * sigma**2))`` contrasts by a Gaussian kernel. Use it in full
    precision: the squares cancel.
    """
    one = anchors.new_ones
    a = anchors.square().sum(1, keepdim=True)
    b = candidates.square().sum(1, keepdim=True)
    return (
        torch.cat([2 * anchors, -a, one(len(a), 1)], 1),
        torch.cat([candidates, one(len(b), 1), -b], 1),
    )
