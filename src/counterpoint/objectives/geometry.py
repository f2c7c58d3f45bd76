"""The shape of a cloud of embeddings: what the monitors watch, and two losses made of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, at_least_float32, no_autocast, reduced, same_shape
from counterpoint.processes import gathered


def _example_pair(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x, noise = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x, x + 0.3 * noise), {}


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)),), {}


@objective(rank=RankBehaviour.LOCAL, example=_example_pair)
def alignment(x: Tensor, y: Tensor, *, alpha: float = 2.0, reduction: Reduction = "mean") -> Tensor:
    """``mean_i |x_i - y_i|^alpha`` of unit vectors: how far a row is from its positive. 0: they coincide.

    x, y: ``(N, D)``, scaled to unit length here. Returns ``()`` or ``(N,)``. reduction: ``mean``, or ``none`` for a
    loss each. Source: Wang & Isola 2020, arXiv 2005.10242.

    >>> x = torch.tensor([[1.0, 0.0]])
    >>> float(alignment(x, 2 * x)), round(float(alignment(x, -x)), 3)
    (0.0, 4.0)
    """
    same_shape(x=x, y=y)
    squares = (F.normalize(x, dim=-1) - F.normalize(y, dim=-1)).square().sum(-1)
    return reduced(squares if alpha == 2 else squares.clamp_min(1e-24).pow(alpha / 2), reduction)


@objective(rank=RankBehaviour.GATHER, example=_example)
def uniformity(x: Tensor, *, t: float = 2.0) -> Tensor:
    """``log mean_{i<j} exp(-t |x_i - x_j|²)`` of unit vectors: 0 when all coincide, lower the more evenly they
    spread.

    x: ``(N, D)``, scaled to unit length here. Returns ``()``; 0 where there is no pair (N < 2).
    Source: Wang & Isola 2020, arXiv 2005.10242.

    >>> bool(uniformity(torch.ones(5, 2)).abs() < 1e-5), round(float(uniformity(torch.eye(5))), 3)
    (True, -4.0)
    """
    x = gathered(x)
    n = len(x)
    if n < 2:
        return x.sum() * 0
    with no_autocast(x):
        x = F.normalize(at_least_float32(x), dim=-1)
        i, j = torch.triu_indices(n, n, 1, device=x.device)
        return (2 * t * ((x @ x.T)[i, j] - 1)).logsumexp(0) - torch.tensor(float(len(i))).log()


@torch.no_grad()
def effective_rank(z: Tensor, *, centred: bool = False) -> Tensor:
    """``exp(-Σ_k p_k log p_k)``, ``p_k = σ_k / Σ σ``: how many directions the embeddings use, between 1 and min(N,
    D).

    z: ``(N, D)``. centred: subtract the mean first; the default does not, so that a collapse to one point
    (whose centred rest is rounding noise of full rank) reads 1. Returns ``()``; 1 for no rows or all zeros.
    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality".

    >>> round(float(effective_rank(torch.eye(4))), 3), round(float(effective_rank(torch.ones(4, 4))), 3)
    (4.0, 1.0)
    """
    with no_autocast(z):
        z = at_least_float32(z)
        if not len(z):
            return z.new_ones(())
        sigma = torch.linalg.svdvals(z - z.mean(0) if centred else z)
    p = sigma / sigma.sum().clamp_min(torch.finfo(z.dtype).tiny)
    entropy: Tensor = torch.special.entr(p).sum()
    return entropy.exp()


@torch.no_grad()
def mean_pair_cosine(z: Tensor) -> Tensor:
    """``mean_{i≠j} cos(z_i, z_j)``: what two random rows have in common. Near 1: collapse to a point.

    All pairs, through ``(|Σ_i u_i|² - N) / (N (N - 1))`` of the unit vectors u. z: ``(N, D)``. Returns
    ``()``; 0 where there is no pair (N < 2). A row of zeros has cosine 0 with every other.

    >>> round(float(mean_pair_cosine(torch.ones(4, 3))), 3), round(float(mean_pair_cosine(torch.eye(3))), 3)
    (1.0, 0.0)
    """
    u = F.normalize(at_least_float32(z), dim=-1)
    n = len(u)
    return (u.sum(0).square().sum() - u.square().sum()) / max(1, n * (n - 1))


@torch.no_grad()
def isotropy(z: Tensor) -> Tensor:
    """``min_c Z(c) / max_c Z(c)``, ``Z(c) = Σ_i exp(c·z_i)``, c over both signs of the eigenvectors of ``zᵀz``.

    1: every direction looks alike; 0: the rows point one way. z: ``(N, D)``, N >= 1. Returns ``()``.
    Source: Mu & Viswanath 2018 (all-but-the-top), arXiv 1702.01417, eq. 1.

    >>> even = torch.cat([torch.eye(3), -torch.eye(3)])
    >>> round(float(isotropy(even)), 3), bool(isotropy(torch.ones(6, 3)) < 0.1)
    (1.0, True)
    """
    with no_autocast(z):
        z = at_least_float32(z)
        vectors = torch.linalg.eigh(z.T @ z).eigenvectors
        along = z @ vectors
    log_z = torch.cat([along, -along], dim=1).logsumexp(0)
    return (log_z.min() - log_z.max()).exp()


@torch.no_grad()
def eigen_alignment(weight: Tensor, moment: Tensor) -> Tensor:
    """``mean_u |cos(W u, u)|`` over the eigenvectors u of a moment: 1 where they are eigenvectors of W too.

    weight: W ``(D, D)``. moment: ``(D, D)``, symmetric. Returns ``()``.
    Source: Tian et al. 2021, arXiv 2102.06810, who watch a predictor align with what it predicts from.

    >>> moment = torch.diag(torch.tensor([1.0, 2.0]))
    >>> round(float(eigen_alignment(3 * moment, moment)), 3)
    1.0
    """
    u = torch.linalg.eigh(moment).eigenvectors
    return F.cosine_similarity(weight @ u, u, dim=0).abs().mean()
