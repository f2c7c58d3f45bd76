"""What a transformer of `transformers` is made of: the list of its layers, and the norm behind the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from counterpoint.encoders.base import evaluating
from counterpoint.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check(n: int, depth: int) -> None:
    """Refuse to stop after layer n of so many.

    depth: how many layers there are.
    """
    if not 1 <= n <= depth:
        raise ConfigError(f"layers={n}: this encoder has {depth} layers; keep from 1 to {depth}.")


def stack(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of a model's layers, and its name. Raises `ConfigError` where layers are not kept in one."""
    count = model.config.num_hidden_layers
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:  # ALBERT runs one layer many times
        raise ConfigError(f"The {count} layers of a {model.config.model_type} are no list that could be cut.")
    return max(lists, key=lambda found: sum(p.numel() for p in found[1].parameters()))


def final_norm(model: PreTrainedModel) -> str:
    """The name of the norm behind the last layer, '' where there is none.

    Families that normalise before each block have one, and what leaves an earlier layer is no embedding without it. It
    is the sibling of the layers that gives the last hidden state: asked of a small text, as names and uses vary.

    model: of `transformers`.
    """
    parent = stack(model)[0].rpartition(".")[0]
    given: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: given.__setitem__(name, out))
        for name, module in model.get_submodule(parent).named_children()
        if "norm" in type(module).__name__.lower()
    ]
    if not hooks:
        return ""
    try:
        with evaluating(model):
            ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
            last = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    found = next((n for n, z in given.items() if isinstance(z, Tensor) and torch.equal(z, last)), None)
    return "" if found is None else f"{parent}.{found}".removeprefix(".")
