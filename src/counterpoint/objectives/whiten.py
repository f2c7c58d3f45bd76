"""Whitening in groups of coordinates that are drawn anew each time: the same rows, seen in different white spaces."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.objectives.decorrelate import whiten
from counterpoint.processes import drawing_alike


def shuffled_whiten(
    z: Tensor, order: Tensor, *, groups: int, eps: float = 1e-5, through_statistics: bool = False
) -> Tensor:
    """Rows whitened (ZCA) in ``groups`` groups of coordinates, of which group g holds those that ``order`` names at
    its places; each coordinate then stands where it stood.

    ``x = P⁻¹ W (P (z - mean))``, P the permutation, W block-diagonal with ``(S_g + eps I)^(-1/2)``. Another order makes
    other vectors of the same rows, but for ``groups=1`` (all coordinates together) and ``groups=D`` (each by itself).

    z: ``(N, D)``. order: ``(D,)`` long, see `shared_permutation`. through_statistics: whether the gradient also flows
    through mean and W. Returns ``(N, D)``. Rows of all processes form one batch; the rest as in `whiten`.

    Source: Zhuo et al. 2023 (WhitenedCSE), arXiv 2305.17746.

    >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> shuffled_whiten(z, torch.tensor([1, 0]), groups=2, eps=0.0).square().mean(0).round(decimals=4)
    tensor([1., 1.])
    """
    white = whiten(z[:, order], groups=groups, eps=eps, through_statistics=through_statistics)
    return white[:, order.argsort()]


def shared_permutation(n: int, *, device: torch.device | str = "cpu") -> Tensor:
    """A random order of n things, ``(n,)`` long, from torch's generator; every process gets that of the first.

    device: of the order.

    >>> sorted(shared_permutation(5).tolist())
    [0, 1, 2, 3, 4]
    """
    with drawing_alike(device):
        return torch.randperm(n, device=device)


def groups_for(dim: int, rows: int) -> int:
    """The fewest equal groups of ``dim`` coordinates whose covariance ``rows`` rows can tell: two rows and more for
    each coordinate of a group. At least two groups where dim allows it: in a single one a shuffle changes nothing.

    >>> groups_for(768, 64), groups_for(128, 512)
    (24, 2)
    """
    if dim < 1 or rows < 2:
        raise ConfigError(f"{rows} rows of {dim} coordinates cannot be whitened; give at least 2 rows of 1 coordinate.")
    return next(g for g in range(min(2, dim), dim + 1) if dim % g == 0 and (2 * dim // g <= rows or g == dim))
