"""From values per row to one number, and from the sums of one process to those of all."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.errors import ConfigError, DataError

Reduction: TypeAlias = Literal["mean", "none"]
"""mean: one number. none: one value per row."""


class Reduce(Protocol):
    """Combine a tensor of this process with the same tensor of the others, element by element."""

    def __call__(self, x: Tensor, op: Literal["sum", "max"] = "sum", /) -> Tensor: ...


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


def total(x: Tensor, op: Literal["sum", "max"] = "sum", /) -> Tensor:
    """``x`` summed (or its largest element, without gradient) over all processes; ``x`` itself where there is one.

    The gradient is summed over the processes too: when every process computes the loss of the whole batch
    from such sums, and gradients of parameters are then *averaged* over processes (as torch's DDP does), the
    result is the gradient of one process that holds the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    if op == "sum":
        summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
        return summed
    x = x.detach().clone()
    dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


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
