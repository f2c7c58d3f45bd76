"""Batch normalisation when the batch is spread over processes: statistics of all rows, or at least the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from counterpoint.processes import total, world
from counterpoint.train.statistics import normalise


def layers(module: nn.Module) -> list[_BatchNorm]:
    """The batch normalisations in a module that keep running statistics of their batches."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def synced(module: nn.Module) -> Iterator[None]:
    """Inside, batch normalisations in training use the mean and variance of the rows of all processes.

    Afterwards the modules are what they were, so the trained model needs no conversion. Unlike torch's SyncBatchNorm
    this also runs on a CPU, and shares of the batch may differ and be empty.
    """
    found = [(layer, type(layer)) for layer in layers(module)]
    for layer, kind in found:
        layer.__class__ = _synced(kind)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for layer, kind in found:
            layer.__class__ = kind


@cache
def _synced(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    def forward(self: _BatchNorm, x: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return kind.forward(self, x)
        return normalise(self, x, track=True)

    return type(f"Synced{kind.__name__}", (kind,), {"forward": forward})


@torch.no_grad()
def average(found: list[_BatchNorm]) -> None:
    """Give every process the mean of the running statistics of all, in one collective."""
    buffers = [b for layer in found for b in (layer.running_mean, layer.running_var) if b is not None]
    if not buffers or world() == 1:
        return
    flat = total(torch.cat(buffers)) / world()
    for buffer, value in zip(buffers, flat.split([b.numel() for b in buffers])):
        buffer.copy_(value)
