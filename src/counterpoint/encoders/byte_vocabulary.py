"""A vocabulary of bytes and a few whole words, for decoders that write any text without a learned tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

PAD, BEGIN, END = 0, 1, 2
"""The signs: what fills up, what stands before the first token, what stands behind the last one."""
FIRST = 3
"""The number of the byte 0."""
WORDS = FIRST + 256
"""The number of the first whole word."""


def spelled(text: str, *, longest: int | None = None) -> list[int]:
    """The bytes of a text as tokens; those beyond ``longest`` are cut off.

    >>> spelled("go")
    [106, 114]
    """
    return [FIRST + byte for byte in text.encode()[:longest]]


def read(ids: Iterable[int]) -> str:
    """The text that tokens spell; signs and whole words among them are passed over, broken characters are U+FFFD.

    ids: tokens, of one text.

    >>> read([BEGIN, WORDS, *spelled("né"), END, PAD])
    'né'
    """
    return bytes(t - FIRST for t in ids if FIRST <= t < WORDS).decode(errors="replace")
