"""Decorrelation: no negatives, no teacher; collapse is forbidden by the statistics of the batch.

Every function here is a statistic of the *whole* batch. All sums over rows go through
`counterpoint.processes.total`, so each of many processes returns the loss of the whole batch.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import (
    at_least_float32,
    batch_size,
    no_autocast,
    same_shape,
)
from counterpoint.processes import total

Whitening: TypeAlias = Literal["zca", "cholesky"]


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    a, noise = torch.randn(2, 12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (a, a + 0.5 * noise), {}


def _centre(z: Tensor, n: Tensor) -> Tensor:
    return z - total(z.sum(0)) / n


def _off_diagonal_squares(matrix: Tensor) -> Tensor:
    # Masked, not subtracted: (Σ C² - Σ C_ii²) cancels where the diagonal dominates, which is where training ends.
    return matrix.masked_fill(torch.eye(len(matrix), dtype=torch.bool, device=matrix.device), 0).square().sum()


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example)
def barlow_twins(
    a: Tensor,
    b: Tensor,
    *,
    weight: float = 0.0051,
    centred: bool = True,
    eps: float = 1e-12,
) -> Tensor:
    """``L = Σ_d (1 - C_dd)² + weight Σ_{d≠e} C_de²``, C the cross-correlation of the two views over the batch.

    ``C_de = Σ_n a_nd b_ne / (sqrt(Σ_n a_nd²) sqrt(Σ_n b_ne²))``, columns centred first unless
    ``centred=False``. a, b: ``(N, D)``. weight: of redundancy. eps: least variance of a column. Returns
    ``()``; 0 when both views agree and their coordinates are uncorrelated. Rows of all processes form one
    batch (module docstring). N < 2 is an error.

    Source: Zbontar et al. 2021, arXiv 2103.03230, eqs. 1 and 2.

    >>> z = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    >>> round(float(barlow_twins(z, z)), 1), round(float(barlow_twins(z, -z)), 1)  # agree; say the opposite
    (0.0, 16.0)
    """
    same_shape(a=a, b=b)
    n = batch_size(a)
    with no_autocast(a):
        a, b = at_least_float32(a), at_least_float32(b)
        if centred:
            a, b = _centre(a, n), _centre(b, n)
        var_a, var_b = total(a.square().sum(0)) / n, total(b.square().sum(0)) / n
        scale = (var_a.clamp_min(eps)[:, None] * var_b.clamp_min(eps)).sqrt()
        c = total(a.T @ b) / n / scale
    return (1 - c.diagonal()).square().sum() + weight * _off_diagonal_squares(c)


def vicreg_parts(a: Tensor, b: Tensor, *, gamma: float = 1.0, eps: float = 1e-4) -> dict[str, Tensor]:
    """The three parts of `vicreg`, not weighted: ``invariance``, ``variance``, ``covariance``, each ``()``.

    a, b: ``(N, D)``, the two views. gamma: the deviation that a coordinate should have at least. eps: added to
    variances before the root.

    >>> z = torch.randn(8, 4)
    >>> parts = vicreg_parts(z, z)
    >>> sorted(parts), float(parts["invariance"])
    (['covariance', 'invariance', 'variance'], 0.0)
    """
    same_shape(a=a, b=b)
    n = batch_size(a)
    d = a.shape[1]
    with no_autocast(a):
        a, b = at_least_float32(a), at_least_float32(b)
        parts = {"invariance": total((a - b).square().sum()) / (n * d)}
        variance, covariance = a.new_zeros(()), a.new_zeros(())
        for z in (_centre(a, n), _centre(b, n)):
            c = total(z.T @ z) / (n - 1)
            variance = variance + (gamma - (c.diagonal() + eps).sqrt()).relu().mean() / 2
            covariance = covariance + _off_diagonal_squares(c) / d
    return parts | {"variance": variance, "covariance": covariance}


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example)
def vicreg(
    a: Tensor,
    b: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    gamma: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """Invariance, variance, covariance: two views agree, no coordinate dies, no two say the same.

    ``L = invariance·s + variance·v + covariance·c``,
    ``s = Σ_nd (a_nd - b_nd)² / (N D)``, ``v = mean over views and d of max(0, gamma - sqrt(Var_d + eps))``,
    ``c = Σ over views of Σ_{d≠e} Cov_de² / D``, variances and covariances divided by N - 1.

    a, b: ``(N, D)``. Returns ``()``. N < 2 is an error. The divisions by D in s and by 2 in v are those of
    the released code, for which the published weights 25, 25, 1 hold; the paper's text prints neither.

    Source: Bardes et al. 2022, arXiv 2105.04906.

    >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> collapsed = torch.ones(4, 2)
    >>> round(float(vicreg(2 * z, 2 * z)), 2), round(float(vicreg(collapsed, collapsed)), 2)
    (0.0, 24.75)
    """
    parts = vicreg_parts(a, b, gamma=gamma, eps=eps)
    return invariance * parts["invariance"] + variance * parts["variance"] + covariance * parts["covariance"]


class _InverseRoot(torch.autograd.Function):
    """``S -> S^(-1/2)`` of symmetric positive definite matrices ``(..., D, D)``.

    The gradient is taken by divided differences of ``λ^(-1/2)``, which stay finite where eigenvalues
    coincide; the gradient of the eigenvectors themselves does not.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(s)
        # Below the precision of the largest eigenvalue there is only rounding noise; it must not be blown up.
        floor = torch.finfo(s.dtype).eps * values.amax(-1, keepdim=True)
        root = values.maximum(floor).clamp_min(torch.finfo(s.dtype).tiny).sqrt()
        ctx.save_for_backward(root, vectors)
        inverse: Tensor = (vectors / root[..., None, :]) @ vectors.mT
        return inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        root, vectors = ctx.saved_tensors
        row, column = root[..., :, None], root[..., None, :]
        inner = vectors.mT @ ((grad + grad.mT) / 2) @ vectors
        result: Tensor = vectors @ (-inner / (row * column * (row + column))) @ vectors.mT
        return result


