"""Supervised contrast whose positives and negatives come from different models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.objectives.base import objective
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Decoupled, Labels, NotSame, NotSelf, OnlySame, Rule
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.processes import world


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    random = torch.Generator().manual_seed(seed)
    q, p, n = (F.normalize(torch.randn(6, 4, dtype=torch.float64, generator=random), dim=-1) for _ in range(3))
    labels = torch.tensor([0, 1, 0, 1, 2, 0])
    return (q, p, n), {"labels": labels, "negative_labels": labels.flip(0), "scale": 2.0}


@objective(rank=RankBehaviour.GATHER, example=_example)
def sided_contrast(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    labels: Tensor,
    negative_labels: Tensor,
    scale: float | Tensor = 1.0,
    itself: bool = True,
    printed: bool = False,
) -> Tensor:
    """``L_k = mean over p in P(k) of -log [exp s(k, p) / (Σ_{q in P(k)} exp s(k, q) + Σ_{i: y_i≠y_k} exp s(k, i))]``,
    the mean over the anchors that have a positive.

    anchors, positives: ``(R, D)`` of the same rows, labels: ``(R,)`` long, their classes; P(k) are the positives of the
    class of anchor k. negatives: ``(B, D)``, negative_labels: ``(B,)``. s: scalar products times ``scale``. itself:
    whether the positive of the same row counts (as it does where another model made it). printed: the denominator is
    over all ``negatives``, whatever their class, and holds no positive; the loss may then fall below 0.

    Over many processes rows of all of them are compared. Without any anchor the loss and its gradient are 0. Returns
    ``()``.

    Source: Cappellazzo et al. 2023 (COCONUT), arXiv 2310.02699; with one model for all, Khosla et al. 2020 (SupCon),
    arXiv 2004.11362.

    >>> labels = torch.tensor([0, 1])
    >>> z = torch.eye(2)
    >>> loss = sided_contrast(z, z, z, labels=labels, negative_labels=labels, scale=10.0)
    >>> loss.shape, bool(loss < 0.01)
    (torch.Size([]), True)
    """
    if not len(anchors) and world() == 1:
        return (anchors.square().sum() + positives.square().sum() + negatives.square().sum()) * 0.0
    pairing: Rule = Labels(labels) & OnlySame(labels)
    if not itself:
        pairing = pairing & NotSelf()
    if printed:
        pairing = pairing & Decoupled()
    else:
        pairing = pairing & NotSame(labels, torch.cat((torch.full_like(labels, -1), negative_labels)))
    return contrast(anchors, positives, pairing, scale=scale, extra=negatives)
