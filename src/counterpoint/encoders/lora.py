"""Low-rank adapters: of a pretrained transformer only a few numbers learn; it is saved as the plain model it became.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685. The layers are those of `peft`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from counterpoint.encoders.base import Encoder
from counterpoint.encoders.staged import innermost
from counterpoint.errors import ConfigError, need

E = TypeVar("E", bound=Encoder)


def adapt(encoder: Encoder, rank: int) -> int:
    """Beside every linear layer W of the encoder's transformer two thin ones learn, ``W x + 2 B A x``, with A ``(rank,
    in)`` at random and B ``(out, rank)`` of zeros: at first nothing changes. Everything else of it stands still.

    Changes the encoder in place; returns the number of weights that learn. `merged` takes the adapters in. Raises
    `ConfigError` for encoders without a transformer, and where the rank is not at least 1.

    encoder: of texts. rank: r. Returns the number of weights that learn.

    >>> from counterpoint.encoders.text import TextTransformer
    >>> encoder = TextTransformer.example()
    >>> whole = sum(p.numel() for p in encoder.parameters())
    >>> adapt(encoder, rank=2) > 0, sum(p.numel() for p in encoder.parameters() if p.requires_grad) < whole / 2
    (True, True)
    """
    from transformers import PreTrainedModel

    if rank < 1:
        raise ConfigError(f"lora={rank}: the rank of an adapter is at least 1, for example lora=16.")
    models = [m for m in innermost(encoder).children() if isinstance(m, PreTrainedModel)]
    if not models:
        raise ConfigError(
            f"A {type(encoder).__name__} holds no transformer to put adapters into. Leave --lora out, or name a "
            "pretrained transformer: --encoder FOLDER, or a hub id."
        )
    peft = need("peft", "lora")
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    for model in models:
        peft.inject_adapter_in_model(settings, model)  # freezes all that is no adapter
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def merged(encoder: E) -> E:
    """The encoder itself where it has no adapters, else a copy with ``W + 2 B A`` in place of W."""
    if not any(True for _ in _adapters(encoder)):
        return encoder
    twin = copy.deepcopy(encoder)
    for parent, name, layer in list(_adapters(twin)):
        layer.merge(safe_merge=True)  # type: ignore[operator]
        setattr(parent, name, layer.get_base_layer())  # type: ignore[operator]
    return twin


def _adapters(encoder: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in encoder.modules():
        for name, layer in parent.named_children():
            if hasattr(layer, "lora_A") and hasattr(layer, "get_base_layer"):
                yield parent, name, layer