def whiten(
    z: Tensor,
    *,
    groups: int = 1,
    eps: float = 1e-5,
    method: Whitening = "zca",
    centred: bool = True,
    through_statistics: bool = True,
) -> Tensor:
    """Rows with covariance ``I`` (divided by N) in each of ``groups`` consecutive blocks of D / groups coordinates.

    ``x = W (z - mean)``, ``W = (S + eps I)^(-1/2)`` (zca: the whitening nearest to the input) or
    ``W = L^(-1)`` with ``L Lᵀ = S + eps I`` (cholesky). ``groups=D`` standardises each coordinate.

    z: ``(N, D)``. eps: shrinkage; with 0, a group wider than the rank of the batch is an error. centred: subtract the
    mean. through_statistics: whether the gradient also flows through mean and W (False: they count as constants).
    Statistics are computed in float32 at least, whatever the dtype of z. Returns ``(N, D)`` in z's dtype. method:
    ``zca`` or ``cholesky``.

    Sources: Ermolov et al. 2021 (W-MSE, cholesky), arXiv 2007.06346; Huang et al. 2018 (zca), arXiv
    1804.08450.

    >>> z = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> z = z @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 5]])
    >>> x = whiten(z)
    >>> bool(torch.allclose(x.T @ x / 100, torch.eye(3), atol=1e-3))
    True
    """
    d = z.shape[1]
    if method not in ("zca", "cholesky"):
        raise ConfigError(f"method={method!r}: type method='zca' or method='cholesky'.")
    if groups < 1 or d % groups:
        raise ConfigError(f"{d} coordinates cannot be cut into {groups} equal groups; give a divisor of {d}.")
    with no_autocast(z):
        x = at_least_float32(z)
        n = batch_size(x)
        width = d // groups
        if eps == 0 and n - int(centred) < width:
            raise DataError(
                f"{int(n)} rows cannot whiten groups of {width} coordinates: their covariance is singular. "
                f"Give eps > 0 (1e-5), more rows than {width}, or more groups."
            )
        statistics_of = x if through_statistics else x.detach()
        mean = total(statistics_of.sum(0)) / n if centred else x.new_zeros(d)
        blocks = (statistics_of - mean).view(-1, groups, width).transpose(0, 1)  # groups, rows, width
        s = total(blocks.mT @ blocks) / n + eps * torch.eye(width, dtype=x.dtype, device=x.device)
        if not s.isfinite().all():
            raise DataError("The rows to whiten hold NaN or infinity, or overflow; their covariance does not exist.")
        x = (x - mean).view(-1, groups, width).transpose(0, 1)
        if method == "zca":
            w: Tensor = _InverseRoot.apply(s)  # type: ignore[no-untyped-call]
            x = x @ w
        else:
            x = torch.linalg.solve_triangular(torch.linalg.cholesky(s), x.mT, upper=False).mT
        return x.transpose(0, 1).reshape(-1, d).to(z.dtype)


@objective(rank=RankBehaviour.GLOBAL_STATISTIC, example=_example)
def whitening_mse(
    a: Tensor,
    b: Tensor,
    *,
    groups: int = 1,
    eps: float = 1e-5,
    method: Whitening = "cholesky",
    normalize: bool = True,
) -> Tensor:
    """``L = mean_i |v(a)_i - v(b)_i|²``: the two views, each whitened by its own batch, agree.

    a, b: ``(N, D)``. normalize: compare unit vectors, so that ``L = 2 - 2 mean cos``. The rest as in `whiten`. Returns
    ``()``. Collapse is impossible: whitened rows cannot all be one. groups, eps, method: of `whiten`.

    Source: Ermolov et al. 2021 (W-MSE), arXiv 2007.06346, eqs. 3 to 5; they whiten slices of the batch, which
    is this function called on each slice.

    >>> z = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> round(float(whitening_mse(z, z)), 4), round(float(whitening_mse(z, -z)), 4)  # unit vectors: from 0 to 4
    (0.0, 4.0)
    """
    same_shape(a=a, b=b)
    u, v = (whiten(z, groups=groups, eps=eps, method=method) for z in (a, b))
    if normalize:
        u, v = F.normalize(u, dim=-1), F.normalize(v, dim=-1)
    return total((u - v).square().sum()) / batch_size(a)
