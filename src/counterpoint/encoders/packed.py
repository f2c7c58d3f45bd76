"""Texts of many lengths in one pass without padding: all tokens in a row, attention within each text only.

Everything in a transformer but attention works token by token, so the tokens of a batch can lie end to end, ``(1, L)``,
and no padding is ever multiplied. Attention is computed for all texts of one length at once; it needs no mask then.
The models of `transformers` call whatever attention function their configuration names, which is how it gets in.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from counterpoint.kernels.attention import attention

NAME = "counterpoint_packed"

# Models in which tokens meet in attention only, whose positions can be given, and whose attention sees the whole text.
# value: the position of the first token is that many places beyond the padding id (None: it is 0).
FAMILIES: dict[str, int | None] = {
    "bert": None,
    "electra": None,
    "roberta": 1,
    "xlm-roberta": 1,
    "camembert": 1,
}

Groups = list[tuple[int, int, int]]
"""(first token, texts, tokens per text) of each run of texts of one length."""


def enable(model: PreTrainedModel) -> bool:
    """Give a model the attention below, where its family allows; says whether it does."""
    if model.config.model_type not in FAMILIES or getattr(model.config, "is_decoder", False):
        return False
    if getattr(model.config, "position_embedding_type", "absolute") != "absolute":
        return False
    model.set_attn_implementation(NAME)
    return True


def groups(lengths: list[int]) -> Groups:
    """Runs of equal length, given the lengths of the texts in order."""
    found, start = [], 0
    for length, run in groupby(lengths):
        count = len(list(run))
        found.append((start, count, length))
        start += count * length
    return found


def positions(model: PreTrainedModel, parts: Groups, device: torch.device) -> Tensor:
    """``(1, L)`` position of each token in its own text.

    model: whose way of numbering counts. parts: the texts that lie end to end. device: of what comes back.
    """
    beyond = FAMILIES[model.config.model_type]
    first = 0 if beyond is None else model.config.pad_token_id + beyond
    longest = max((length for _, _, length in parts), default=0)
    place = torch.arange(first, first + longest, device=device)
    return torch.cat([place[:length].repeat(count) for _, count, length in parts]).unsqueeze(0)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention of `transformers`' signature on ``(1, H, L, d)``; without ``groups`` in the settings: ordinary sdpa."""
    parts: Groups | None = settings.pop("groups", None)
    if parts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    drop = settings.get("dropout", 0.0)
    if query.device.type == "cpu" and (drop or query.requires_grad):  # training
        lengths = tuple(length for _, count, length in parts for _ in range(count))
        scale = settings.get("scaling") or query.shape[-1] ** -0.5
        z = attention(*(x[0].transpose(0, 1) for x in (query, key, value)), lengths, scale=scale, dropout=drop)
        return z.unsqueeze(0), None
    out = []
    for start, count, length in parts:
        q, k, v = (
            x[0, :, start : start + count * length].unflatten(1, (count, length)).transpose(0, 1)
            for x in (query, key, value)
        )
        z, _ = sdpa_attention_forward(module, q, k, v, None, **settings)
        out.append(z.flatten(0, 1))
    return torch.cat(out).unsqueeze(0), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
