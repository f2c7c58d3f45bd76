"""A sequence decoder: writes tokens one after the other while it looks at the places of what was encoded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from counterpoint.encoders.base import evaluating
from counterpoint.encoders.blocks import Block, small_weights
from counterpoint.errors import DataError


class SequenceDecoder(nn.Module):
    """Logits of the next token, given tokens so far and the places ``(N, S, source)`` of what they are about.

    places: tokens that it has positions for. The place 0 of the vocabulary is padding. dim, depth, heads: width,
    blocks, attention heads.

    >>> decoder = SequenceDecoder(20, 8, dim=16, depth=1, heads=2, places=10)
    >>> decoder(torch.tensor([[1, 5, 7]]), torch.randn(1, 4, 8), torch.ones(1, 4).bool()).shape
    torch.Size([1, 3, 20])
    """

    def __init__(self, vocabulary: int, source: int, *, dim: int, depth: int, heads: int, places: int) -> None:
        super().__init__()
        self.vocabulary, self.places = vocabulary, places
        self.embedding = nn.Embedding(vocabulary, dim)
        self.position = nn.Embedding(places, dim)
        self.into = nn.Linear(source, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, cross=True) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, vocabulary)
        small_weights(self)

    def forward(self, ids: Tensor, source: Tensor, there: Tensor) -> Tensor:
        """``(N, L, V)`` for tokens ``(N, L)`` long, places ``(N, S, source)``, ``there`` ``(N, S)`` bool the real ones.

        Raises `DataError` for more tokens than it has positions for.

        ids: tokens so far.
        """
        length = ids.shape[1]
        if length > self.places:
            raise DataError(f"{length} tokens are more than the {self.places} that this decoder has positions for.")
        order = torch.arange(length, device=ids.device)
        x = self.embedding(ids) + self.position(order)
        seen = (order[:, None] >= order).expand(len(ids), -1, -1)
        other, across = self.into(source), there[:, None, :].expand(-1, length, -1)
        for block in self.blocks:
            x = block(x, seen=seen, other=other, across=across)
        found: Tensor = self.out(self.norm(x))
        return found


@dataclass
class Heard:
    """What `Speaker` keeps between two tokens; all is read again for each token, as such texts are short.

    source: ``(N, S, D)`` places. there: ``(N, S)`` bool. ids: ``(N, L)`` tokens so far.
    """

    source: Tensor
    there: Tensor
    ids: Tensor

    def batch_select_indices(self, index: Tensor) -> None:
        """The texts of an index ``(N',)`` alone, in its order."""
        self.source, self.there, self.ids = (x[index] for x in (self.source, self.there, self.ids))

    def batch_repeat_interleave(self, times: int) -> None:
        """Every text so many times, one behind the other."""
        held = (self.source, self.there, self.ids)
        self.source, self.there, self.ids = (x.repeat_interleave(times, 0) for x in held)


@dataclass(frozen=True)
class Said:
    """logits: ``(N, V)`` of the next token. states: those of all tokens read, ``(N, L, V)``.

    cache: for the next step.
    """

    logits: Tensor
    states: Tensor
    cache: Heard


class Speaker:
    """A decoder that looks at given places, as the language model that `counterpoint.decode` asks for: row i of the
    prefixes is about row i of the source. Prefixes are of one length.

    decoder: what writes. source: ``(N, S, D)`` places. there: ``(N, S)`` bool, the real ones. begin: token that begins
    a text. ends: tokens that end one.
    """

    apart: ClassVar[bool] = False  # the prefix is its own text's beginning

    def __init__(
        self, decoder: SequenceDecoder, source: Tensor, there: Tensor, *, begin: int, ends: tuple[int, ...]
    ) -> None:
        self.decoder, self.begin, self.ends = decoder, begin, ends
        self.places: int | None = decoder.places
        self._start = Heard(source, there, torch.zeros(len(source), 0, dtype=torch.long, device=source.device))

    @property
    def device(self) -> torch.device:
        """Where the places are."""
        return self._start.source.device

    def step(self, ids: Tensor, mask: Tensor, cache: Heard | None = None) -> Said:
        """What may come next, after ``ids`` ``(N, L)`` too. mask: all True, as prefixes are of one length. cache: of
        the step before (None: nothing was read)."""
        if not bool(mask.all()):
            raise DataError("These prefixes have several lengths; a decoder that looks at a source takes one.")
        cache = replace(self._start) if cache is None else cache
        cache.ids = torch.cat((cache.ids, ids), 1)
        logits = self.decoder(cache.ids, cache.source, cache.there)
        return Said(logits[:, -1], logits, cache)

    def evaluating(self) -> AbstractContextManager[None]:
        """Inside: no dropout, no gradients."""
        return evaluating(self.decoder)
