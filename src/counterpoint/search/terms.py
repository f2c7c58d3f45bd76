"""Words for lexical search: plain words, or the parts that programmers' identifiers are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

Tokenizer: TypeAlias = Callable[[str], list[str]]

_WORD = re.compile(r"\w+")
# An acronym (HTTP in HTTPServer), a capitalised or small word, a number. Underscores separate.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+")


def words(text: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores.

    text: any.

    >>> words("The wing's lift, at Mach 2.")
    ['the', 'wing', 's', 'lift', 'at', 'mach', '2']
    """
    return _WORD.findall(text.lower())


def code(text: str) -> list[str]:
    """Lower-case parts of identifiers, split at underscores, at changes of case and around digits.

    >>> code("parseISODate(utf8_text)")
    ['parse', 'iso', 'date', 'utf', '8', 'text']
    """
    return [part for word in _WORD.findall(text) for part in _parts(word)]


@lru_cache(maxsize=1 << 17)  # code repeats its identifiers: five in six are seen before
def _parts(word: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in _PART.findall(word))


TOKENIZERS: dict[str, Tokenizer] = {"words": words, "code": code}
"""The tokenizers that an index on disk can name."""


class Vocabulary:
    """Numbers tokens in the order of their first appearance.

    >>> vocabulary = Vocabulary(["cat", "dog"])
    >>> vocabulary.known(["dog", "bird"]), vocabulary.learn(["bird"])
    ([1], [2])
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self.number = {token: i for i, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self.number)

    def learn(self, tokens: list[str]) -> list[int]:
        """Numbers of the tokens; unseen ones are added."""
        number = self.number
        return [number.setdefault(token, len(number)) for token in tokens]

    def known(self, tokens: list[str]) -> list[int]:
        """Numbers of the tokens that are in the vocabulary."""
        return [number for token in tokens if (number := self.number.get(token)) is not None]
