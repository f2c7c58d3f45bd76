"""Running statistics of embeddings: second moment, mean, variance."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.memory.base import Memory, Update, checked
from counterpoint.processes import total


class RunningMoment(Memory):
    """Running second moment of rows: ``F <- rho · F + (1 - rho) · F_hat``, at first ``F = F_hat``.

    ``F_hat = mean_i z_i z_iᵀ`` of a batch.

    rho: weight of the *old* value (0: the last batch alone). centred: `moment` is then the covariance ``F - mu muᵀ``,
    mu the mean kept in the same way. Kept in float32 (or in the module's own float64). dim: width of rows.

    Source: Tian et al. 2021 (DirectPred), arXiv 2102.06810, with rho 0.3.

    >>> running = RunningMoment(dim=2, rho=0.3)
    >>> running.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> running.moment.tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    second: Tensor
    mean: Tensor
    updates: Tensor

    def __init__(self, dim: int, rho: float, *, centred: bool = False) -> None:
        super().__init__()
        if dim < 1 or not 0 <= rho < 1:
            raise ConfigError(f"RunningMoment(dim={dim}, rho={rho}): dim >= 1 and 0 <= rho < 1.")
        self.dim, self.rho, self.centred = dim, rho, centred
        self.register_buffer("second", torch.zeros(dim, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("updates", torch.tensor(0))

    @property
    def moment(self) -> Tensor:
        """``(dim, dim)`` symmetric, a copy: F, or F - mu muᵀ where centred. Zeros before the first update."""
        return self.second - torch.outer(self.mean, self.mean) if self.centred else self.second.clone()

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Rows ``(N, dim)`` of this process; the rows of all processes count. No rows at all change nothing.

        z: the rows.
        """
        z = checked(z, self.dim, "a running moment").to(self.second)
        with torch.autocast(z.device.type, enabled=False):
            n = total(z.new_tensor(float(len(z))))
            second, mean = total(z.T @ z), total(z.sum(0))
        if n == 0:
            return
        keep = self.rho * (self.updates > 0).to(self.second)
        second = (second + second.T) / (2 * n)  # an eigen-solver reads one triangle: make both the same
        self.second.copy_(keep * self.second + (1 - keep) * second)
        self.mean.copy_(keep * self.mean + (1 - keep) * mean / n)
        self.updates += 1

    @classmethod
    def example(cls, seed: int = 0) -> tuple[RunningMoment, Update]:
        moment = cls(4, 0.3, centred=True)
        return moment, moment.update


class RunningVariance(Memory):
    """Running mean and variance per coordinate, ``v <- rho · v + (1 - rho) · v_hat``; at first the batch's own.

    The variance is that of the mixture (second moment minus squared mean, both running), divided by N: it
    does not miss the drift of the mean between batches, as an average of the batches' variances would.

    dim: width of rows.

    >>> running = RunningVariance(dim=1)
    >>> running.update(torch.tensor([[1.0], [3.0]]))
    >>> running.mean.tolist(), running.variance.tolist()
    ([2.0], [1.0])
    """

    mean: Tensor
    square: Tensor
    updates: Tensor

    def __init__(self, dim: int, rho: float = 0.99) -> None:
        super().__init__()
        if dim < 1 or not 0 <= rho < 1:
            raise ConfigError(f"RunningVariance(dim={dim}, rho={rho}): dim >= 1 and 0 <= rho < 1.")
        self.dim, self.rho = dim, rho
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.zeros(dim))
        self.register_buffer("updates", torch.tensor(0))

    @property
    def variance(self) -> Tensor:
        """``(dim,)``, >= 0."""
        return (self.square - self.mean.square()).clamp_min(0)

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Rows ``(N, dim)`` of this process; the rows of all processes count. No rows at all change nothing.

        z: the rows.
        """
        z = checked(z, self.dim, "a running variance").to(self.mean)
        n = total(z.new_tensor(float(len(z))))
        mean, square = total(z.sum(0)), total(z.square().sum(0))
        if n == 0:
            return
        keep = self.rho * (self.updates > 0).to(self.mean)
        self.mean.copy_(keep * self.mean + (1 - keep) * mean / n)
        self.square.copy_(keep * self.square + (1 - keep) * square / n)
        self.updates += 1

    @classmethod
    def example(cls, seed: int = 0) -> tuple[RunningVariance, Update]:
        variance = cls(4, 0.9)
        return variance, variance.update
