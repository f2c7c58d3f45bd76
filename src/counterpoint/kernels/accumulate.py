"""Running sums over tiles, for one side of the pair matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoint.kernels.tile import Asked, Cell, Sums


def reduced(x: Tensor, dim: int) -> Tensor:
    """Sum of a float tile over an axis, as a product with ones: the fastest sum there is."""
    ones = x.new_ones(x.shape[dim])
    return x @ ones if dim else ones @ x


class Shifted:
    """Sums of ``exp(x - shift)`` with one shift for all: one exponential serves rows, columns and positives alike."""

    def __init__(self, n: int, like: Tensor, shift: float) -> None:
        self.sum = like.new_zeros(n)
        self.shift = shift

    def add(self, where: slice, exponentials: Tensor, dim: int) -> None:
        """Add a tile of ``exp(x - shift)``, summed over ``dim``."""
        self.sum[where] += reduced(exponentials, dim)

    def exact(self, reach: float, absent: Tensor | None = None) -> Tensor:
        """() bool: every logsumexp lies above ``shift - reach``, but for rows known to be ``absent`` (bool)."""
        found = self.value() >= self.shift - reach
        return (found if absent is None else found | absent).all()

    def value(self) -> Tensor:
        return self.sum.log() + self.shift


class Online:
    """A maximum and a sum, both updated with each tile: exact whatever the scores.

    Source: Milakov and Gimelshein 2018, arXiv 1805.02867.
    """

    def __init__(self, n: int, like: Tensor) -> None:
        self.largest = like.new_full((n,), -torch.inf)
        self.sum = like.new_zeros(n)

    def add(self, where: slice, x: Tensor, dim: int) -> None:
        """Add a tile of ``x`` (not of exponentials), reduced over ``dim``."""
        old = self.largest[where]
        new = torch.maximum(old, x.amax(dim))
        shift = new.masked_fill(new == -torch.inf, 0)  # where there is nothing yet: exp(-inf - 0) = 0
        self.sum[where] = self.sum[where] * (old - shift).exp() + (x - shift.unsqueeze(dim)).exp().sum(dim)
        self.largest[where] = new

    def value(self) -> Tensor:
        return self.sum.log() + self.largest


class Side:
    """All that is asked of the rows (dim 1 is summed), or of the columns (dim 0); see `Sums`."""

    def __init__(self, n: int, dim: int, like: Tensor, asked: Asked, shift: float | None) -> None:
        def running() -> Shifted | Online:
            return Online(n, like) if shift is None else Shifted(n, like, shift)

        def zeros(wanted: bool) -> Tensor | None:
            return like.new_zeros(n) if wanted else None

        self.dim = dim
        self.over = running()
        self.plain = zeros(asked.form == "sigmoid")
        self.positives = running() if asked.positives else None
        self.weights = Online(n, like) if asked.weights else None
        self.dot, self.total = zeros(asked.dot), zeros(asked.dot)
        self.n_positives, self.n_dropped = zeros(asked.counts or asked.positives), zeros(asked.counts)

    def count(self, where: slice, cell: Cell) -> None:
        """Add what can be counted without the scores."""
        if self.total is not None and cell.targets is not None:
            self.total[where] += reduced(cell.targets, self.dim)
        if self.n_positives is not None and cell.positives is not None:
            self.n_positives[where] += cell.positives.sum(self.dim)
        if self.n_dropped is not None and cell.dropped is not None:
            self.n_dropped[where] += cell.dropped.sum(self.dim)

    def exact(self, reach: float) -> Tensor:
        """() bool: nothing that counts has underflowed."""
        assert isinstance(self.over, Shifted)
        if not isinstance(self.positives, Shifted):
            return self.over.exact(reach)
        assert self.n_positives is not None
        return self.over.exact(reach) & self.positives.exact(reach, absent=self.n_positives == 0)

    def sums(self) -> Sums:
        return Sums(
            self.over.value() if self.plain is None else self.plain,
            None if self.positives is None else self.positives.value(),
            self.dot,
            self.total,
            self.n_positives,
            self.n_dropped,
            None if self.weights is None else self.weights.value(),
        )
