"""Heads that take the embeddings of a window apart into trend and season.

Source: Woo et al. 2022 (CoST), arXiv 2202.01575.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.errors import ConfigError


class TrendHead(nn.Module):
    """The mean over causal convolutions that look back on 1, 2, 4, ... steps: ``(N, L, dim)`` to ``(N, L, out)``.

    kernels: their lengths.

    >>> TrendHead(8, 4, kernels=(1, 2))(torch.randn(2, 16, 8)).shape
    torch.Size([2, 16, 4])
    """

    def __init__(self, dim: int, out: int, *, kernels: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)) -> None:
        super().__init__()
        if not kernels or min(kernels) < 1:
            raise ConfigError(f"kernels={kernels}: give lengths of at least 1.")
        self.kernels = kernels
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, out, k) for k in kernels)

    def forward(self, z: Tensor) -> Tensor:
        """Steps z ``(N, L, dim)`` to their trend ``(N, L, out)``."""
        x = z.mT
        parts = [conv(F.pad(x, (k - 1, 0))) for conv, k in zip(self.convolutions, self.kernels)]
        return torch.stack(parts).mean(0).mT


class SeasonHead(nn.Module):
    """A complex linear map of its own for each frequency of windows of L steps: ``(N, L, dim)`` to ``(N, L, out)``.

    dim: of a step. out: of what is found in it. length: L.

    >>> SeasonHead(8, 4, length=16)(torch.randn(2, 16, 8)).shape
    torch.Size([2, 16, 4])
    """

    def __init__(self, dim: int, out: int, *, length: int) -> None:
        super().__init__()
        count = length // 2 + 1
        # Real and imaginary part last: optimisers and safetensors know real numbers best.
        self.weight = nn.Parameter(torch.randn(count, dim, out, 2) / (2 * dim) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(count, out, 2))
        self.length = length

    def forward(self, z: Tensor) -> Tensor:
        """Steps z ``(N, L, dim)`` to their seasonal part ``(N, L, out)``."""
        if not len(z):  # which not every library for transforms takes
            return z @ z.new_zeros(z.shape[2], self.weight.shape[2])
        weight, bias = torch.view_as_complex(self.weight), torch.view_as_complex(self.bias)
        mapped = torch.einsum("nfd,fdo->nfo", torch.fft.rfft(z.to(self.weight.dtype), dim=1), weight) + bias
        return torch.fft.irfft(mapped, n=self.length, dim=1)
