"""The most probable token, and tokens drawn at random from the most probable ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from counterpoint.decode.incremental import LanguageModel, Reading, Written
from counterpoint.errors import ConfigError


def greedy(model: LanguageModel, prefixes: Sequence[Sequence[int]], *, max_new: int = 64) -> list[list[int]]:
    """The most probable token each time.

    model: what writes. prefixes: ids of its tokens. max_new: new tokens of each, at most.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> greedy(model, model.prefix(["a cat"]), max_new=4) == greedy(model, model.prefix(["a cat"]), max_new=4)
    True
    """
    return _one_by_one(model, prefixes, max_new, lambda logits: logits.argmax(-1))


def nucleus(
    model: LanguageModel,
    prefixes: Sequence[Sequence[int]],
    *,
    max_new: int = 64,
    p: float = 0.95,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[list[int]]:
    """Tokens drawn from the nucleus: the fewest most probable ones whose probabilities sum to at least ``p``.

    temperature: logits are divided by it first. seed: of the draws; they differ from row to row. model: what writes.
    prefixes: ids of its tokens. max_new: new tokens of each, at most.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv 1904.09751.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> same = [nucleus(model, model.prefix(["a cat"]), max_new=4, p=0.9, seed=1) for _ in range(2)]
    >>> same[0] == same[1]
    True
    """
    check_p(p)
    if not temperature > 0:
        raise ConfigError(f"temperature={temperature}: give more than 0; greedy decoding is the limit of 0.")
    random = torch.Generator().manual_seed(seed)
    return _one_by_one(model, prefixes, max_new, lambda logits: draw(logits, random, p=p, temperature=temperature))


def draw(logits: Tensor, random: torch.Generator, *, p: float, temperature: float) -> Tensor:
    """A token ``(N,)`` from the nucleus of each row of ``(N, V)``; random: on the CPU, one number per row.

    logits: of the next token. p: mass of the nucleus. temperature: logits are divided by it.

    >>> logits = torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]])
    >>> draw(logits, torch.Generator().manual_seed(0), p=0.5, temperature=1.0).tolist()
    [1, 0]
    """
    probability, order = (logits / temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    upto = probability.cumsum(-1)
    # A token is outside where those before it are enough; the first one never is.
    kept = probability.masked_fill(upto - probability >= p, 0.0)
    kept[:, 0] = probability[:, 0]
    edges = kept.cumsum(-1)
    place = torch.rand(len(logits), 1, generator=random, dtype=torch.float64).to(edges)
    # Rounding may put the place behind the last edge: then it is the last token that is kept.
    at = torch.minimum((edges <= place * edges[:, -1:]).sum(-1), (kept > 0).sum(-1) - 1)
    return order.gather(1, at.unsqueeze(1)).squeeze(1)


def check_p(p: float) -> None:
    """Raise `ConfigError` where p is no probability above 0."""
    if not 0 < p <= 1:
        raise ConfigError(f"p={p}: give the probability that the nucleus holds, more than 0 and at most 1.")


def _one_by_one(
    model: LanguageModel, prefixes: Sequence[Sequence[int]], max_new: int, choose: Callable[[Tensor], Tensor]
) -> list[list[int]]:
    with model.evaluating():
        reading, written = Reading(model, prefixes, room=max_new), Written(model, len(prefixes))
        for t in range(max_new):
            tokens = choose(reading.logits)
            on = written.write(tokens)
            if not len(on) or t == max_new - 1:
                break
            if len(on) < len(tokens):
                reading.select(on)
            reading.read(tokens[on])
    return written.tokens
