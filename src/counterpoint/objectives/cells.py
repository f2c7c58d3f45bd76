"""Reconstruction of the hidden cells of a table: categories and numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import reduced


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 2, 5, dtype=torch.float64, generator=draw)
    numbers, values = torch.randn(2, 6, 3, dtype=torch.float64, generator=draw)
    codes = torch.randint(5, (6, 2), generator=draw)
    return (logits, numbers), {"codes": codes, "values": values, "hidden": torch.rand(6, 5, generator=draw) < 0.5}


@objective(rank=RankBehaviour.LOCAL, example=_example)
def masked_cells(
    logits: Tensor | None, numbers: Tensor | None, *, codes: Tensor, values: Tensor, hidden: Tensor
) -> Tensor:
    """``L = (mean of -log softmax(logits_ik)[code_ik] + mean of (number_im - value_im)²) / 2`` over the hidden cells.

    logits: ``(N, K, V)``, for each of K columns of categories over the V values of all of them, as published: a
    column has to learn which ones are its own. numbers: ``(N, M)``. codes: ``(N, K)`` long. values: ``(N, M)``.
    hidden: ``(N, K + M)`` bool, True where a cell was hidden, categories first. Where a table has columns of one sort
    only (the other is None) there is no halving. A sort of which no cell is hidden adds 0. Returns ``()``.

    Source: Du et al. 2024 (TIP), arXiv 2407.07582.
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
