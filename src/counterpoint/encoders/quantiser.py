"""A quantiser learned by gradient: features choose among codes, softly for the gradient, hard for everything else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint import processes
from counterpoint.errors import ConfigError


class Chosen(NamedTuple):
    """vectors: ``(N, out)``, the codes' vectors. codes: ``(N, G)`` long. choice: ``(N, G, V)`` one-hot in value; its
    gradient is that of the softmax with noise. logits: ``(N, G, V)`` without noise."""

    vectors: Tensor
    codes: Tensor
    choice: Tensor
    logits: Tensor


class GumbelQuantiser(nn.Module):
    """``V`` codes in each of ``G`` codebooks; the vectors of the codes that a feature chose are laid end to end.

        p = softmax((W x + n) / τ),  n from Gumbel's distribution;   y = onehot(argmax p) + p - stop(p)

    In training the choice is drawn, and its gradient passes straight through to p; otherwise ``argmax W x`` is taken.
    The temperature τ begins at ``temperature``, and `cool` brings it down by a factor, to ``coldest`` at least; it is
    part of the state. Logits are computed in float32.

    dim: of the features. codes, groups: V and G. out: width of a vector, a multiple of G. temperature, coldest,
    cooling: τ at first, at last, and the factor of each step. Sources: Jang et al. 2017, arXiv 1611.01144; Baevski et
    al. 2020 (vq-wav2vec), arXiv 1910.05453.

    >>> quantiser = GumbelQuantiser(8, codes=16, groups=2, out=6)
    >>> found = quantiser(torch.randn(5, 8))
    >>> found.vectors.shape, found.codes.shape, found.logits.shape
    (torch.Size([5, 6]), torch.Size([5, 2]), torch.Size([5, 2, 16]))
    """

    temperature: Tensor

    def __init__(
        self,
        dim: int,
        *,
        codes: int,
        out: int,
        groups: int = 1,
        temperature: float = 2.0,
        coldest: float = 0.1,
        cooling: float = 0.999995,
    ) -> None:
        super().__init__()
        if min(dim, out, groups) < 1 or codes < 2 or out % groups:
            raise ConfigError(
                f"A quantiser of {groups} codebooks with {codes} codes each, {dim} to {out} wide: expected 2 codes or "
                "more, and a width out that the codebooks can share."
            )
        if not 0 < coldest <= temperature or not 0 < cooling <= 1:
            raise ConfigError(
                f"temperature={temperature}, coldest={coldest}, cooling={cooling}: expected 0 < coldest <= temperature "
                "and a factor above 0, at most 1."
            )
        self.codes, self.groups, self.coldest, self.cooling = codes, groups, coldest, cooling
        self.into = nn.Linear(dim, groups * codes)
        nn.init.normal_(self.into.weight)
        nn.init.zeros_(self.into.bias)
        self.entries = nn.Parameter(torch.rand(groups, codes, out // groups))
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, x: Tensor) -> Chosen:
        """Features ``(N, dim)``."""
        with torch.autocast(x.device.type, enabled=False):
            logits = self.into(x.to(self.into.weight.dtype)).unflatten(-1, (self.groups, self.codes))
            if self.training:
                soft = ((logits + self._noise(logits)) / self.temperature).softmax(-1)
            else:
                soft = logits.softmax(-1)
            codes = soft.argmax(-1)
            hard = F.one_hot(codes, self.codes).to(soft)
            choice = hard + soft - soft.detach() if self.training else hard
            vectors = torch.einsum("ngv,gvd->ngd", choice, self.entries).flatten(1)
        return Chosen(vectors, codes, choice, logits)

    @staticmethod
    def _noise(logits: Tensor) -> Tensor:
        """Draws from Gumbel's distribution, like logits; the same for a feature whichever process has it."""
        drawn = processes.drawn(
            lambda n: logits.new_empty(n, *logits.shape[1:]).exponential_(), len(logits), logits.device
        )
        return -drawn.clamp_min(torch.finfo(logits.dtype).tiny).log()

    @torch.no_grad()
    def cool(self) -> None:
        """After a step."""
        self.temperature.mul_(self.cooling).clamp_min_(self.coldest)
