"""Pointwise losses: what is known of each pair by itself, a class or a number, is told from its logits."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, reduced, same_shape, weighted

Task: TypeAlias = Literal["binary", "regression", "classes"]
"""What a score is: 0 or 1; a number; the number of a class."""


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    return (logits,), {"scores": torch.randint(3, (6,), generator=generator).double(), "task": "classes"}


@objective(rank=RankBehaviour.LOCAL, example=_example)
def pointwise(
    logits: Tensor, scores: Tensor, *, task: Task, mask: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """``regression``: ``L_i = (s_i - y_i)²``; ``binary``: cross-entropy of ``σ(s_i)``; ``classes``: of a softmax.

    logits: ``(N, C)``; of ``binary`` and ``regression`` the first one counts. scores: ``(N,)``, numbers; of ``classes``
    0 to C - 1, of ``binary`` 0 and 1. mask: ``(N,)`` bool, False where nothing is known, whatever the score: the mean
    is over the others. Returns ``()`` or ``(N,)``. Raises `DataError` for scores that are no class. reduction:
    ``mean``, or ``none`` for a loss each. task: regression, binary or classes.

    Source: the labelled loss of Barkan et al. 2019 (DSE), arXiv 1908.05161.

    >>> scores = torch.tensor([0.8, 0.1])
    >>> round(float(pointwise(torch.tensor([[0.7], [0.1]]), scores, task="regression")), 4)  # (0.1² + 0²) / 2
    0.005
    """
    if task not in get_args(Task):
        raise ConfigError(f"task={task!r}: type {', '.join(get_args(Task)[:-1])} or {get_args(Task)[-1]}.")
    same_shape(logits=logits[:, 0], scores=scores)
    y = scores if mask is None else torch.where(mask, scores, 0.0)  # what is not known may be NaN
    classes = 2 if task == "binary" else logits.shape[1]
    if task != "regression" and not bool(((y >= 0) & (y < classes) & (y == y.round())).all()):
        raise DataError(f"task={task}: scores are whole numbers from 0 to {classes - 1}; others were given.")
    match task:
        case "regression":
            losses = (logits[:, 0] - y).square()
        case "binary":
            losses = F.binary_cross_entropy_with_logits(logits[:, 0], y, reduction="none")
        case "classes":
            losses = F.cross_entropy(logits, y.long(), reduction="none")
    return reduced(losses, reduction) if mask is None else weighted(losses, mask, reduction)
