"""The rows a verb works on, and which of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

    from counterpoint.data.log import Log

PART = 8192
"""Rows that are in memory as Python objects at once."""


def read_all(sources: Sequence[str], *, split: str | None = None, log: Log) -> datasets.Dataset:
    """Every row of the sources (of one split, where one is named)."""
    from counterpoint.data.read import read

    return read(list(sources), split=split or "all", streaming=False, log=log)


def find_column(rows: datasets.Dataset, modality: str, asked: str | None) -> str:
    """The column asked for, else the only one of the modality (of text: ``text``, where there are several)."""
    from counterpoint.data.infer import column_type, describe

    fitting = [name for name in rows.column_names if column_type(rows, name) == modality]
    if asked is not None:
        if asked not in rows.column_names:
            raise DataError(f"There is no column {asked!r}; the rows have {describe(rows)}.")
        if asked not in fitting:
            raise DataError(f"Column {asked!r} holds no {modality}; the rows have {describe(rows)}.")
        return asked
    if len(fitting) == 1 or "text" in fitting:
        return "text" if "text" in fitting else fitting[0]
    if not fitting:
        raise DataError(f"No column holds {modality}, which is what the model encodes; the rows have {describe(rows)}.")
    raise DataError(f"Which column holds the {modality}? Type --column with one of: {', '.join(fitting)}.")


def items(rows: datasets.Dataset, column: str, modality: str, *, log: Log) -> Iterator[tuple[list[int], list[Any]]]:
    """Row numbers and the items of a column, part by part.

    A missing text counts as an empty one; an image that cannot be read is left out and logged.
    """
    from counterpoint.data.images import decode

    arrow, empty = rows.with_format("arrow"), 0
    for start in range(0, len(rows), PART):
        cells = arrow[start : start + PART][column].to_pylist()
        numbers, found = [], []
        for number, cell in enumerate(cells, start):
            if modality == "image":
                try:
                    cell = decode(cell or b"")
                except OSError:
                    log.skip(f"row {number}", f"image in column {column!r} cannot be read")
                    continue
            elif not (cell and cell.strip()):
                empty += 1
            numbers.append(number)
            found.append(cell or "" if modality == "text" else cell)
        if found:
            yield numbers, found
    if empty:
        log.note(f"{empty:,} rows have no text in column {column!r}; their embeddings are those of an empty text.")
