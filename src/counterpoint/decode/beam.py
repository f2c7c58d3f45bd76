"""Beam search: the most probable whole continuation, as far as a few open ones at a time can find it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.decode.incremental import LanguageModel, Reading
from counterpoint.errors import ConfigError


def beam(
    model: LanguageModel,
    prefixes: Sequence[Sequence[int]],
    *,
    max_new: int = 64,
    width: int = 4,
    length: float = 1.0,
) -> list[list[int]]:
    """The continuation with the best ``log p / tokens**length`` among those that ``width`` open ones lead to.

    length: 0 takes the most probable continuation, which tends to be short; 1 the best mean over its tokens, of which
    the one that ends it is one. A prefix is done once no open continuation can become better than the best that ended.
    model: what writes. prefixes: ids of its tokens. max_new: new tokens of each, at most.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> [ids] = beam(model, model.prefix(["a cat"]), max_new=4, width=2)
    >>> len(ids) <= 4
    True
    """
    if width < 1:
        raise ConfigError(f"width={width}: give at least 1 open continuation; 1 is greedy decoding.")
    if length < 0:
        raise ConfigError(f"length={length}: give 0 or more; more than 0 favours longer continuations.")
    count = len(prefixes)
    best: list[tuple[float, list[int]]] = [(-torch.inf, [])] * count

    def offer(row: int, value: float, found: list[int]) -> None:
        if value > best[row][0]:
            best[row] = (value, found)

    if max_new == 0:
        return [[] for _ in prefixes]
    with model.evaluating():
        reading = Reading(model, prefixes, room=max_new)
        ends = torch.tensor(model.ends, dtype=torch.long, device=model.device)
        rows = list(range(count))
        score = reading.logits.new_zeros(count, 1)  # (N, B) log p of the open continuations
        tokens = torch.zeros(count, 1, 0, dtype=torch.long, device=model.device)  # (N, B, t)
        for t in range(1, max_new + 1):
            total, parent, token = _grown(reading.logits, score, width + width * len(ends))
            ended = torch.isin(token, ends)
            for i, j in ended.nonzero().tolist():
                offer(rows[i], float(total[i, j]) / t**length, tokens[i, parent[i, j]].tolist())
            # The open ones to the front, each kind in its order.
            order = ended.long().argsort(dim=1, stable=True)[:, : min(width, int((~ended).sum(1).min()))]
            score, parent, token = (x.gather(1, order) for x in (total, parent, token))
            tokens = torch.cat([tokens.gather(1, parent.unsqueeze(-1).expand(-1, -1, t - 1)), token.unsqueeze(-1)], -1)
            # Log p only falls, and the longest possible text divides it by most.
            bound = (score.amax(1) / max_new**length).tolist() if score.shape[1] else [-torch.inf] * len(rows)
            on = [i for i, row in enumerate(rows) if bound[i] > best[row][0]]
            if t == max_new or not on:
                break
            b = parent.new_tensor(on)
            each = reading.logits.shape[0] // len(rows)
            reading.select((b.unsqueeze(1) * each + parent[b]).flatten())
            rows, score, tokens = [rows[i] for i in on], score[b], tokens[b]
            reading.read(tokens[..., -1].flatten())
        for i, row in enumerate(rows):
            if score.shape[1]:
                offer(row, float(score[i].max()) / t**length, tokens[i, int(score[i].argmax())].tolist())
    return [found for _, found in best]


def _grown(logits: Tensor, score: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best ``most`` ways to go on, ``(N, M)`` each: log p, which open continuation goes on, with which token."""
    n, b = score.shape
    total = (score.unsqueeze(-1) + logits.log_softmax(-1).view(n, b, -1)).flatten(1)
    value, at = total.topk(min(most, total.shape[1]))
    vocabulary = logits.shape[1]
    return value, at // vocabulary, at % vocabulary
