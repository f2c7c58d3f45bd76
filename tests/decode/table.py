"""A language model whose every answer is written down: what is decoded can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

END = 0


class Tokens:
    """A cache that holds the tokens themselves."""

    def __init__(self) -> None:
        self.ids: Tensor | None = None

    def batch_repeat_interleave(self, times: int) -> None:
        assert self.ids is not None
        self.ids = self.ids.repeat_interleave(times, 0)

    def batch_select_indices(self, index: Tensor) -> None:
        assert self.ids is not None
        self.ids = self.ids[index]


@dataclass
class Answer:
    logits: Tensor
    states: Tensor
    cache: Tokens


class Table:
    """p(next | last token) and a state per token. probabilities: ``(V, V)``. states: ``(V, D)``."""

    begin, ends, places, apart = 1, (END,), None, False
    device = torch.device("cpu")

    def __init__(self, probabilities: Mapping[int, Sequence[float]], states: Sequence[Sequence[float]]) -> None:
        self.states = torch.tensor(states, dtype=torch.float64)
        self.logits = torch.full((len(states), len(states)), -1.0, dtype=torch.float64)
        for token, row in probabilities.items():
            self.logits[token] = torch.tensor(row, dtype=torch.float64).log()

    def step(self, ids: Tensor, mask: Tensor, cache: Tokens | None = None) -> Answer:
        cache = cache or Tokens()
        cache.ids = ids if cache.ids is None else torch.cat([cache.ids, ids], 1)
        assert cache.ids.shape == mask.shape
        return Answer(self.logits[ids[:, -1]], self.states[ids], cache)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        with torch.inference_mode():
            yield
