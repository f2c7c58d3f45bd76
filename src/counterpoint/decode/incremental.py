"""Texts that are read on token by token, many at once: what every decoder keeps between two tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from counterpoint.errors import ConfigError, DataError


class LanguageModel(Protocol):
    """What decoding asks of a model; see `counterpoint.encoders.causal.CausalLM`.

    apart: what is written does not stand behind the prefix, but in a text of its own, by a decoder.
    """

    begin: int
    ends: tuple[int, ...]
    places: int | None

    @property
    def apart(self) -> bool:
        """Whether what is written stands apart from the prefix, as a decoder's text does from what the encoder read."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def step(self, ids: Tensor, mask: Tensor, cache: Any = None) -> Any:
        """Read tokens, and say what may come next.

        ids: ``(N, T)`` long, padded on the left. mask: bool, True where a token is real. cache: what an earlier step
        returned (None: nothing was read before). Returns logits, states and the next cache.
        """
        ...

    def evaluating(self) -> AbstractContextManager[None]:
        """Inside: no dropout, no gradients."""
        ...


class TextModel(LanguageModel, Protocol):
    """A language model with its tokenizer."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the tokens of texts, without special ones."""
        ...

    def prefix(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that are to be continued, as the model wants a text begun."""
        ...

    def text(self, ids: Sequence[int], prefix: Sequence[int] = ()) -> str:
        """What new tokens say. ids: the new ones. prefix: those before, as a token may be written otherwise behind
        others."""
        ...


def space(model: LanguageModel, longest: int) -> int | None:
    """The tokens that can be written to prefixes of at most ``longest`` tokens; None: any number.

    model: what writes.
    """
    if model.places is None:
        return None
    if model.apart:
        return model.places if longest <= model.places else 0
    return max(0, model.places - max(1, longest))


class Reading:
    """N texts, as far as they were read. Use it inside ``model.evaluating()``.

    Prefixes are padded on the left, so that all texts grow at one end. A prefix without a token is given the model's
    first token to read, which counts as none of its own.

    logits: ``(N, V)`` of the next token. states: ``(N, T, D)``, the last layer's, of the tokens read last. own: ``(N,
    S)`` bool, which of the S tokens read so far belong to the text (of a model whose writing stands apart: to what was
    written). model: what reads. prefixes: ids of its tokens. room: tokens that will be written to each, at most.
    """

    def __init__(self, model: LanguageModel, prefixes: Sequence[Sequence[int]], *, room: int) -> None:
        """room: tokens that are going to be added."""
        if not prefixes:
            raise DataError("There is no prefix to go on from. Give at least one; an empty one will do.")
        longest = max(map(len, prefixes))
        if room < 0:
            raise ConfigError(f"max_new={room}: give the number of tokens to add, for example max_new=64.")
        if (most := space(model, longest)) is not None and room > most:
            raise ConfigError(
                f"A prefix of {longest} tokens and {room} new ones are more than the {model.places} tokens that this "
                f"model has positions for. Ask for at most {most} new tokens, or shorten the prefix."
            )
        rows = [list(p) or [model.begin] for p in prefixes]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(r)) + r for r in rows], device=model.device)
        self._model = model
        self._mask = torch.tensor([[False] * (width - len(r)) + [True] * len(r) for r in rows], device=model.device)
        self.own = self._mask & torch.tensor([len(p) > 0 for p in prefixes], device=model.device).unsqueeze(1)
        self._read(ids, None)
        if model.apart:
            self.own = self._mask.new_zeros(self.states.shape[:2])

    def _read(self, ids: Tensor, cache: Any) -> None:
        found = self._model.step(ids, self._mask, cache)
        self.logits: Tensor = found.logits
        self.states: Tensor = found.states
        self._cache = found.cache

    def read(self, tokens: Tensor) -> None:
        """Read one token ``(N,)`` more of each text."""
        new = self._mask.new_ones(len(tokens), 1)
        self._mask, self.own = (torch.cat([m, new], 1) for m in (self._mask, self.own))
        self._read(tokens.unsqueeze(1), self._cache)

    def fork(self, tokens: Tensor) -> None:
        """Read several tokens ``(N, k)``, each behind a copy of its text: from now on N k texts, row by row."""
        self._cache.batch_repeat_interleave(tokens.shape[1])
        self._mask, self.own = (m.repeat_interleave(tokens.shape[1], 0) for m in (self._mask, self.own))
        self.read(tokens.flatten())

    def select(self, index: Tensor) -> None:
        """The texts at ``index`` ``(N',)`` alone, in that order."""
        self._cache.batch_select_indices(index)
        self._mask, self.own, self.logits, self.states = (
            x[index] for x in (self._mask, self.own, self.logits, self.states)
        )


class Written:
    """The new tokens of each prefix, and which prefixes are still being continued.

    rows: ``(N',)`` the prefixes that are, by number. model: whose tokens end a text. count: number of prefixes.
    """

    def __init__(self, model: LanguageModel, count: int) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.rows = torch.arange(count, device=model.device)
        self._ends = torch.tensor(model.ends, dtype=torch.long, device=model.device)

    def write(self, tokens: Tensor) -> Tensor:
        """Add a token ``(N',)`` to each; returns the positions ``(N'',)`` of those that did not end with it."""
        on = (~torch.isin(tokens, self._ends)).nonzero().squeeze(1)
        self.rows = self.rows[on]
        for row, token in zip(self.rows.tolist(), tokens[on].tolist()):
            self.tokens[row].append(token)
        return on
