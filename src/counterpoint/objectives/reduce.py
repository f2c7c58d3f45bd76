"""From values per row to one number, and from the sums of one process to those of all."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from counterpoint.errors import ConfigError, DataError

Reduction: TypeAlias = Literal["mean", "none"]
"""mean: one number. none: one value per row."""


class Reduce(Protocol):
    """Combine a tensor of this process with the same tensor of the others, element by element."""

    def __call__(self, x: Tensor, op: Literal["sum", "max"] = "sum", /) -> Tensor: ...


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Values per row ``(N,)`` as they are, or their mean ``()``; the mean of no rows is 0, with a gradient of
    zero."""
    if reduction == "none":
        return values
    if reduction != "mean":
        raise ConfigError(f"reduction={reduction!r}: type reduction='mean' or reduction='none'.")
    return values.sum() / max(1, values.numel())


def same_shape(**tensors: Tensor) -> None:
    """An error that names the shapes where they differ."""
    if len({t.shape for t in tensors.values()}) > 1:
        given = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise DataError(f"These must have one shape: {given}. Give row i of each the same item i.")


def batch_size(z: Tensor, reduce: Reduce, *, at_least: int = 2) -> Tensor:
    """Rows of ``z`` over all processes, ``()`` float32; an error where a statistic of them does not exist."""
    n = reduce(torch.tensor(float(len(z)), device=z.device))
    if n < at_least:
        raise DataError(
            f"A statistic of the batch needs at least {at_least} rows; {int(n)} were given. Use a larger batch."
        )
    return n


def at_least_float32(z: Tensor) -> Tensor:
    """Half precision widened: sums over a batch need the bits."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def no_autocast(z: Tensor) -> torch.autocast:
    """Context in which products stay in the precision of their factors."""
    return torch.autocast(z.device.type, enabled=False)
