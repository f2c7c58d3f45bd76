"""What every memory has in common: state in buffers, and a small example of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from counterpoint.errors import DataError

Update: TypeAlias = Callable[[Tensor], object]
"""Feeds rows ``(N, D)`` to the memory it belongs to, once."""


class Memory(nn.Module, ABC):
    """Base of every memory. The same updates from the same state give the same state, bit for bit, on CPU."""

    @classmethod
    @abstractmethod
    def example(cls, seed: int = 0) -> tuple[Memory, Update]:
        """A small memory and its update. Where the memory has ``dim``, the update takes rows ``(N, dim)``, N >= 0.

        seed: all of its numbers follow from it.
        """


def checked(z: Tensor, dim: int, into: str) -> Tensor:
    """Rows ``(N, dim)``, detached; an error names the first row that is not finite, since a memory would keep it.

    z: rows to be stored. into: what stores them, in words, for messages. Raises `DataError`, also for another width.

    >>> checked(torch.ones(2, 3, requires_grad=True), 3, "the queue").requires_grad
    False
    """
    if z.dim() != 2 or z.shape[1] != dim:
        raise DataError(f"{into} holds vectors of width {dim}; rows of shape {tuple(z.shape)} were given.")
    z = z.detach()
    finite = z.isfinite().all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise DataError(
            f"Row {row} of {len(z)} given to {into} is not finite (NaN or infinity). Nothing was stored. "
            "Look at the loss of the step before: a smaller learning rate or `clip` usually helps."
        )
    return z


def unit_vectors(count: int, dim: int, seed: int) -> Tensor:
    """``(count, dim)`` directions drawn evenly from the sphere.

    seed: of the draw.

    >>> z = unit_vectors(5, 3, seed=0)
    >>> z.shape, bool(torch.allclose(z.norm(dim=1), torch.ones(5)))
    (torch.Size([5, 3]), True)
    """
    z = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(z, dim=1)
