"""Gradient caching: the gradient of the whole batch in the memory of one micro-batch.

Source: Gao et al. 2021, arXiv 2101.06983. Each micro-batch is encoded without a graph; when the gradient of its
embeddings arrives in the backward pass, it is encoded again with the same random draws (dropout; on the CPU and on the
device) and back-propagated at once. That is activation checkpointing at the border of the encoder, so any method and
any objective can use it unchanged, and unlike writing to ``.grad`` from a hook it also serves ``torch.autograd.grad``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint.data.batch import Data, size, take
from counterpoint.errors import ConfigError


def embed(encoder: nn.Module, data: Data, micro_batch: int | None = None, *, precision: str = "float32") -> Tensor:
    """Embeddings ``(N, D)`` of ``data``; in micro-batches with recomputation where ``micro_batch`` is given.

    precision: ``bfloat16`` runs the encoder under autocast. Its embeddings come back in float32, so that scores and
    losses, which subtract numbers of like size, are never computed in bfloat16.
    """
    tensor = data if isinstance(data, Tensor) else next(iter(data.values()))

    def run(part: Data) -> Tensor:
        if precision == "float32":
            out: Tensor = encoder(part)
            return out
        with torch.autocast(tensor.device.type, torch.bfloat16):
            return encoder(part).float()

    n = size(data)
    if micro_batch is None or n <= micro_batch:
        return run(data)
    if any(uses_batch_statistics(m) for m in encoder.modules()):
        raise ConfigError(
            f"{type(encoder).__name__} contains batch normalisation, whose statistics of {micro_batch} rows "
            f"differ from those of the batch of {n}; gradient caching would silently change the model. "
            "Leave micro_batch unset, or use an encoder with layer or group normalisation."
        )
    parts = [take(data, slice(i, i + micro_batch)) for i in range(0, n, micro_batch)]
    if not torch.is_grad_enabled():
        return torch.cat([run(part) for part in parts])
    return torch.cat([checkpoint(run, part, use_reentrant=False) for part in parts])


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether a row's output depends on the other rows: batch normalisation not frozen to its running statistics."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return module.training or module.running_mean is None
