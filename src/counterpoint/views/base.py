"""What every modality's file of views may hold beside its augmentations: two parts of an item that belong together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np

from counterpoint.data.batch import Data

Collate: TypeAlias = Callable[[Sequence[Any]], Data]
Counterparts: TypeAlias = Callable[[Sequence[Any], np.random.Generator, Collate], tuple[Sequence[Any], Sequence[Any]]]
"""``counterparts(items, rng, collate) -> (anchors, positives)``: two parts of each item, of which the one must find the
other among those of other items. By that a model is measured where nothing says what belongs together.

items: (N,), as rows hold them. rng: all chance comes from it. collate: the encoder's, for parts that are cut from what
it reads. anchors, positives: (N,), None in both where an item has no two parts. The first sentence of its docstring
stands in the report."""


def counterparts(modality: str) -> Counterparts | None:
    """The function ``counterparts`` of ``counterpoint.views.MODALITY``; None where there is none."""
    name = f"counterpoint.views.{modality}"
    found: Counterparts | None = getattr(import_module(name), "counterparts", None) if find_spec(name) else None
    return found


def sentence(function: Counterparts) -> str:
    """The first sentence of its docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
