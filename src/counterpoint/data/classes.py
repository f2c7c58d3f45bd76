"""Names of classes: a class is what is written, and what says that nothing is known is none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.errors import ConfigError

UNKNOWN = ("", "nan", "null", "<na>", "n/a", "#n/a")
"""What programs write, in small letters, where no class is known."""


def class_name(value: Any) -> str:
    """The name of the class that a cell holds. Whole numbers are named as such: missing labels make them decimals.

    value: of a cell.

    >>> [class_name(v) for v in ("01", 1, 1.0, 1.5, True)]
    ['01', '1', '1', '1.5', 'True']
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_class(value: Any) -> bool:
    """Whether a cell holds a class at all: not null, NaN, blank, or a word of `UNKNOWN`.

    value: of a cell.

    >>> [is_class(v) for v in ("a", 0, None, float("nan"), " ", "NaN", "none")]
    [True, True, False, False, False, False, True]
    """
    if isinstance(value, str):
        return value.strip().lower() not in UNKNOWN
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def names_of(values: Iterable[Any]) -> tuple[str, ...]:
    """The classes among cells, by value, each once.

    values: of cells.
    """
    return tuple(dict.fromkeys(class_name(v) for v in sorted(v for v in values if is_class(v))))


def holds_class(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which cells of a column hold a class, ``(N,)`` of truth values."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        known = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        return pc.and_(pc.is_valid(column), pc.invert(pc.is_in(known, pa.array(UNKNOWN, known.type))))
    return pc.invert(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)))


def as_texts(labels: Sequence[str]) -> tuple[str, ...]:
    """Names of classes as an encoder of texts reads them: ``_``, ``-`` and ``/`` are spaces.

    Raises `ConfigError` where two are the same. labels: the names, as they are written.

    >>> as_texts(["card_arrival", "Top-up"])
    ('card arrival', 'top up')
    """
    names = tuple(" ".join(re.sub(r"[_/-]", " ", name).split()).lower() for name in labels)
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(
                f"The classes {labels[names.index(name)]!r} and {labels[i]!r} have the same text, so it tells nothing "
                "apart. Rename one of them."
            )
    return names
