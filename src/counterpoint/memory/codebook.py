"""A codebook: vectors that rows are rounded to, kept as running means of the rows they stand for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.memory.base import Memory, Update, checked
from counterpoint.objectives.reduce import reduced
from counterpoint.processes import gathered, total


class Quantised(NamedTuple):
    """vectors: ``(N, D)`` codes, whose gradient passes straight through to z. codes: ``(N,)`` long.
    commitment: ``()`` mean squared distance of z to its codes, over the rows of all processes; gradient to z only."""

    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class Codebook(Memory):
    """``size`` codes of width ``dim``, updated without gradient by running counts and sums:

    ``n_k <- decay · n_k + (1 - decay) · |{i: code(i) = k}|``, ``m_k`` likewise of the sums of rows,
    ``code_k = m_k / n_k`` (counts smoothed by ``eps``). A code whose count falls below ``dead`` is restarted at a row
    of the batch that is far from its own code; the farthest rows go first, so no random draw is needed. ``dead=0``:
    never. seed: of the first codes.

    seed: of the first codes.

    Sources: van den Oord et al. 2017 (VQ-VAE), arXiv 1711.00937, appendix A.1; Dhariwal et al. 2020
    (restarts), arXiv 2005.00341.

    >>> codebook = Codebook(size=2, dim=2, decay=0.5)
    >>> z = torch.tensor([[0.0, 9.0], [9.0, 0.0]]).repeat(10, 1)
    >>> for _ in range(20):
    ...     codebook.update(z)
    >>> quantised = codebook(z)
    >>> quantised.vectors.shape, len(quantised.codes.unique()), bool(quantised.commitment < 0.1)
    (torch.Size([20, 2]), 2, True)
    """

    weight: Tensor
    mass: Tensor
    sums: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        decay: float = 0.99,
        eps: float = 1e-5,
        dead: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if size < 1 or dim < 1 or not 0 <= decay < 1:
            raise ConfigError(f"Codebook(size={size}, dim={dim}, decay={decay}): sizes >= 1 and 0 <= decay < 1.")
        self.dim, self.decay, self.eps, self.dead = dim, decay, eps, dead
        self.register_buffer("weight", torch.randn(size, dim, generator=torch.Generator().manual_seed(seed)))
        self.register_buffer("mass", torch.ones(size))
        self.register_buffer("sums", self.weight.clone())

    @torch.no_grad()
    def assign(self, z: Tensor) -> Tensor:
        """``(N,)`` long: the nearest code of every row ``(N, dim)``.

        z: rows, of any device the codes are on.
        """
        return (self.weight.square().sum(1) - 2 * z.to(self.weight) @ self.weight.T).argmin(1)

    def forward(self, z: Tensor) -> Quantised:
        """Rows z ``(N, dim)`` as their codes (with the gradient of z itself), the codes' numbers ``(N,)`` and the
        commitment loss."""
        codes = self.assign(z)
        nearest = self.weight[codes].to(z)
        commitment = reduced((z - nearest).square().flatten(), "mean")
        return Quantised(z + (nearest - z).detach(), codes, commitment)

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Rows ``(N, dim)`` of this process; every process takes in the rows of all, so that codebooks stay equal.

        z: the rows.
        """
        z = checked(gathered(z.detach()), self.dim, "a codebook").to(self.weight)
        if not len(z):
            return
        codes = self.assign(z)
        far_first = (z - self.weight[codes]).square().sum(1).argsort(descending=True, stable=True)
        counts = torch.bincount(codes, minlength=len(self.mass)).to(z)
        self.mass.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, codes, z), 1 - self.decay)
        whole = self.mass.sum()
        smooth = (self.mass + self.eps) / (whole + len(self.mass) * self.eps) * whole
        self.weight.copy_(self.sums / smooth[:, None])
        dead = (self.mass < self.dead).nonzero()[: len(z), 0]
        fresh = z[far_first[: len(dead)]]
        self.weight[dead], self.sums[dead], self.mass[dead] = fresh, fresh, 1.0

    def perplexity(self, codes: Tensor) -> Tensor:
        """``exp(-Σ_k p_k log p_k)`` of the codes ``(N,)`` in use, ``()``: 1 (one code) to ``size`` (all alike).

        Codes of all processes count.
        """
        used = total(torch.bincount(codes, minlength=len(self.mass)).to(self.weight))
        p = used / used.sum().clamp_min(1)
        entropy: Tensor = torch.special.entr(p).sum()
        return entropy.exp()

    @classmethod
    def example(cls, seed: int = 0) -> tuple[Codebook, Update]:
        codebook = cls(5, 4, decay=0.5, seed=seed)
        return codebook, codebook.update
