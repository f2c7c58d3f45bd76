"""One face for the cross-entropy family: embeddings, a pairing and a scale in, a loss out, in memory O(N + M)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from counterpoint.kernels.tile import Form
from counterpoint.objectives.base import objective
from counterpoint.objectives.engine import forms
from counterpoint.objectives.engine.byproducts import Stats
from counterpoint.objectives.engine.checks import (
    Backend,
    Precision,
    Reduction,
    check_choice,
    check_finite,
    check_scale,
    check_settings,
    check_shapes,
)
from counterpoint.objectives.engine.distributed import reductions
from counterpoint.objectives.engine.reductions import How
from counterpoint.objectives.engine.shortcuts import add_own
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.rules import Pairing, Rule
from counterpoint.objectives.targets import Diagonal
from counterpoint.processes import total


def example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A small valid call of `contrast` whose numbers follow from the seed, in float64."""
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
    shared: bool = False,
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
    each extra candidate, as a negative; None: every anchor sees all. shared: over many processes, whether extra is the
    same on each of them (a queue, a bank), not each one's part of the whole (hard negatives).
    reduction: ``mean`` over the rows that count, ``sum``, ``none`` -> ``(N,)``. With both, the mean of that of rows and
    that of columns, and for ``none`` ``(N + M,)``: rows, then columns. A row without a positive (softmax, marginal),
    with an empty denominator or with every candidate masked does not count: its loss and gradient are 0.
    backend: ``reference`` (dense), ``tiled``, ``triton`` (NVIDIA GPUs, float32; most pairings), ``auto``. tile: side
    of a tile; None: by device, or as `kernels.sizes.tiles` says. budget: bytes that all tiles together may take.
    precision: ``bfloat16`` products (sums, exponentials and gradients of embeddings stay in float32; a CPU rounds each
    tile of scores to bfloat16, but for those of a `Diagonal`'s positives) or ``full``; None: bfloat16 on a GPU under
    autocast.
    stats: a `Stats`, filled with by-products of the pass.

    Over many processes (`counterpoint.processes`) each gives its own anchors and candidates, any number of them, and
    what the pairing says of these; every anchor is compared with the candidates of all, which are numbered process by
    process, and the loss is that of the whole batch, the same everywhere; only ``none`` gives the losses of this
    process's rows. See `transported` for how candidates travel, `alone` for a loss of this process by itself.

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
        how = How(
            form=form, both=both, backend=backend, tile=tile, budget=budget, precision=precision,
            limit=limit, stats=stats, shared=shared,
        )  # fmt: skip
        found = reductions(q, k, extra, bias, plan, how)
        if stats is not None:
            stats.finish(found.rows, found.n_columns)
        seen: int | Tensor = found.n_columns
        if own is not None and owner is not None:
            asked = forms.asked(plan, form, both=both, linear=False, watched=stats is not None)
            seen = seen + add_own(found.rows, plan, q, own, owner, bias, m, asked)

        sides = [forms.losses(form, found.rows, plan, seen, scale)]
        if found.columns is not None:
            sides.append(forms.losses(form, found.columns, plan, found.n_rows, scale))
        if reduction == "none":
            return torch.cat([losses for losses, _ in sides])
        return combined(sides, reduction)


def combined(sides: Sequence[tuple[Tensor, Tensor]], reduction: Reduction) -> Tensor:
    """Losses of rows, and of columns, and whether they count, to one number over all processes.

    The mean is over those that count, 0 where none does; and that of rows and columns weigh the same.

    sides: (losses, whether they count), each ``(N,)``. reduction: ``mean`` of those that count, or ``sum``.
    """
    sums = total(torch.stack([x.sum() for side in sides for x in (side[0], side[1].to(side[0]))]))
    parts = sums[::2] if reduction == "sum" else sums[::2] / sums[1::2].clamp_min(1)
    return parts.sum() / len(sides)


def distance(anchors: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings ``(N, D + 2)``, ``(M, D + 2)`` whose dot products are ``-|anchor_i - candidate_j|^2``.

    ``contrast(*distance(q, k), pairing, scale=1 / (2 * sigma**2))`` contrasts by a Gaussian kernel. Use it in full
    precision: the squares cancel.

    anchors: ``(N, D)``. candidates: ``(M, D)``.

    >>> q, k = distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
    >>> (q @ k.T).tolist()
    [[-25.0, -1.0]]
    """
    one = anchors.new_ones
    a = anchors.square().sum(1, keepdim=True)
    b = candidates.square().sum(1, keepdim=True)
    return (
        torch.cat([2 * anchors, -a, one(len(a), 1)], 1),
        torch.cat([candidates, one(len(b), 1), -b], 1),
    )
