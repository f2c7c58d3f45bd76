"""Columns of any Arrow type as those that the rest of the library knows: texts, numbers, lists, files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data.files import options, store
from counterpoint.data.files.jsonfile import DEPTH
from counterpoint.data.files.store import File
from counterpoint.errors import DataError

_INDEX = re.compile(r"__index_level_\d+__")
"""Names of the columns that pandas adds for its index."""
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b"FORM", b"RIFF", b"RIFX")
_FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def check_names(path: File, names: Sequence[str]) -> None:
    """Raises `DataError` where two columns have one name.

    path: of the file. names: of its columns.
    """
    if twice := sorted({n for n in names if list(names).count(n) > 1}):
        raise DataError(f"{path} names a column twice: {', '.join(map(repr, twice))}. Rename one of them.")


def check_rows(path: File, batch: pa.RecordBatch) -> None:
    """Raises `DataError` for a row that is larger than a row may be.

    path: of the file. batch: some of its rows.
    """
    most = options.most_row_bytes()
    if batch.nbytes > most and any(batch.slice(i, 1).nbytes > most for i in range(len(batch))):
        raise DataError(options.too_long(f"A row of {path}"))


def plain(table: pa.Table, path: File) -> pa.Table:
    """The columns as what they mean: dictionaries, views and decimals as texts and numbers, bytes as the texts or the
    files that they are; the index that pandas adds is left out.

    path: of the file, for the `DataError` where a table becomes larger than it may, or nests too deep.
    """
    names = [n for n in table.column_names if not _INDEX.fullmatch(n)]
    check_names(path, names)
    found = {name: _column(table.column(name), name, path) for name in names}
    changed = len(names) < table.num_columns or any(c.type != table.schema.field(n).type for n, c in found.items())
    if not changed:
        return table
    return pa.table(found).replace_schema_metadata(_metadata(table, found))


def _metadata(table: pa.Table, found: dict[str, pa.ChunkedArray]) -> dict[bytes, bytes] | None:
    """What other libraries wrote beside the columns, where no column has changed that they speak of."""
    kept = dict(table.schema.metadata or {})
    if any(n in found and found[n].type != table.schema.field(n).type for n in table.column_names):
        kept.pop(b"huggingface", None)
    return kept or None


def _column(column: pa.ChunkedArray, name: str, path: File) -> pa.ChunkedArray:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or column.type == pa.binary_view():
        return _bytes(column)
    if isinstance(column.type, pa.BaseExtensionType) and not type(column.type).__module__.startswith("datasets"):
        column = column.cast(column.type.storage_type)
    if pa.types.is_run_end_encoded(column.type):
        column = pa.chunked_array([pc.run_end_decode(c) for c in column.chunks], column.type.value_type)
    if _depth(column.type) > DEPTH:
        raise DataError(f"{path}: column {name!r} nests more than {DEPTH} levels deep. Write it flatter.")
    wanted = _type(column.type)
    if wanted == column.type:
        return column
    if pa.types.is_dictionary(column.type):
        _check_expansion(column, path)
    return column.cast(wanted)


def _type(type_: pa.DataType) -> pa.DataType:
    """The type that stands for another one, at any depth."""
    if pa.types.is_dictionary(type_):
        return _type(type_.value_type)
    if type_ == pa.string_view():
        return pa.large_string()
    if pa.types.is_float16(type_):
        return pa.float32()
    if pa.types.is_decimal(type_):
        # More digits than a number keeps: they tell ids apart.
        return pa.float64() if type_.scale > 0 else pa.int64() if type_.precision <= 18 else type_
    if pa.types.is_map(type_):
        parts = {"key": _type(type_.key_type), "value": _type(type_.item_type)}
        return pa.list_(pa.struct(parts))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_type(type_.value_type), type_.list_size)
    if pa.types.is_large_list(type_) or isinstance(type_, pa.LargeListViewType):
        return pa.large_list(_type(type_.value_type))
    if pa.types.is_list(type_) or isinstance(type_, pa.ListViewType):
        return pa.list_(_type(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(type_.field(i).name, _type(type_.field(i).type)) for i in range(type_.num_fields)])
    return type_


def _depth(type_: pa.DataType) -> int:
    if not pa.types.is_nested(type_):
        return 0
    return 1 + max((_depth(type_.field(i).type) for i in range(type_.num_fields)), default=0)


def _check_expansion(column: pa.ChunkedArray, path: File) -> None:
    """Raises `DataError` where a dictionary written out is larger than the file may become."""
    total = 0
    for chunk in column.chunks:
        values = chunk.dictionary
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            return
        lengths = pc.sum(pc.take(pc.binary_length(values), chunk.indices)).as_py()
        total += lengths or 0
    if total > options.most_bytes(store.size(path)):
        raise DataError(options.too_large(str(path), store.size(path)))


def _bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bytes as the pictures or recordings that they begin like, or as text where they are UTF-8."""
    present = column.drop_null()
    if not len(present):
        return pa.chunked_array([pa.nulls(len(column))])
    head = present[0].as_py()[:12]
    if head.startswith((*_PICTURES, *_SOUNDS)):
        cells: list[Any] = [None if v is None else {"bytes": v, "path": None} for v in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, _FILE)])
    try:
        return column.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        return column.cast(pa.large_binary())
