"""The learnable temperature: how sharply scores are compared."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from counterpoint.errors import ConfigError


class LogitScale(nn.Module):
    """``scale = 1 / temperature``, kept as its logarithm, so that equal steps are equal factors.

    ``forward() -> ()`` tensor. A learnable scale is held at or below ``largest`` (Radford et al. 2021, arXiv
    2103.00020: 100), because above it the loss is a hard maximum and training diverges.

    >>> scale = LogitScale(0.05, learnable=True)
    >>> round(scale().item(), 2), [name for name, _ in scale.named_parameters()]
    (20.0, ['log_scale'])
    """

    def __init__(self, temperature: float, *, learnable: bool = False, largest: float = 100.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"A temperature is positive; {temperature} was given. Try 0.05.")
        if learnable and 1 / temperature > largest:
            raise ConfigError(
                f"Temperature {temperature} means a scale of {1 / temperature:.4g}, above the largest a learnable one "
                f"may take ({largest:.4g}). Give at least {1 / largest:.4g}, or do not learn it."
            )
        self.largest = largest
        log_scale = torch.tensor(-math.log(temperature))
        if learnable:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self) -> Tensor:
        """The scale now, ``()``, at most ``largest``."""
        if not isinstance(self.log_scale, nn.Parameter):
            return self.log_scale.exp()
        return self.log_scale.clamp(max=math.log(self.largest)).exp()
