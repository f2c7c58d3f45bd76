"""Matched or not: pairs that hardly differ from the true ones, and the loss of telling them apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced


def hard_negatives(similarity: Tensor, uniform: Tensor, *, own: Tensor | None = None, floor: float = 1e-4) -> Tensor:
    """For each anchor another row's candidate, drawn with probability ``softmax(similarity)_ij + floor``; not its own.

    similarity: ``(N, M)``, scaled as in the contrastive loss. uniform: ``(N,)`` in [0, 1), drawn by the caller: the
    same numbers give the same negatives, on any device. own: ``(N,)`` long, the candidate that belongs to each anchor
    (None: candidate i to anchor i, M = N); of many processes, whose candidates are gathered, its number among those of
    all. floor: so that everyone has a chance. Returns ``(N,)`` long. Raises `DataError` for fewer than two candidates:
    there is no other.

    Source: Li et al. 2021 (ALBEF), arXiv 2107.07651; with a floor: Du et al. 2024 (TIP), arXiv 2407.07582.

    >>> similarity = torch.tensor([[9.0, 8.0, 0.0], [0.0, 9.0, 8.0], [8.0, 0.0, 9.0]])
    >>> hard_negatives(similarity, torch.full((3,), 0.5)).tolist()
    [1, 2, 0]
    """
    n, m = similarity.shape
    if uniform.shape != (n,) or (own is None and m != n) or (own is not None and own.shape != (n,)):
        raise DataError(
            f"similarity is {tuple(similarity.shape)} and uniform {tuple(uniform.shape)}; expected (N, N) and (N,), or "
            "(N, M) with own (N,), the candidate of each anchor."
        )
    if m < 2:
        raise DataError("A negative is another row's candidate: of one row there is none. Use a larger batch.")
    chance = similarity.detach().double().softmax(1) + floor
    own = torch.arange(n, device=chance.device) if own is None else own
    chance = chance.scatter(1, own[:, None], 0.0)
    rising = chance.cumsum(1)
    wanted = uniform.to(rising).unsqueeze(1) * rising[:, -1:]
    found = torch.searchsorted(rising, wanted, right=True).squeeze(1)
    # Rounding can lead behind the last candidate, which may be the anchor's own.
    return torch.minimum(found, torch.where(own == m - 1, m - 2, m - 1))


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x = torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x[0], x[1]), {}


@objective(rank=RankBehaviour.LOCAL, example=_example)
def matching(matched: Tensor, unmatched: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``L = -log softmax(z)[1]`` of pairs that belong together, ``-log softmax(z)[0]`` of the others; their mean.

    matched: ``(N, 2)`` and unmatched: ``(M, 2)`` logits for "not matched" and "matched". Returns ``()``, or ``(N +
    M,)`` values, those of the matched pairs first. reduction: ``mean``, or ``none`` for a loss each.

    Source: Li et al. 2021 (ALBEF), arXiv 2107.07651, eq. 2.

    >>> sure, unsure = torch.tensor([[-9.0, 9.0]]), torch.zeros(1, 2)
    >>> round(float(matching(sure, -sure)), 4), round(float(matching(unsure, unsure)), 4)
    (0.0, 0.6931)
    """
    for name, logits in (("matched", matched), ("unmatched", unmatched)):
        if logits.ndim != 2 or logits.shape[1] != 2:
            raise DataError(f"{name} is {tuple(logits.shape)}; expected (N, 2): a logit for each of the two answers.")
    losses = (-F.log_softmax(matched, 1)[:, 1], -F.log_softmax(unmatched, 1)[:, 0])
    return reduced(torch.cat(losses), reduction)
