"""The rows a verb works on, and which of their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

    from counterpoint.data.files.options import Said
    from counterpoint.data.files.read import Source
    from counterpoint.data.log import Log


def read_all(sources: Source | Any, *, split: str | None = None, log: Log, reading: Said = None) -> datasets.Dataset:
    """Every row of the sources (of one split, where one is named): files, or rows that are in memory already.

    reading: what is said of files rather than found.
    """
    from counterpoint.data.files.read import read

    return read(sources, split=split or "all", streaming=False, log=log, reading=reading)


def find_column(rows: datasets.Dataset, modality: str, asked: str | None) -> str:
    """The column asked for, else the only one of the modality, or, where there are several, the one called like it.

    Of items that are cells of several columns, which the model knows, none: ''; of such with an image, the image.
    """
    from counterpoint.data.column_types import column_type, describe
    from counterpoint.modalities.base import parts

    single = next((m for m in parts(modality) if m.columns == "one"), None)
    if single is None:
        if asked is not None:
            raise DataError(f"The model encodes {parts(modality)[0].many} and knows their columns: leave --column out.")
        return ""
    name = single.name
    fitting = [column for column in rows.column_names if column_type(rows, column) == name]
    if asked is not None:
        if asked not in rows.column_names:
            raise DataError(f"There is no column {asked!r}; the rows have {describe(rows)}.")
        if asked not in fitting:
            raise DataError(f"Column {asked!r} holds no {name}; the rows have {describe(rows)}.")
        return asked
    if len(fitting) == 1 or name in fitting:
        return name if name in fitting else fitting[0]
    if not fitting:
        raise DataError(f"No column holds {name}, which is what the model encodes; the rows have {describe(rows)}.")
    raise DataError(f"Which column holds the {name}? Type --column with one of: {', '.join(fitting)}.")
