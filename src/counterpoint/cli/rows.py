"""Which column of the rows a verb works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets


def text_column(rows: datasets.Dataset, asked: str | None) -> str:
    """The column asked for, else ``text``, else the only column of strings."""
    strings = [n for n, f in rows.features.items() if str(getattr(f, "dtype", "")).endswith("string")]
    if asked is not None:
        if asked not in rows.column_names:
            raise DataError(f"There is no column {asked!r}; the rows have {', '.join(rows.column_names)}.")
        return asked
    if "text" in strings or len(strings) == 1:
        return "text" if "text" in strings else strings[0]
    raise DataError(
        f"Which column holds the text? Type --column NAME with one of: {', '.join(strings) or 'none is text'}."
    )
