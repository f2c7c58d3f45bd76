"""Opposed decoding: the tokens that one prefix calls for more than another does.

The wanted instruction and an adverse one (opposite, or noise) are read side by side; what both would write is not what
the wanted one is about.

    x_t = argmax over v in V_t of  log p(v | wanted, x_<t) - alpha log p(v | adverse, x_<t)
    V_t = { v : p(v | wanted, x_<t) >= plausible · max_w p(w | wanted, x_<t) }

Without V_t a token that both find impossible may win by a hair. alpha = 0 is greedy decoding of the wanted prefix.

Sources: Wang et al. 2024 (MultiCSR), arXiv 2310.10962, for the two instructions; V_t: Li et al. 2023, "Contrastive
Decoding: Open-ended Text Generation as Optimization", arXiv 2210.15097.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from counterpoint.decode.incremental import LanguageModel, Reading, Written
from counterpoint.errors import ConfigError, DataError


def opposed(
    model: LanguageModel,
    wanted: Sequence[Sequence[int]],
    adverse: Sequence[Sequence[int]],
    *,
    max_new: int = 64,
    alpha: float = 0.5,
    plausible: float = 0.1,
) -> list[list[int]]:
    """New tokens of each wanted prefix, without the one that ends it. adverse: a prefix for each of them.

    model: what writes. wanted: ids of its tokens. max_new: new tokens of each, at most. alpha: weight of what the
    adverse prefix would say. plausible: least share of the best probability that a token must have.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> [ids] = opposed(model, model.prefix(["say yes:"]), model.prefix(["say no:"]), max_new=3)
    >>> len(ids) <= 3
    True
    """
    if len(wanted) != len(adverse):
        raise DataError(f"{len(wanted)} prefixes and {len(adverse)} adverse ones: give one for each.")
    if alpha < 0 or not 0 < plausible <= 1:
        raise ConfigError(
            f"alpha={alpha}, plausible={plausible}: alpha is at least 0, plausible above 0 and at most 1."
        )
    with model.evaluating():
        sides = [Reading(model, prefixes, room=max_new) for prefixes in (wanted, adverse)]
        written = Written(model, len(wanted))
        for t in range(max_new):
            yes, no = (side.logits.log_softmax(-1) for side in sides)
            far = yes < yes.amax(-1, keepdim=True) + math.log(plausible)
            tokens = (yes - alpha * no).masked_fill(far, -torch.inf).argmax(-1)
            on = written.write(tokens)
            if not len(on) or t == max_new - 1:
                break
            for side in sides:
                if len(on) < len(tokens):
                    side.select(on)
                side.read(tokens[on])
    return written.tokens
