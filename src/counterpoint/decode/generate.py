"""Texts in, texts out: one face for every decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, get_args

from counterpoint.decode.beam import beam
from counterpoint.decode.incremental import LanguageModel, TextModel
from counterpoint.decode.sample import greedy, nucleus
from counterpoint.decode.search import contrastive_search
from counterpoint.errors import ConfigError

How: TypeAlias = Literal["contrastive", "greedy", "nucleus", "beam"]
"""contrastive: probable and unlike what was said. greedy: the most probable token. nucleus: drawn at random from the
probable ones. beam: the most probable continuation."""


class Decoder(Protocol):
    """Chooses tokens: ``(model, prefixes, *, max_new) -> new tokens of each prefix``."""

    def __call__(
        self, model: LanguageModel, prefixes: Sequence[Sequence[int]], /, *, max_new: int = 64
    ) -> list[list[int]]:
        """New tokens of each prefix, without the one that ends it."""
        ...


DECODERS: dict[How, Any] = {
    "contrastive": contrastive_search,
    "greedy": greedy,
    "nucleus": nucleus,
    "beam": beam,
}


def decoder(how: How, **settings: Any) -> Decoder:
    """A decoder with its settings: ``decoder("contrastive", k=5, alpha=0.6)``; see the function of that name.

    how: its name. settings: of the function; an unknown one raises `ConfigError`.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> decode = decoder("contrastive", k=3, alpha=0.6)
    >>> len(decode(model, model.prefix(["a cat", "a dog"]), max_new=4))
    2
    """
    if how not in get_args(How):
        raise ConfigError(f"There is no decoder {how!r}. Type one of: {', '.join(get_args(How))}.")
    return partial(DECODERS[how], **settings)


@dataclass(frozen=True)
class Continuation:
    """What a prefix was continued with. ended: by the model itself, not by the limit.

    text: what is new. tokens: the same as ids.
    """

    prefix: str
    text: str
    tokens: list[int]
    ended: bool


def generate(
    model: TextModel,
    prefixes: Sequence[str],
    how: Decoder,
    *,
    max_new: int = 64,
    batch: int = 32,
) -> list[Continuation]:
    """A continuation of each prefix, in order. batch: prefixes at once, those of like length together.

    model: what writes. how: a `decoder`. max_new: new tokens of each, at most.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> written = generate(CausalLM.example(), ["a cat", "a dog"], decoder("greedy"), max_new=4)
    >>> [w.prefix for w in written], all(len(w.tokens) <= 4 for w in written)
    (['a cat', 'a dog'], True)
    """
    if batch < 1:
        raise ConfigError(f"batch={batch}: at least one prefix is continued at once.")
    ids = model.prefix(prefixes)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        found |= zip(part, how(model, [ids[i] for i in part], max_new=max_new))
    return [
        Continuation(text, model.text(found[i], ids[i]), found[i], len(found[i]) < max_new)
        for i, text in enumerate(prefixes)
    ]
