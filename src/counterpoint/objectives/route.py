"""Losses of routers: which experts rows are sent to, how evenly, and how much that says of the rows' groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape
from counterpoint.processes import total


def _example_information(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (z.softmax(-1),), {"groups": torch.tensor([0, 1, 2, 0, 1, 0]), "count": 3}


def _example_balance(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (z.softmax(-1), F.one_hot(z.argmax(1), 4).double()), {}


def _example_known(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (z,), {"experts": torch.tensor([0, 1, 2, 3, 1, 0])}


def joint_use(probability: Tensor, groups: Tensor, count: int) -> Tensor:
    """``P(g, e) = 1/N · Σ_{i: g_i = g} probability_ie`` ``(G, E)`` over the rows of all processes; sums to 1.

    probability: ``(N, E)``. groups: ``(N,)`` 0 to count - 1. With gradient. Zeros where there is no row.

    >>> probability = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> joint_use(probability, torch.tensor([0, 1]), 2).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    if groups.shape != probability.shape[:1]:
        raise DataError(f"groups {tuple(groups.shape)} must hold the group of each row of {tuple(probability.shape)}.")
    if len(groups) and not 0 <= int(groups.min()) <= int(groups.max()) < count:
        raise DataError(f"Groups are numbered 0 to {count - 1}; {int(groups.min())} to {int(groups.max())} were given.")
    sums = probability.new_zeros(count, probability.shape[1]).index_add(0, groups, probability)
    every = total(torch.cat([sums.flatten(), probability.new_tensor([float(len(groups))])]))
    return every[:-1].view_as(sums) / every[-1].clamp_min(1)


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example_information)
def expert_information(
    probability: Tensor, groups: Tensor, count: int, *, before: Tensor | None = None, share: float = 1.0
) -> Tensor:
    """``L = -Σ_ge P(g, e) log( P(g, e) / (P(g) P(e)) )``: experts should tell the groups apart, and all be used.

    ``P = share · (of this batch) + (1 - share) · before``: one batch of a single group says nothing of groups, so what
    earlier batches did (`joint_use`, a running mean) stands beside it, without gradient.

    probability: ``(N, E)`` of the router, per row. groups: ``(N,)`` long, 0 to count - 1. before: ``(G, E)`` summing to
    1. share: in (0, 1]. Returns ``()``, from -log min(G, E) to 0.
    Source: Chen et al. 2022 (Mod-Squad), arXiv 2212.08066; Hallee et al. 2024, arXiv 2401.15713, whose released code
    detaches the router here, so that nothing is learned.

    >>> groups = torch.tensor([0, 1])
    >>> told_apart, alike = torch.eye(2), torch.full((2, 2), 0.5)
    >>> bool(expert_information(told_apart, groups, 2) < expert_information(alike, groups, 2))
    True
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share={share}: give the weight of this batch, above 0 and at most 1.")
    joint = joint_use(probability, groups, count)
    if before is not None:
        same_shape(joint=joint, before=before)
        joint = share * joint + (1 - share) * before.detach()
    tiny = torch.finfo(joint.dtype).tiny
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    # Where P(g, e) is 0 it counts 0, and its logarithm must not be asked for a slope.
    terms = torch.where(joint > 0, joint * (joint.clamp_min(tiny) / apart.clamp_min(tiny)).log(), 0.0)
    return -terms.sum()


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example_balance)
def expert_balance(probability: Tensor, chosen: Tensor) -> Tensor:
    """``L = E Σ_e p_e f_e``: p the mean probability of an expert, f its share of the choices; 1 where all are used
    alike, E where one is alone.

    probability: ``(N, E)``, with gradient. chosen: ``(N, E)``, each row's share of each expert, taken as constant.
    Returns ``()``. Source: Fedus et al. 2021 (Switch Transformer), arXiv 2101.03961, eq. 4.

    >>> probability = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> float(expert_balance(probability, torch.eye(2).bool()))
    1.0
    """
    same_shape(probability=probability, chosen=chosen)
    sums = torch.cat([probability.sum(0), chosen.detach().sum(0), probability.new_tensor([float(len(chosen))])])
    every = total(sums)
    p, f = (every[:-1] / every[-1].clamp_min(1)).chunk(2)
    return len(p) * (p * f).sum()


@objective(rank=RankBehaviour.LOCAL, example=_example_known)
def expert_known(logits: Tensor, experts: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = -log softmax(logits_i)[experts_i]``: the router learns where rows belong.

    logits: ``(N, E)``. experts: ``(N,)`` long. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a loss
    each. Source: Hallee et al. 2024, arXiv 2401.15713.

    >>> round(float(expert_known(torch.zeros(2, 4), torch.tensor([0, 3]))), 4)  # log 4
    1.3863
    """
    if experts.shape != logits.shape[:1]:
        raise DataError(f"experts {tuple(experts.shape)} must hold one expert per row of {tuple(logits.shape)}.")
    return reduced(F.cross_entropy(logits, experts, reduction="none"), reduction)
