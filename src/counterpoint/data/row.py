"""One row: column values to the keys that the schema names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from counterpoint.data.classes import class_name
from counterpoint.data.log import Log
from counterpoint.data.schema import CELLS_FROM, Known, Row, Schema
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.text import TEXT

NUMBERED = ("label", "source")
"""Parts whose values have names, kept in the schema, and whose rows hold their numbers."""

WIDTH_FROM = 100
"""Rows that are looked at for the width of a vector."""

Classes = Mapping[str, dict[str, int] | None]
"""Of each part of `NUMBERED` that a column plays: value, as text -> its number; None: the column holds numbers already
(a ``ClassLabel``)."""


def class_numbers(features: Any, schema: Schema) -> Classes:
    """How the values of the columns of labels and sources become numbers.

    features: of the data set. schema: of the rows.
    """
    found: dict[str, dict[str, int] | None] = {}
    for part in (p for p in NUMBERED if p in schema.columns):
        known = features and type(features[str(schema.columns[part])]).__name__ == "ClassLabel"
        found[part] = None if known else {name: i for i, name in enumerate(names_of(schema, part))}
    return found


def names_of(schema: Schema, part: str) -> tuple[str, ...]:
    """Names of the classes of a part, ``label`` or ``source``, as the schema has them."""
    return schema.labels if part == "label" else schema.sources


def optional(schema: Schema) -> set[str]:
    """Parts that a row may be without: further positives, negatives, what items are made with, what is said in one.

    schema: of the rows.
    """
    return {"positives", "negatives", *_beside(schema), *({TEXT} - schema.modalities.keys())}


def _beside(schema: Schema) -> set[str]:
    """Parts that items are made with, as the rate of samples in another column."""
    return {part for name in schema.modalities.values() for part in modalities.of(name).beside}


def make_row(values: dict[str, Any], number: int, schema: Schema, classes: Classes, log: Log) -> Row | None:
    """Column values to a `Row`; None (and a line in the log) where an item of it cannot be decoded.

    values: column -> cell. number: of the row. schema: of the rows. classes: as `class_numbers` gives them. log: of the
    rows.
    """
    row: Row = {"row": number}
    beside = _beside(schema)
    for key, column in schema.columns.items():
        if key in beside:
            continue
        if key in ("positives", "negatives"):
            found = [values[c] for c in column]
            flat = [text for value in found for text in (value if isinstance(value, list) else [value])]
            row[key] = [text for text in flat if text and text.strip()]
        elif key in schema.modalities:
            try:
                row[key] = _item(values, schema, key)
            except (OSError, DataError) as error:
                names = column if isinstance(column, str) else "+".join(column)
                log.skip(f"row {number}", f"{modalities.of(schema.modalities[key]).noun} in column {names!r} {error}")
                return None
        else:
            row[key] = _told(values[str(column)], schema, key, classes)
    if schema.kind == "pairs":
        row.setdefault("negatives", [])
    return row


def _item(values: dict[str, Any], schema: Schema, key: str) -> Any:
    """The item of a part, None where there is none. Raises `OSError` or `DataError` where it cannot be decoded."""
    modality, column = modalities.of(schema.modalities[key]), schema.columns[key]
    cell = values[column] if isinstance(column, str) else {name: values[name] for name in column}
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    beside = {part: values.get(str(schema.columns.get(part))) for part in modality.beside}
    return modality.item(cell, beside)


def _told(value: Any, schema: Schema, key: str, classes: Classes) -> Any:
    """What a part says that is no item: the number of a class, a score, what is said in a recording."""
    if (numbers := classes.get(key)) is not None:
        if class_name(value) not in numbers:
            raise unknown_class(value, schema, key)
        return numbers[class_name(value)]
    if key == "score":
        return float(value)
    if key == "task":
        return int(value)
    return None if isinstance(value, str) and not value.strip() else value


def known_of(
    schema: Schema, modality: str, cells: Callable[[Sequence[str], int], Mapping[str, Sequence[Any]]]
) -> Known:
    """What columns tell of the items of a modality. cells: column -> its cells in at most so many of the rows.

    schema: of the rows. modality: its name.
    """
    columns = next((c for key, c in schema.columns.items() if schema.modalities.get(key) == modality), None)
    if columns is None:
        return Known()
    if isinstance(columns, str):
        found = map(width, cells([columns], WIDTH_FROM)[columns])
        return Known(width=next(filter(None, found), 0))  # a cell may be empty
    return Known(cells=cells(columns, CELLS_FROM))


def width(item: Any) -> int:
    """Numbers in a vector; 0 for what is none.

    item: whatever a cell holds.
    """
    found = np.asarray(item) if isinstance(item, list | tuple | np.ndarray) else np.empty(())
    return len(found) if found.ndim == 1 and found.dtype.kind in "iuf" else 0


def unknown_class(value: Any, schema: Schema, part: str = "label") -> DataError:
    """The error for a label or source that no row of the inferred schema had.

    value: of the cell. schema: of the rows. part: ``label`` or ``source``.
    """
    names = names_of(schema, part)
    known = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    what = "classes" if part == "label" else "sources"
    return DataError(f"The {part} {value!r} is none of the {len(names)} {what} known: {known}.")
