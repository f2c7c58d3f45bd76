"""From values per row to one number, and from the sums of one process to those of all."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from counterpoint.errors import ConfigError, DataError
from counterpoint.processes import total, world

Reduction: TypeAlias = Literal["mean", "none"]
"""mean: one number. none: one value per row."""


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Values per row ``(N,)`` as they are, or their mean ``()`` over the rows of all processes.

    The mean of no rows is 0, with a gradient of zero.

    values: of the rows of this process. reduction: ``none`` or ``mean``; raises `ConfigError` for any other word.

    >>> float(reduced(torch.tensor([1.0, 3.0]), "mean")), reduced(torch.tensor([1.0, 3.0]), "none").tolist()
    (2.0, [1.0, 3.0])
    """
    if reduction == "none":
        return values
    if reduction != "mean":
        raise ConfigError(f"reduction={reduction!r}: type reduction='mean' or reduction='none'.")
    if world() == 1:
        return values.sum() / max(1, values.numel())
    both = total(torch.stack([values.sum(), values.new_tensor(values.numel())]))
    return both[0] / both[1].clamp_min(1)


def weighted(values: Tensor, weight: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Values per row ``(N,)`` as they are, or their mean ``()`` weighted by ``(N,)``, over the rows of all processes.

    weight: counts, or which rows count. Where nothing counts the mean is 0, with a gradient of zero. values: of the
    rows of this process. reduction: ``none`` or ``mean``.

    >>> float(weighted(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0])))
    1.5
    """
    if reduction == "none":
        return values
    if reduction != "mean":
        raise ConfigError(f"reduction={reduction!r}: type reduction='mean' or reduction='none'.")
    weight = weight.to(values)
    both = total(torch.stack([(values * weight).sum(), weight.sum()]))
    return both[0] / torch.where(both[1] > 0, both[1], 1.0)


def same_shape(**tensors: Tensor) -> None:
    """An error that names the shapes where they differ.

    tensors: by the names that the message uses. Raises `DataError`.

    >>> same_shape(a=torch.zeros(2, 3), b=torch.ones(2, 3))
    """
    if len({t.shape for t in tensors.values()}) > 1:
        given = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise DataError(f"These must have one shape: {given}. Give row i of each the same item i.")


def batch_size(z: Tensor, *, at_least: int = 2) -> Tensor:
    """Rows of ``z`` over all processes, ``()`` float32; an error where a statistic of them does not exist.

    at_least: fewest rows for which it exists; fewer raise `DataError`.

    >>> float(batch_size(torch.zeros(5, 3)))
    5.0
    """
    n = total(torch.tensor(float(len(z)), device=z.device))
    if n < at_least:
        raise DataError(
            f"A statistic of the batch needs at least {at_least} rows; {int(n)} were given. Use a larger batch."
        )
    return n


def at_least_float32(z: Tensor) -> Tensor:
    """Half precision widened: sums over a batch need the bits.

    z: any floating point tensor; one of 32 or 64 bits comes back as it is.

    >>> at_least_float32(torch.zeros(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def no_autocast(z: Tensor) -> torch.autocast:
    """Context in which products stay in the precision of their factors.

    z: a tensor of the device that is meant.

    >>> x = torch.ones(2, 2)
    >>> with torch.autocast("cpu", torch.bfloat16), no_autocast(x):
    ...     (x @ x).dtype
    torch.float32
    """
    return torch.autocast(z.device.type, enabled=False)
