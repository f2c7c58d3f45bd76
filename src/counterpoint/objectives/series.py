"""Contrast of windows of series, step by step: against other windows, against other times, by frequency."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, at_least_float32, no_autocast, reduced, same_shape
from counterpoint.processes import gathered, rank, sizes, starts


def _example(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    a, noise = torch.randn(2, 6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (a, a + 0.5 * noise), {}


@objective(rank=RankBehaviour.GATHER, example=_example)
def hierarchical_contrast(
    a: Tensor, b: Tensor, *, alpha: float = 0.5, scale: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Two views of each step of each window agree, at every resolution of time.

    ``L_i = mean over scales of alpha · I_i + (1 - alpha) · T_i``, where with s(x, y) = scale x·y

        I_i = mean over t of -log( exp s(a_it, b_it) / (Σ_j exp s(a_it, b_jt) + Σ_{j≠i} exp s(a_it, a_jt)) )
        T_i = mean over t of -log( exp s(a_it, b_it) / (Σ_u exp s(a_it, b_iu) + Σ_{u≠t} exp s(a_it, a_iu)) )

    and the same with a and b exchanged; their mean counts. I compares with the other windows at the same time, T with
    the other times of the same window. From scale to scale neighbouring steps are pooled by their maximum, two to one
    (an odd last one is left out), until one is left, where there is no other time and T is 0. One window has I = 0.

    a, b: ``(N, L, D)``, taken as they are: give unit vectors for cosines. alpha: from 0 (times) to 1 (windows). Over
    many processes the windows of all are compared. Returns ``()``, or ``(N,)`` of this process's windows. reduction:
    ``mean``, or ``none`` for a loss each.

    Source: Yue et al. 2022 (TS2Vec), arXiv 2106.10466, eqs. 1 to 3.

    >>> z = torch.nn.functional.normalize(torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> agree, not_so = hierarchical_contrast(z, z, scale=10.0), hierarchical_contrast(z, z.flip(0), scale=10.0)
    >>> agree.shape, bool(agree < not_so)
    (torch.Size([]), True)
    """
    if isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise ConfigError(f"alpha={alpha!r}: a number from 0 (only times are compared) to 1 (only windows).")
    with no_autocast(a):
        a, b, first, n = _everyone(a, b)
        values, scales = a.new_zeros(n), 0
        while True:
            if alpha > 0:
                values = values + alpha * _windows(a, b, first, n, scale)
            if alpha < 1 and a.shape[1] > 1:
                mine = slice(first, first + n)
                values = values + (1 - alpha) * _times(a[mine], b[mine], scale)
            scales += 1
            if a.shape[1] == 1:
                break
            a, b = (F.max_pool1d(x.mT, 2).mT for x in (a, b))
        return reduced(values / scales, reduction)


@objective(rank=RankBehaviour.GATHER, example=_example)
def frequency_contrast(a: Tensor, b: Tensor, *, scale: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Two views of each window agree in how strong each frequency is, and in where it begins.

    ``L_i = (I_i(|A|, |B|) + I_i(arg A, arg B)) / 2``, A and B the discrete Fourier transforms over time, and I the
    comparison with the other windows of `hierarchical_contrast`, with frequencies in place of times.

    a, b: ``(N, L, D)`` real; CoST gives vectors of unit length at each time. Over many processes the windows of all are
    compared. Returns ``()``, or ``(N,)`` of this process's windows. reduction: ``mean``, or ``none`` for a loss each.
    scale: 1 / temperature of the dot products.

    Source: Woo et al. 2022 (CoST), arXiv 2202.01575, eqs. 5 and 6.

    >>> z = torch.nn.functional.normalize(torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> bool(frequency_contrast(z, z) < frequency_contrast(z, z.flip(0)))
    True
    """
    with no_autocast(a):
        a, b, first, n = _everyone(a, b)
        (strong, begins), (strong_b, begins_b) = (_polar(torch.fft.rfft(x, dim=1)) for x in (a, b))
        values = _windows(strong, strong_b, first, n, scale) + _windows(begins, begins_b, first, n, scale)
        return reduced(values / 2, reduction)


def _polar(z: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Amplitude and phase. The shift keeps both differentiable where a frequency is absent."""
    real, imaginary = z.real + eps, z.imag + eps
    return (real.square() + imaginary.square()).sqrt(), torch.atan2(imaginary, real)


def _everyone(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """The windows of all processes, the place of this one's among them, and their number."""
    same_shape(a=a, b=b)
    if a.ndim != 3 or 0 in a.shape[1:]:
        raise DataError(f"Two views of shape {tuple(a.shape)}; expected (N, L, D): an embedding for each step.")
    counts = sizes(len(a), a.device)
    whole = (gathered(at_least_float32(x), counts) for x in (a, b))
    return *whole, starts(counts)[rank()], len(a)  # type: ignore[return-value]


def _windows(a: Tensor, b: Tensor, first: int, n: int, scale: float) -> Tensor:
    """I of n windows out of ``(M, L, D)``, those from ``first`` on: ``(n,)``."""
    here = torch.arange(n, device=a.device)
    sides = []
    for own, other in ((a, b), (b, a)):
        x = own[first : first + n].transpose(0, 1) * scale  # L, n, D
        across, along = x @ other.permute(1, 2, 0), x @ own.permute(1, 2, 0)  # L, n, M
        along = along.masked_fill(_own(n, first, len(own), a.device), -torch.inf)
        every = torch.cat((across, along), dim=2).logsumexp(2)
        sides.append((every - across[:, here, here + first]).mean(0))
    return (sides[0] + sides[1]) / 2


def _times(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """T of windows ``(n, L, D)``: ``(n,)``."""
    self_pairs = torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
    sides = []
    for own, other in ((a, b), (b, a)):
        across, along = scale * own @ other.mT, (scale * own @ own.mT).masked_fill(self_pairs, -torch.inf)
        every = torch.cat((across, along), dim=2).logsumexp(2)
        sides.append((every - across.diagonal(dim1=1, dim2=2)).mean(1))
    return (sides[0] + sides[1]) / 2


def _own(n: int, first: int, m: int, device: torch.device) -> Tensor:
    """``(n, m)`` bool: where a window meets itself."""
    return torch.arange(first, first + n, device=device).unsqueeze(1) == torch.arange(m, device=device)
