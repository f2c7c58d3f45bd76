"""Gradient caching: the gradient of the whole batch in the memory of one micro-batch.

Source: Gao et al. 2021, arXiv 2101.06983. Each micro-batch is encoded without a graph; when the gradient of its
embeddings arrives in the backward pass, it is encoded again with the same random draws (dropout; on the CPU and on the
device) and back-propagated at once. That is activation checkpointing at the border of the encoder, so any method and
any objective can use it unchanged, and unlike writing to ``.grad`` from a hook it also serves ``torch.autograd.grad``
and leaves the gradient to be reduced over processes once per step.

Micro-batches are cut by tokens and in the order of length (`counterpoint.train.passes`), by a number of items or by a
memory budget (`counterpoint.train.budget`). The gradient is that of the same passes with their graphs kept: without
dropout also that of the whole batch in one pass; with it, of another draw of the masks than one pass would make.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint import processes
from counterpoint.data.batch import Data, size
from counterpoint.errors import ConfigError
from counterpoint.train.batchnorm import batch_layers, check, handled
from counterpoint.train.budget import Budget
from counterpoint.train.config import Statistics
from counterpoint.train.passes import cut, lengths, part

Run = Callable[..., Tensor]


def embed(
    encoder: nn.Module,
    data: Data,
    micro_batch: int | Budget | None = None,
    *,
    precision: str = "float32",
    statistics: Statistics = "refuse",
) -> Tensor:
    """Embeddings ``(N, D)`` of ``data``; in micro-batches with recomputation where ``micro_batch`` is given.

    micro_batch: items per pass, or a budget which finds the passes. Items of different length are packed so that the
    passes hold about equally many tokens, ``micro_batch`` items on average.
    precision: ``bfloat16`` runs the encoder under autocast. Its embeddings come back in float32, so that scores and
    losses, which subtract numbers of like size, are never computed in bfloat16.
    statistics: what batch normalisation in the encoder does; ``refuse`` raises `ConfigError` where the batch is cut.
    Where processes meet inside the encoder (parameters sharded by FSDP, batch normalisation that is not frozen) all of
    them call this together.
    """
    layers = [] if micro_batch is None else batch_layers(encoder)
    check(layers, statistics, type(encoder).__name__)
    tensor = data if isinstance(data, Tensor) else next(iter(data.values()))

    def run(part: Data, track: bool = False) -> Tensor:
        with handled(layers, statistics, track=track):
            if precision == "float32":
                out: Tensor = encoder(part)
            else:
                with torch.autocast(tensor.device.type, torch.bfloat16):
                    out = encoder(part).float()
            return out if size(part) else _of_nothing(out, encoder)

    count = _count(encoder, data, micro_batch, run)
    together = processes.world() > 1 and ((bool(layers) and statistics != "frozen") or _sharded(encoder))
    if together and micro_batch is not None:
        count = int(processes.total(torch.tensor(count, device=tensor.device), "max"))
    if count == 0:
        return run(data, track=True)
    if layers and statistics == "refuse" and count > 1:
        raise ConfigError(
            f"{type(encoder).__name__} contains batch normalisation, whose statistics of a part of the batch differ "
            f"from those of its {size(data)} rows; gradient caching in {count} passes would silently change the model. "
            "Leave micro_batch and memory unset, use an encoder with layer or group normalisation, or say what you "
            "want: batch_statistics=frozen (its running statistics) or batch_statistics=synced (those of each pass)."
        )
    order, slices = cut(lengths(data), count)
    # Processes that meet inside the encoder need equally many passes: some have an empty one, or, where no statistics
    # could suffer, repeat an item, as encoders may skip their layers on nothing. Nobody reads the result.
    spare = slice(-1, None) if not layers and size(data) else slice(0, 0)
    slices += [spare] * (count - len(slices) if together else 0)
    place = None if order is None else torch.from_numpy(order).to(tensor.device)
    z = torch.cat([_again(run, part(data, place, where)) for where in slices])
    return z[: size(data)] if place is None else z[place.argsort()]


def _of_nothing(z: Tensor, encoder: nn.Module) -> Tensor:
    """Embeddings of no item, as a function of a weight, also where the encoder skips its layers: the backward pass of
    this process, which may have nothing of a batch, has to meet those of the others."""
    weight = next((p for p in encoder.parameters() if p.requires_grad), None)
    return z if z.requires_grad or weight is None else z + weight.sum() * 0


def _count(encoder: nn.Module, data: Data, micro_batch: int | Budget | None, run: Run) -> int:
    """Number of passes; 0: the batch as it is."""
    if isinstance(micro_batch, Budget):
        if _sharded(encoder):
            raise ConfigError(
                "memory=... is measured with a backward pass of each encoder alone, which parameters sharded by FSDP "
                "do not allow. Give micro_batch instead."
            )
        return micro_batch.passes(encoder, run, data)
    return 0 if micro_batch is None or size(data) <= micro_batch else -(-size(data) // micro_batch)


def _again(run: Run, data: Data) -> Tensor:
    """``run(data)``, computed a second time in the backward pass; running statistics take it in once."""
    if not torch.is_grad_enabled():
        return run(data, track=True)
    seen = False

    def once(data: Data) -> Tensor:
        nonlocal seen
        track, seen = not seen, True
        return run(data, track=track)

    out: Tensor = checkpoint(once, data, use_reentrant=False)
    return out


def _sharded(encoder: nn.Module) -> bool:
    if processes.world() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(m, FSDPModule) for m in encoder.modules())
