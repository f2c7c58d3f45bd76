"""One row: column values to the keys that the schema names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from counterpoint.data.audio import recording
from counterpoint.data.classes import class_name
from counterpoint.data.dna import clean
from counterpoint.data.images import decode
from counterpoint.data.log import Log
from counterpoint.data.schema import CELLS_FROM, Known, Row, Schema
from counterpoint.errors import DataError

NUMBERED = ("label", "source")
"""Parts whose values have names, kept in the schema, and whose rows hold their numbers."""

WIDTH_FROM = 100
"""Rows that are looked at for the width of a vector."""

Classes = Mapping[str, dict[str, int] | None]
"""Of each part of `NUMBERED` that a column plays: value, as text -> its number; None: the column holds numbers already
(a ``ClassLabel``)."""


def class_numbers(features: Any, schema: Schema) -> Classes:
    """How the values of the columns of labels and sources become numbers."""
    found: dict[str, dict[str, int] | None] = {}
    for part in (p for p in NUMBERED if p in schema.columns):
        known = features and type(features[str(schema.columns[part])]).__name__ == "ClassLabel"
        found[part] = None if known else {name: i for i, name in enumerate(names_of(schema, part))}
    return found


def names_of(schema: Schema, part: str) -> tuple[str, ...]:
    return schema.labels if part == "label" else schema.sources


def make_row(values: dict[str, Any], number: int, schema: Schema, classes: Classes, log: Log) -> Row | None:
    """Column values to a `Row`; None (and a line in the log) where an image or a recording cannot be decoded."""
    row: Row = {"row": number}
    for key, column in schema.columns.items():
        if key in ("positives", "negatives"):
            found = [values[c] for c in column]
            flat = [text for value in found for text in (value if isinstance(value, list) else [value])]
            row[key] = [text for text in flat if text and text.strip()]
            continue
        if key == "rate":  # of the samples in another column
            continue
        if key == "table":
            row[key] = {name: values[name] for name in column}
            continue
        value = values[str(column)]
        if (numbers := classes.get(key)) is not None:
            if class_name(value) not in numbers:
                raise unknown_class(value, schema, key)
            value = numbers[class_name(value)]
        elif key == "score":
            value = float(value)
        elif schema.modalities.get(key) == "image" and value is not None:
            try:
                value = decode(value)
            except OSError:
                log.skip(f"row {number}", f"image in column {column!r} cannot be read")
                return None
        elif schema.modalities.get(key) == "audio" and value is not None:
            try:
                value = recording(value, values.get(str(schema.columns.get("rate"))))
            except OSError as error:
                log.skip(f"row {number}", f"recording in column {column!r} cannot be used: {error}")
                return None
        elif schema.modalities.get(key) == "dna" and value is not None:
            try:
                value = clean(value)
            except DataError as error:
                log.skip(f"row {number}", f"column {column!r}: {error}")
                return None
        elif schema.modalities.get(key) == "vector":
            value = np.asarray(value, dtype=np.float32)
        elif key == "task":
            value = int(value)
        elif (schema.kind == "towers" or (key == "text" and key not in schema.modalities)) and not (
            value and value.strip()
        ):
            value = None
        row[key] = value
    if schema.kind == "pairs":
        row.setdefault("negatives", [])
    return row


def known_of(
    schema: Schema, modality: str, cells: Callable[[Sequence[str], int], Mapping[str, Sequence[Any]]]
) -> Known:
    """What columns tell of the items of a modality. cells: column -> its cells in at most so many of the rows."""
    columns = next((c for key, c in schema.columns.items() if schema.modalities.get(key) == modality), None)
    if columns is None:
        return Known()
    if isinstance(columns, str):
        found = map(width, cells([columns], WIDTH_FROM)[columns])
        return Known(width=next(filter(None, found), 0))  # a cell may be empty
    return Known(cells=cells(columns, CELLS_FROM))


def width(item: Any) -> int:
    """Numbers in a vector; 0 for what is none."""
    found = np.asarray(item) if isinstance(item, list | tuple | np.ndarray) else np.empty(())
    return len(found) if found.ndim == 1 and found.dtype.kind in "iuf" else 0


def unknown_class(value: Any, schema: Schema, part: str = "label") -> DataError:
    """The error for a label or source that no row of the inferred schema had."""
    names = names_of(schema, part)
    known = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    what = "classes" if part == "label" else "sources"
    return DataError(f"The {part} {value!r} is none of the {len(names)} {what} known: {known}.")
