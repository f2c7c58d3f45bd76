"""Prediction with a stop-gradient: learning from two views without negatives (BYOL, SimSiam, DirectPred)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    p, z = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (p,), {"target": z}


def _example_both(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    p1, p2, z1, z2 = torch.randn(4, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (p1, p2), {"target1": z1, "target2": z2}


@objective(rank=RankBehaviour.LOCAL, example=_example)
def negative_cosine(prediction: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L_i = -cos(p_i, sg(z_i))``: predict the direction of the target; no gradient reaches the target.

    prediction: ``(N, D)`` output of the predictor. target: ``(N, D)`` the other view, as the teacher (or the
    same encoder) sees it. Returns ``()``, or ``(N,)`` with ``reduction="none"``; in [-1, 1].

    Source: Grill et al. 2020 (BYOL), arXiv 2006.07733, whose loss is ``2 + 2 L``; Chen & He 2021 (SimSiam),
    arXiv 2011.10566.

    >>> p = torch.tensor([[1.0, 0.0]])
    >>> float(negative_cosine(p, 5 * p)), float(negative_cosine(p, -p))
    (-1.0, 1.0)
    """
    same_shape(prediction=prediction, target=target)
    return reduced(-F.cosine_similarity(prediction, target.detach(), dim=-1), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example_both)
def symmetric_negative_cosine(
    prediction1: Tensor,
    prediction2: Tensor,
    target1: Tensor,
    target2: Tensor,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = ½ D(p1_i, z2_i) + ½ D(p2_i, z1_i)``, ``D`` being `negative_cosine`: each view predicts the *other* one.

    All ``(N, D)``, numbered by the view they come from. Returns ``()`` or ``(N,)``.
    Source: Chen & He 2021 (SimSiam), arXiv 2011.10566, eq. 4.

    reduction: ``mean``, or ``none`` for a loss each. prediction1, prediction2: what the predictor says of each view.
    target1, target2: the projections of the views, without gradient.

    >>> p1, p2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> float(symmetric_negative_cosine(p1, p2, target1=p2, target2=p1))  # each predicts the other view
    -1.0
    """
    one = negative_cosine(prediction1, target2, reduction=reduction)
    return (one + negative_cosine(prediction2, target1, reduction=reduction)) / 2


@objective(rank=RankBehaviour.LOCAL, example=_example)
def squared_error(
    prediction: Tensor, target: Tensor, *, normalize: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """``L_i = |p_i - sg(z_i)|²``, summed over the D coordinates; ``normalize`` scales both to unit length first.

    prediction, target: ``(N, D)``. Returns ``()`` or ``(N,)``. With ``normalize`` it is ``2 - 2 cos(p_i, z_i)``, the
    loss as BYOL prints it (Grill et al. 2020, arXiv 2006.07733, eq. 2). reduction: ``mean``, or ``none`` for a loss
    each.

    >>> p, z = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> float(squared_error(p, z)), float(squared_error(p, z, normalize=True))
    (5.0, 2.0)
    """
    same_shape(prediction=prediction, target=target)
    p, z = prediction, target.detach()
    if normalize:
        p, z = F.normalize(p, dim=-1), F.normalize(z, dim=-1)
    return reduced((p - z).square().sum(-1), reduction)
