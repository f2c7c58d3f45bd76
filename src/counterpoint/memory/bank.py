"""A keyed bank: the latest vector of every row of the data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.base import Memory, Update, checked, unit_vectors
from counterpoint.processes import gathered, sizes


class Bank(Memory):
    """``rows`` vectors of width ``dim``, by row number.

    A row's first vector is stored, later ones are mixed in: ``v <- momentum · v + (1 - momentum) · z``, then scaled to
    unit length where ``normalize``.

    Rows not seen yet hold random unit vectors from ``seed``.
    Source: Wu et al. 2018 (instance discrimination), arXiv 1805.01978, momentum 0.5.

    >>> bank = Bank(rows=100, dim=2)
    >>> bank.update(torch.tensor([7]), torch.tensor([[3.0, 4.0]]))
    >>> [round(x, 2) for x in bank.look_up(torch.tensor([7]))[0].tolist()], int(bank.seen.sum())
    ([0.6, 0.8], 1)
    """

    vectors: Tensor
    seen: Tensor

    def __init__(self, rows: int, dim: int, *, momentum: float = 0.5, normalize: bool = True, seed: int = 0) -> None:
        super().__init__()
        if rows < 1 or dim < 1 or not 0 <= momentum < 1:
            raise ConfigError(f"Bank(rows={rows}, dim={dim}, momentum={momentum}): sizes >= 1, 0 <= momentum < 1.")
        self.momentum, self.normalize = momentum, normalize
        self.register_buffer("vectors", unit_vectors(rows, dim, seed))
        self.register_buffer("seen", torch.zeros(rows, dtype=torch.bool))

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.vectors.shape[1]

    def _checked_rows(self, rows: Tensor) -> Tensor:
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(self.vectors)):
            raise DataError(
                f"Row numbers {int(rows.min())} to {int(rows.max())} do not fit a bank of {len(self.vectors)} rows."
            )
        return rows.to(self.vectors.device)

    @torch.no_grad()
    def update(self, rows: Tensor, z: Tensor) -> None:
        """Mix in vectors ``(N, dim)`` of rows ``(N,)`` long; a row given several times counts once, by its mean.

        Every process takes in the rows of all, so that the banks stay equal.
        """
        if rows.shape != (len(z),):
            raise DataError(f"{len(z)} vectors came with row numbers of shape {tuple(rows.shape)}.")
        counts = sizes(len(z), z.device)
        z = checked(gathered(z.detach(), counts), self.dim, "a bank").to(self.vectors)
        rows = gathered(rows.to(z.device), counts)
        if not len(z):
            return
        keys, inverse, times = torch.unique(self._checked_rows(rows), return_inverse=True, return_counts=True)
        new = z.new_zeros(len(keys), self.dim).index_add_(0, inverse, z) / times[:, None]
        keep = self.momentum * self.seen[keys].to(z)[:, None]
        mixed = keep * self.vectors[keys] + (1 - keep) * new
        self.vectors[keys] = nn.functional.normalize(mixed, dim=1) if self.normalize else mixed
        self.seen[keys] = True

    def look_up(self, rows: Tensor) -> Tensor:
        """A copy of the vectors ``(N, dim)`` of the rows ``(N,)``; ``bank.seen[rows]`` says which were ever
        stored."""
        return self.vectors[self._checked_rows(rows)].clone()

    @classmethod
    def example(cls, seed: int = 0) -> tuple[Bank, Update]:
        bank = cls(64, 4, seed=seed)
        return bank, lambda z: bank.update(torch.arange(len(z)) % 64, z)
