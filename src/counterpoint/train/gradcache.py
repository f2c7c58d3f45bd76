"""Gradient caching: the gradient of the whole batch in the memory of one micro-batch.

Source: Gao et al. 2021, arXiv 2101.06983. Each micro-batch is encoded without a graph; when the gradient of its
embeddings arrives in the backward pass, it is encoded again with the same random draws and back-propagated at once.
That is activation checkpointing at the border of the encoder, so any method and any objective can use it unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint.data.batch import Data, size, take
from counterpoint.errors import ConfigError

_BATCH_STATISTICS = (nn.modules.batchnorm._BatchNorm,)


def embed(encoder: nn.Module, data: Data, micro_batch: int | None = None) -> Tensor:
    """Embeddings ``(N, D)`` of ``data``; in micro-batches with recomputation where ``micro_batch`` is given."""
    n = size(data)
    if micro_batch is None or n <= micro_batch:
        return encoder(data)
    if encoder.training and any(isinstance(m, _BATCH_STATISTICS) for m in encoder.modules()):
        raise ConfigError(
            f"{type(encoder).__name__} contains batch normalisation, whose statistics of a micro-batch of {micro_batch} "
            f"differ from those of the batch of {n}; gradient caching would silently change the model. "
            "Leave micro_batch unset, or use an encoder with layer or group normalisation."
        )
    chunks = [take(data, slice(i, i + micro_batch)) for i in range(0, n, micro_batch)]
    if not torch.is_grad_enabled():
        return torch.cat([encoder(chunk) for chunk in chunks])
    return torch.cat([checkpoint(encoder, chunk, use_reentrant=False) for chunk in chunks])
