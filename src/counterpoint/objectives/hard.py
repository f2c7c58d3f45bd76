"""Only the hardest negatives of every anchor: a word of a pairing, and a loss without a softmax."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from counterpoint.errors import ConfigError, DataError
from counterpoint.kernels.tile import Asked, Region, Scratch, Tile
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, at_least_float32, no_autocast, reduced
from counterpoint.objectives.rules import Mask, Pairing
from counterpoint.processes import gathered, rank, sizes, starts, world

AT_ONCE = 1 << 24
"""Scores held at once while thresholds are looked for: 64 MiB in float32."""


@dataclass(frozen=True)
class HardQuantile(Mask):
    """Of every anchor's negatives only the hardest are kept: the share ``alpha`` with the highest scores.

    Kept are the negatives at or above the upper alpha-quantile of the row, at least one, and all that tie with the
    last. Positives, and what other masks take out, are not counted. Which ones they are has no gradient. alpha = 1
    keeps all. Finding the quantiles is one more pass over the scores, some rows at a time. A threshold is lowered by
    what rounding may do to a score (with bfloat16 products a 256th of the largest), so near ties count as ties.

    threshold: ``(N,)``, the scaled score from which a negative is kept; found by `contrast` itself (None).

    Source: Wang & Liu 2021, "Understanding the Behaviour of Contrastive Loss", arXiv 2012.09740, eq. 9.
    """

    alpha: float
    threshold: Tensor | None = None

    def __post_init__(self) -> None:
        check_share(self.alpha)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        if both:
            raise ConfigError(
                "HardQuantile keeps other negatives for a row than for a column. Call contrast once for each "
                "direction, with both=False."
            )
        if self.threshold is not None:
            self.expect("threshold", len(self.threshold), n)

    def drops(self, region: Region) -> Tensor | None:
        if self.threshold is None or region.scores is None:
            raise ConfigError(
                "HardQuantile ranks the candidates that every anchor sees, with `contrast`; it has no word for extra "
                "candidates of single anchors (owner=). Give those without owner, or leave HardQuantile out."
            )
        return region.scores < region.left(self.threshold)


def check_share(alpha: float) -> None:
    """Raise `ConfigError` where alpha is no share above 0 and at most 1.

    >>> check_share(0.1)
    """
    if not 0 < alpha <= 1:
        raise ConfigError(f"alpha={alpha} is the share of the negatives that are kept, above 0 and at most 1. Try 0.1.")


def hardest(scores: Tensor, alpha: float) -> Tensor:
    """The score from which a row's negatives are kept, ``(N,)``: its ``max(1, ceil(alpha n))``-th highest.

    scores: ``(N, M)``, -inf where there is no negative. -inf for a row without any.

    >>> hardest(torch.tensor([[3.0, 1.0, 2.0, 0.0], [5.0, -torch.inf, 4.0, -torch.inf]]), 0.5).tolist()
    [2.0, 5.0]
    """
    n = (scores > -torch.inf).sum(1)
    kept = (alpha * n.double() - 1e-9).ceil().long().clamp_min(1)
    largest = scores.topk(int(kept.max()) if len(kept) else 1, dim=1).values
    return largest.gather(1, kept[:, None] - 1)[:, 0]


@torch.no_grad()
def settled(
    plan: Pairing, q: Tensor, k: Tensor, extra: Tensor | None, *, limit: float, precision: str = "full"
) -> Pairing:
    """The pairing with the thresholds of its `HardQuantile` found; the pairing itself where it has none.

    q: scaled. limit: a bound on the absolute scores. plan: the pairing. k: candidates ``(M, D)``. extra: ``(K, D)``
    further negatives, or None. precision: of the products, as in `contrast`.
    """
    rule = plan.one(HardQuantile)
    if rule is None or rule.threshold is not None:
        return plan
    others, asked = Pairing([r for r in plan.rules if r is not rule]), Asked(dot=False, counts=True)
    blocks = [(0, k)] if extra is None else [(0, k), (len(k), extra)]
    found, step = [], max(1, AT_ONCE // sum(len(block) for _, block in blocks))
    for r in range(0, len(q), step):
        rows, parts = slice(r, min(r + step, len(q))), []
        for start, block in blocks:
            s = q[rows] @ block.T
            tile = Tile(rows, slice(start, start + len(block)), len(k), Scratch(q.device), s)
            cell = others.cell(tile, asked, s.dtype)
            for hidden in (cell.dropped, cell.positives):
                s = s if hidden is None else s.masked_fill(hidden, -torch.inf)
            parts.append(s)
        found.append(hardest(torch.cat(parts, 1), rule.alpha))
    threshold = torch.cat(found)
    # A product may come out a little different in a tile of another shape; what is at the threshold must stay.
    unit = 2.0**-8 if precision == "bfloat16" else 8 * torch.finfo(q.dtype).eps
    threshold = threshold - unit * min(limit, torch.finfo(q.dtype).max)
    return Pairing([replace(r, threshold=threshold) if r is rule else r for r in plan.rules])


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x, y = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x, y), {"alpha": 0.4}


@objective(rank=RankBehaviour.GATHER, example=_example)
def simple_contrast(
    anchors: Tensor,
    candidates: Tensor,
    *,
    weight: float = 1.0,
    alpha: float = 1.0,
    extra: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = -s_ii + weight · mean_{k in K(i)} s_ik``, s the cosine: contrast without a softmax, as its temperature
    grows without bound.

    K(i): all candidates but the i-th (alpha = 1: the simple loss, which pushes every negative alike), or the share
    ``alpha`` of them with the highest cosine, ties included, at least one, chosen without gradient (the hard simple
    loss). With n negatives and weight 1, `contrast` at temperature T tends to ``log(n + 1) + n / ((n + 1) T) · L_i``.
    The paper writes a sum: weight is its lambda times the number of negatives.

    anchors ``(N, D)``, candidates ``(M, D)``, M >= N, the i-th being the i-th anchor's positive. extra ``(K, D)``:
    further negatives (a queue, a bank), the same on every process. All are scaled to unit length here, as the loss has
    no lower bound otherwise. Memory O(N + M): with alpha = 1 by mean vectors, else some rows at a time, each computed
    again in the backward pass. Over many processes negatives are those of all. reduction: ``mean`` or ``none``. Returns
    ``()`` or ``(N,)``.

    reduction: ``mean``, or ``none`` for a loss each.

    Source: Wang & Liu 2021, arXiv 2012.09740, eq. 6 and section 3.4.

    >>> z = torch.eye(4)
    >>> float(simple_contrast(z, z)), round(float(simple_contrast(z, z.roll(1, 0))), 4)
    (-1.0, 0.3333)
    """
    check_share(alpha)
    given = [anchors, candidates] if extra is None else [anchors, candidates, extra]
    if any(x.ndim != 2 or x.shape[1] != anchors.shape[1] for x in given) or len(candidates) < len(anchors):
        shapes = ", ".join(str(tuple(x.shape)) for x in given)
        raise DataError(
            f"simple_contrast was given {shapes}; expected anchors (N, D), candidates (M, D) with M >= N, of which the "
            "i-th is the positive of the i-th anchor, and perhaps extra (K, D)."
        )
    with no_autocast(anchors):
        q, own, *more = (F.normalize(at_least_float32(x), dim=-1) for x in given)
        columns = torch.cat([gathered(own), *more])
        positive = torch.arange(len(q), device=q.device)
        if world() > 1:
            positive = positive + starts(sizes(len(own), own.device))[rank()]
        pull = (q * own[: len(q)]).sum(1)
        if alpha == 1:
            push = (q @ columns.sum(0) - pull) / max(1, len(columns) - 1)
        else:
            step = max(1, AT_ONCE // max(1, len(columns)))
            rows = [slice(r, r + step) for r in range(0, len(q), step)]
            parts = [checkpoint(_hard_push, q[r], columns, positive[r], alpha, use_reentrant=False) for r in rows]
            push = torch.cat([*parts, q[:0].sum(1) + columns.sum() * 0])
    return reduced(weight * push - pull, reduction)


def _hard_push(q: Tensor, columns: Tensor, positive: Tensor, alpha: float) -> Tensor:
    """Mean cosine ``(n,)`` of rows with their hardest negatives; 0 where there is none."""
    with torch.no_grad():
        s = (q @ columns.T).scatter_(1, positive[:, None], -torch.inf)
        kept = (s >= hardest(s, alpha)[:, None]) & (s > -torch.inf)
    mean = kept.to(q) @ columns / kept.sum(1, keepdim=True).clamp_min(1)
    return (q * mean).sum(1)
