"""Kinds of rows and what methods learn from, in words; nothing heavy is imported for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from counterpoint.modalities import base as modalities

KINDS = {
    "texts": "single texts",
    "pairs": "pairs",
    "scored": "scored pairs",
    "labelled": "items with labels",
    "items": "single items",
    "bags": "bags of items that share a label",
    "towers": "two modalities of one thing",
    "graph": "a graph",
    "series": "a series",
    "mixed": "sources of several kinds",
}
"""What rows hold, in words."""


class Needs(Protocol):
    """What says from what it learns: a method's `Spec`, or its page in the catalogue."""

    @property
    def modalities(self) -> Sequence[str]: ...

    @property
    def needs(self) -> Sequence[str]: ...


def needs(spec: Needs) -> list[str]:
    """What a method learns from, in words: ``images``; ``pairs``; ``items with labels``."""
    single = " or ".join(modalities.of(m).many for m in spec.modalities)
    kinds = [kind for kind in spec.needs if kind != "texts" or "items" not in spec.needs]  # texts are items
    return [single if kind == "items" else KINDS[kind] for kind in kinds]
