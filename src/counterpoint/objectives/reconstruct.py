"""Masked reconstruction: the error on what was hidden, and only there; of vectors, and of the cells of a table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    p, x = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (p,), {"target": x}


def _hidden(prediction: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Prediction and target ``(V, D)`` at the hidden items."""
    same_shape(prediction=prediction, target=target)
    target = target.detach()
    if mask is None:
        return prediction.flatten(0, -2), target.flatten(0, -2)
    if mask.dtype != torch.bool or mask.shape != prediction.shape[:-1]:
        raise DataError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; expected torch.bool {tuple(prediction.shape[:-1])}, "
            "True where an item was hidden."
        )
    return prediction[mask], target[mask]


@objective(rank=RankBehaviour.LOCAL, example=_example)
def scaled_cosine_error(
    prediction: Tensor,
    target: Tensor,
    *,
    gamma: float = 3.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = (1 - cos(z_i, x_i))^gamma`` over the hidden items; gamma > 1 lets easy items count less.

    prediction, target: ``(..., D)``. mask: ``(...)`` bool, True where an item was hidden (None: everywhere). Items
    whose target is all zero have no direction: they are left out. Returns ``()``, or ``(V,)`` values of the V items
    that count, in the order of the mask. reduction: ``mean``, or ``none`` for a loss each.

    Source: Hou et al. 2022 (GraphMAE), arXiv 2205.10803, eq. 2.

    >>> x = torch.eye(3)
    >>> scaled_cosine_error(x.flip(0), x, mask=torch.tensor([True, True, False]), reduction="none").tolist()
    [1.0, 0.0]
    """
    if gamma < 1:
        raise ConfigError(f"gamma={gamma}: the scaled cosine error needs gamma >= 1 (1: the cosine distance).")
    z, x = _hidden(prediction, target, mask)
    length = torch.linalg.vector_norm(x, dim=-1)
    if not (directed := length > 0).all():
        z, x, length = z[directed], x[directed], length[directed]
    # A product of two matrices each, as elementwise products of wide features would be written out several times.
    dot = (z.unsqueeze(-2) @ x.unsqueeze(-1)).flatten()
    cosine = dot / (torch.linalg.vector_norm(z, dim=-1).clamp_min(1e-8) * length)
    # Rounding can put a cosine above 1, and a negative number has no fractional power.
    distance = (1 - cosine).clamp_min(0)
    return reduced(distance if gamma == 1 else distance.pow(gamma), reduction)


@objective(rank=RankBehaviour.LOCAL, example=_example)
def masked_mse(
    prediction: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    normalize_target: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """``L_i = Σ_d (z_id - x_id)² / D`` over the hidden items.

    prediction, target: ``(..., D)``, an item being a patch, a token, a node. mask: ``(...)`` bool, True where an item
    was hidden (None: everywhere). normalize_target: each target item with mean 0 and variance 1 over its D values
    first. Returns ``()``, or ``(V,)`` values of the hidden items in the order of the mask. reduction: ``mean``, or
    ``none`` for a loss each.

    Source: He et al. 2022 (MAE), arXiv 2111.06377.

    >>> x = torch.zeros(4, 2)
    >>> float(masked_mse(x + 2, x, mask=torch.tensor([True, False, False, False])))
    4.0
    """
    z, x = _hidden(prediction, target, mask)
    if normalize_target:
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return reduced((z - x).square().mean(-1), reduction)


def _cells_example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 2, 5, dtype=torch.float64, generator=draw)
    numbers, values = torch.randn(2, 6, 3, dtype=torch.float64, generator=draw)
    codes = torch.randint(5, (6, 2), generator=draw)
    return (logits, numbers), {"codes": codes, "values": values, "hidden": torch.rand(6, 5, generator=draw) < 0.5}


@objective(rank=RankBehaviour.LOCAL, example=_cells_example)
def masked_cells(
    logits: Tensor | None, numbers: Tensor | None, *, codes: Tensor, values: Tensor, hidden: Tensor
) -> Tensor:
    """``L = (mean of -log softmax(logits_ik)[code_ik] + mean of (number_im - value_im)²) / 2`` over the hidden cells.

    logits: ``(N, K, V)``, for each of K columns of categories over the V values of all of them, as published: a
    column has to learn which ones are its own. numbers: ``(N, M)``. codes: ``(N, K)`` long. values: ``(N, M)``.
    hidden: ``(N, K + M)`` bool, True where a cell was hidden, categories first. Where a table has columns of one sort
    only (the other is None) there is no halving. A sort of which no cell is hidden adds 0. Returns ``()``.

    Source: Du et al. 2024 (TIP), arXiv 2407.07582.

    >>> truth = {"codes": torch.tensor([[1]]), "values": torch.tensor([[1.0]]), "hidden": torch.tensor([[True, True]])}
    >>> loss = masked_cells(torch.zeros(1, 1, 4), torch.tensor([[3.0]]), **truth)
    >>> round(float(loss), 4)  # (log 4 + (3 - 1)²) / 2
    2.6931
    """
    k = codes.shape[1]
    if hidden.dtype != torch.bool or hidden.shape != (len(codes), k + values.shape[1]):
        raise DataError(
            f"hidden is {hidden.dtype} {tuple(hidden.shape)}; expected torch.bool "
            f"{(len(codes), k + values.shape[1])}: a place for each of {k} categories and {values.shape[1]} numbers."
        )
    if logits is None and numbers is None:
        raise DataError("There is nothing predicted: give logits, numbers or both.")
    parts = []
    if logits is not None:
        at = hidden[:, :k]
        parts.append(reduced(F.cross_entropy(logits[at], codes[at], reduction="none"), "mean"))
    if numbers is not None:
        at = hidden[:, k:]
        parts.append(reduced((numbers[at] - values.detach()[at]).square(), "mean"))
    return torch.stack(parts).mean()
