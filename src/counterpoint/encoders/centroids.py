"""Centroids: the mean embedding of each group of items, however many items there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError
from counterpoint.processes import rank, total, world

PART = 10_000
"""Items encoded before they are added to the sums of their groups."""


def centroids(encoder: Encoder, items: Sequence[Any], owners: np.ndarray, groups: int) -> Tensor:
    """``(groups, D)`` on the CPU: the mean embedding of each group's items, by the encoder as it is, without dropout.

    owners: ``(P, 2)`` pairs of an item's place in ``items`` and its group; an item may be of several groups, and every
    group has one at least. Over many processes each encodes its share, and all come out with everything. Raises
    `ConfigError` where the encoder's weights are cut up among processes.

    >>> from counterpoint.encoders.static import StaticText
    >>> centroids(StaticText.example(), ["a cat", "a dog", "a car"], np.array([[0, 0], [1, 0], [2, 1]]), 2).shape
    torch.Size([2, 16])
    """
    if any(isinstance(p, DTensor) for p in encoder.parameters()):
        raise ConfigError(
            "Items are encoded by whole encoders, and this one is cut up among processes: --parallel ddp."
        )
    sums = torch.zeros(groups, encoder.dim)
    count = torch.from_numpy(np.bincount(owners[:, 1], minlength=groups))
    for start in range(rank() * PART, len(owners), world() * PART):
        part = owners[start : start + PART]
        z = encoder.encode([items[i] for i in part[:, 0]], normalize=False)
        sums.index_add_(0, torch.from_numpy(part[:, 1]), torch.from_numpy(z))
    return total(sums.to(encoder.device)).cpu() / count[:, None]


def group_means(z: Tensor, group: Tensor, *, groups: int | None = None) -> Tensor:
    """``(G, D)``: the mean of each group's rows ``(N, D)``, of all processes; zeros for one without any.

    group: ``(N,)`` long, 0 to G - 1; -1: a row of none. groups: G, which several processes have to say (None: as many
    as these rows name). z: the rows.

    >>> group_means(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([0, 0, 1])).tolist()
    [[2.0], [9.0]]
    """
    member = F.one_hot(group.clamp_min(0), -1 if groups is None else groups).to(z) * (group >= 0)[:, None]
    return total(member.T @ z) / total(member.sum(0))[:, None].clamp_min(1)
