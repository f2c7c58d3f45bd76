"""Texts: strings, as they stand in the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterpoint.modalities.base import Modality, is_text

if TYPE_CHECKING:
    import numpy as np

TEXT = "text"

WORDS = "the quick brown fox jumps over lazy dogs while seven bright birds sing near an old stone bridge at dawn"
"""Of an example."""


def example(rng: np.random.Generator, words: int = 12) -> str:
    """Words in any order.

    rng: every draw comes from it. words: how many.
    """
    return " ".join(rng.choice(WORDS.split(), words))


modality = Modality(
    name=TEXT,
    one="a text",
    many="texts",
    none="empty text",
    fits=is_text,
    written=True,
    bags=True,
    then=('counterpoint index {run} ROWS && counterpoint search {run} "a question"',),
    example=lambda rng: example(rng, int(rng.integers(1, 40))),
)
