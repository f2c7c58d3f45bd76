"""The rows a verb works on, and which of their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

    from counterpoint.data.files.read import Source
    from counterpoint.data.log import Log


def read_all(sources: Source | Any, *, split: str | None = None, log: Log) -> datasets.Dataset:
    """Every row of the sources (of one split, where one is named): files, or rows that are in memory already."""
    from counterpoint.data.files.read import read

    return read(sources, split=split or "all", streaming=False, log=log)


def find_column(rows: datasets.Dataset, modality: str, asked: str | None) -> str:
    """The column asked for, else the only one of the modality (of text: ``text``, where there are several).

    Of a table, whose columns the model knows, none: ''; of a table with an image, the image.
    """
    from counterpoint.data.column_types import column_type, describe

    if modality == "table":
        if asked is not None:
            raise DataError("The model encodes table rows and knows their columns: leave --column out.")
        return ""
    modality = modality.removesuffix("+table")
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
