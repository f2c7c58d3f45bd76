"""Prototypes: unit vectors that rows are compared with, learned by gradient or moved to the mean of their rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.base import Memory, Update, checked, unit_vectors
from counterpoint.processes import total


def _check(count: int, dim: int) -> None:
    if count < 1 or dim < 1:
        raise ConfigError(f"{count} prototypes of width {dim}: give at least one of each.")


class Prototypes(Memory):
    """``count`` learnable directions of width ``dim``: ``forward(z (N, dim)) -> (N, count)`` cosines.

    Both sides are scaled to unit length in the forward pass, so the stored length never matters.
    Source: Caron et al. 2020 (SwAV), arXiv 2006.09882.

    seed: of the first directions.

    >>> prototypes = Prototypes(count=10, dim=4)
    >>> scores = prototypes(torch.ones(3, 4))
    >>> scores.shape, bool((scores.abs() <= 1).all())
    (torch.Size([3, 10]), True)
    """

    def __init__(self, count: int, dim: int, *, seed: int = 0) -> None:
        super().__init__()
        _check(count, dim)
        self.dim = dim
        self.weight = nn.Parameter(unit_vectors(count, dim, seed))

    def forward(self, z: Tensor) -> Tensor:
        """Cosines ``(N, count)`` of rows z ``(N, dim)`` and the prototypes, with gradients to both."""
        return nn.functional.normalize(z, dim=-1) @ nn.functional.normalize(self.weight, dim=-1).T

    @classmethod
    def example(cls, seed: int = 0) -> tuple[Prototypes, Update]:
        prototypes = cls(5, 4, seed=seed)
        return prototypes, lambda z: prototypes(checked(z, 4, "prototypes"))


class MeanPrototypes(Memory):
    """``count`` directions without gradient, moved to the mean of the rows assigned to them:
    ``c_k <- unit(momentum · c_k + (1 - momentum) · Σ_i q_ik z_i / Σ_i q_ik)``; a prototype with no row stays.

    ``forward(z (N, dim)) -> (N, count)`` cosines, with gradient to z only.
    Source: Li et al. 2021 (MoPro, prototypes as moving averages), arXiv 2009.07995.

    seed: of the first directions.

    >>> prototypes = MeanPrototypes(count=3, dim=2, momentum=0.0)
    >>> prototypes.update(torch.tensor([[0.0, 5.0], [0.0, 1.0]]), torch.tensor([2, 2]))
    >>> prototypes(torch.tensor([[0.0, 1.0]])).argmax(1).tolist()
    [2]
    """

    weight: Tensor

    def __init__(self, count: int, dim: int, *, momentum: float = 0.99, seed: int = 0) -> None:
        super().__init__()
        _check(count, dim)
        if not 0 <= momentum <= 1:
            raise ConfigError(f"momentum={momentum}: give a number from 0 to 1.")
        self.dim, self.momentum = dim, momentum
        self.register_buffer("weight", unit_vectors(count, dim, seed))

    def forward(self, z: Tensor) -> Tensor:
        """Cosines ``(N, count)`` of rows z ``(N, dim)`` and the prototypes, with a gradient to z."""
        # A copy: `update` writes in place, perhaps before the backward pass of this product.
        return nn.functional.normalize(z, dim=-1) @ self.weight.T.clone()

    @torch.no_grad()
    def update(self, z: Tensor, assignment: Tensor) -> None:
        """Rows ``(N, dim)``, scaled to unit length here, and their assignments ``(N, count)`` or ``(N,)`` long.

        The rows of all processes count.

        z: the rows. assignment: shares of each prototype, or the number of one.
        """
        z = nn.functional.normalize(checked(z, self.dim, "prototypes").to(self.weight), dim=1)
        if not assignment.is_floating_point():
            assignment = nn.functional.one_hot(assignment, len(self.weight))
        if assignment.shape != (len(z), len(self.weight)):
            raise DataError(
                f"Assignments of shape {tuple(assignment.shape)} do not fit {len(z)} rows and "
                f"{len(self.weight)} prototypes."
            )
        q = assignment.to(z)
        mass = total(q.sum(0))[:, None]
        mean = total(q.T @ z) / mass.clamp_min(torch.finfo(z.dtype).tiny)
        moved = nn.functional.normalize(self.momentum * self.weight + (1 - self.momentum) * mean, dim=1)
        self.weight.copy_(torch.where(mass > 0, moved, self.weight))

    @classmethod
    def example(cls, seed: int = 0) -> tuple[MeanPrototypes, Update]:
        prototypes = cls(5, 4, seed=seed)
        return prototypes, lambda z: prototypes.update(z, prototypes(z).argmax(1))
