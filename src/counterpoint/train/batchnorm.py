"""Batch normalisation over many processes, and where a batch is encoded in parts: refused, frozen, or synced.

A layer that normalises by the statistics of its batch makes every row depend on every other, layer after layer; cut
into passes, the batch no longer has these statistics. Exact ones would take a pass over the whole batch for every such
layer, and their gradient as many again. So there is no way to get the uncut result, and somebody has to say what is
wanted instead:

- ``refuse``: nothing; an error.
- ``frozen``: the running statistics, which do not change; for encoders that were trained before.
- ``synced``: the statistics of each pass, over all processes that share the batch (Ioffe & Szegedy 2015, arXiv
  1502.03167, within parts as in Hoffer et al. 2017, arXiv 1705.08741). The gradient is exactly that of this network,
  statistics included; the network is not that of the uncut batch. With one pass it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from counterpoint.errors import ConfigError
from counterpoint.processes import total, world
from counterpoint.train.config import Statistics


def layers(module: nn.Module) -> list[_BatchNorm]:
    """The batch normalisations in a module that keep running statistics of their batches."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def synced(module: nn.Module) -> Iterator[None]:
    """Inside, batch normalisations in training use the mean and variance of the rows of all processes.

    Afterwards the modules are what they were, so the trained model needs no conversion. Unlike torch's SyncBatchNorm
    this also runs on a CPU, and shares of the batch may differ and be empty.

    module: with any number of them.
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
    """Give every process the mean of the running statistics of all, in one collective.

    found: by `batch_layers`.
    """
    buffers = [b for layer in found for b in (layer.running_mean, layer.running_var) if b is not None]
    if not buffers or world() == 1:
        return
    flat = total(torch.cat(buffers)) / world()
    for buffer, value in zip(buffers, flat.split([b.numel() for b in buffers])):
        buffer.copy_(value)


def batch_layers(encoder: nn.Module) -> list[_BatchNorm]:
    """The layers in which a row's output depends on the other rows: not those frozen to their running statistics.

    encoder: any module.
    """
    return [m for m in encoder.modules() if isinstance(m, _BatchNorm) and (m.training or m.running_mean is None)]


def check(layers: Sequence[_BatchNorm], how: Statistics, name: str) -> None:
    """`ConfigError` where ``how`` makes no sense for these layers of the encoder called ``name``."""
    for layer in layers if how == "frozen" else ():
        mean, var = layer.running_mean, layer.running_var
        if mean is None or var is None:
            raise ConfigError(
                f"batch_statistics=frozen: {name} has batch normalisation without running statistics to freeze. "
                "Use batch_statistics=synced, or an encoder with layer or group normalisation."
            )
        if not mean.any() and bool((var == 1).all()):
            raise ConfigError(
                f"batch_statistics=frozen: the running statistics of {name} were never measured, so frozen they "
                "would normalise nothing. Start from trained weights, use batch_statistics=synced, or an encoder "
                "with layer or group normalisation."
            )


@contextmanager
def handled(layers: Sequence[_BatchNorm], how: Statistics, *, track: bool) -> Iterator[None]:
    """Inside, these layers compute as ``how`` says. track: whether running statistics take in what is seen here."""
    with ExitStack() as stack:
        if how == "refuse" and not track:
            stack.enter_context(untouched(layers))
        for layer in layers:
            if how == "frozen":
                stack.callback(setattr, layer, "training", layer.training)
                layer.training = False
            elif how == "synced":
                stack.callback(delattr, layer, "forward")
                layer.forward = partial(normalise, layer, track=track)  # type: ignore[method-assign]
        yield


@contextmanager
def untouched(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, these modules (not those below them) have copies of their buffers, which are gone afterwards."""
    held = [(module, dict(module._buffers)) for module in modules]
    for module, buffers in held:
        module._buffers.update({k: v if v is None else v.clone() for k, v in buffers.items()})
    try:
        yield
    finally:  # not written back: autograd may have saved the buffers, and would refuse them after an edit in place
        for module, buffers in held:
            module._buffers.update(buffers)


def normalise(layer: _BatchNorm, x: Tensor, *, track: bool) -> Tensor:
    """``layer`` in training on ``x`` ``(N, C, ...)``, with the statistics of all processes; sums in float32 at least.

    track: whether its running statistics take these in. A process may have no row; it takes part in the sums.
    Gradients follow the convention of `counterpoint.processes`.
    """
    with torch.autocast(x.device.type, enabled=False):
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        found = total(torch.cat([wide.sum(axes), wide.new_tensor([x.numel() // x.shape[1]])]))
        mean, count = found[:-1] / found[-1], found[-1].detach()
        if x.numel() <= x.shape[1] and count < 2:  # asked only where it may be: the answer is waited for
            raise ConfigError("Batch normalisation of one value per channel: it has no variance. Use larger batches.")
        centred = wide - mean.view(shape)
        variance = total(centred.square().sum(axes)) / count  # of centred values: squares of large means would cancel
        if track and layer.running_mean is not None:
            _track(layer, mean.detach(), variance.detach() * count / (count - 1))
        out = centred * torch.rsqrt(variance + layer.eps).view(shape)
        if layer.affine:
            out = out * layer.weight.view(shape) + layer.bias.view(shape)
    return out.to(x.dtype)


@torch.no_grad()
def _track(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked += 1
    share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), share)
    layer.running_var.lerp_(variance.to(layer.running_var), share)
