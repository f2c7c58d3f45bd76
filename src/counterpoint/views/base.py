"""What a modality's file of views may hold beside its augmentations: two views of an item, and two parts of one."""

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


TwoViews: TypeAlias = Callable[[Sequence[Any], np.random.Generator, Collate], tuple[Data, Data]]
"""``two_views(items, rng, collate) -> (one, other)``: each item twice, each time changed at random in ways that leave
it what it is, as its encoder reads it: N items in both, in their order."""


def two_views(modality: str) -> TwoViews:
    """The function ``two_views`` of ``counterpoint.views.MODALITY``; where there is none, an item stands for itself
    twice, and what tells its views apart is the dropout of its encoder.

    modality: its name.

    >>> one, other = two_views("text")(["a text"], np.random.default_rng(0), list)
    >>> one == other
    True
    """
    name = f"counterpoint.views.{modality}"
    found: TwoViews | None = getattr(import_module(name), "two_views", None) if find_spec(name) else None
    return found or _twice


def _twice(items: Sequence[Any], rng: np.random.Generator, collate: Collate) -> tuple[Data, Data]:
    data = collate(items)
    return data, data


def counterparts(modality: str) -> Counterparts | None:
    """The function ``counterparts`` of ``counterpoint.views.MODALITY``; None where there is none.

    modality: its name.

    >>> find = counterparts("text")
    >>> find(["one two three four five six seven eight"], np.random.default_rng(0), list)
    (['one two three four'], ['five six seven eight'])
    """
    name = f"counterpoint.views.{modality}"
    found: Counterparts | None = getattr(import_module(name), "counterparts", None) if find_spec(name) else None
    return found


def sentence(function: Counterparts) -> str:
    """The first sentence of its docstring, on one line.

    function: a modality's ``counterparts``.

    >>> sentence(counterparts("text"))
    'The first half of each text had to find its second half.'
    """
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
