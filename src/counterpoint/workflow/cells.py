"""What a cell of a column is to an encoder of each modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from counterpoint.data.audio import recording
from counterpoint.data.cells import is_missing
from counterpoint.data.column_types import is_numbers
from counterpoint.data.dna import clean
from counterpoint.data.images import decode
from counterpoint.errors import DataError


@dataclass(frozen=True)
class Cells:
    """holds: whether a column of an Arrow type can have such items. item: of a cell, or None where nothing in it can be
    encoded. batch: rows encoded at once unless told otherwise; decoded images and recordings are large."""

    holds: Callable[[pa.DataType], bool]
    item: Callable[[Any], Any]
    batch: int = 8192


# --- types -----------------------------------------------------------------------------------------------------


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_)


def _is_text(type_: pa.DataType) -> bool:
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or type_ == pa.string_view()


def _is_encoded(type_: pa.DataType) -> bool:
    """Bytes of a file, or a struct with bytes."""
    if pa.types.is_struct(type_):
        return type_.get_field_index("bytes") >= 0
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_)


# --- items -----------------------------------------------------------------------------------------------------


def _file(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A cell of a file, or of what stands for one, as ``read`` gives it; None where it is empty or damaged."""

    def item(cell: Any) -> Any:
        if cell is None or (isinstance(cell, dict) and not any(v is not None for v in cell.values())):
            return None
        try:
            return read(cell)
        except OSError:
            return None

    return item


def _as_it_is(cell: Any) -> Any:
    return cell


def _bases(cell: str | None) -> str | None:
    try:
        return clean(cell) if cell else None
    except DataError:
        return None


def _row(cell: dict[str, Any]) -> dict[str, Any] | None:
    return None if all(is_missing(c) for c in cell.values()) else cell


def _picture_and_row(cell: dict[str, Any]) -> dict[str, Any] | None:
    """Of a row without any cell, the image is left."""
    image = CELLS["image"].item(cell["image"])
    return None if image is None else {"image": image, "table": cell["table"]}


CELLS = {
    "text": Cells(_is_text, _as_it_is),
    "dna": Cells(_is_text, _bases),
    "vector": Cells(is_numbers, _as_it_is),
    "image": Cells(_is_encoded, _file(decode), batch=512),
    "audio": Cells(lambda type_: _is_encoded(type_) or is_numbers(type_), _file(recording), batch=256),
    "table": Cells(lambda type_: _is_text(type_) or _is_number(type_) or pa.types.is_boolean(type_), _row),
    "image+table": Cells(_is_encoded, _picture_and_row, batch=512),
    "series": Cells(lambda type_: False, _as_it_is, batch=4096),  # no cell is a window: see `workflow.series`
}
"""The modalities of which a column, or the columns of a table, can be encoded row by row."""
