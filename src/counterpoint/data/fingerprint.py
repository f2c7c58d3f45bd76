"""A number that says what rows hold, so that a run is never continued on other rows than it was begun with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

MOST = 2**30
"""Bytes of a column that are read; of a longer one, blocks spread evenly over it, the first and the last among them."""
BLOCKS = 64


def of_table(table: pa.Table, columns: Iterable[str]) -> int:
    """32 bits of these columns: the same however the table is cut into batches, another where a cell differs.

    Only of columns of more than `MOST` bytes a sample is read.
    """
    found = 0
    for name in columns:
        column = table.column(name)
        found = zlib.crc32(f"{name} {column.type} {len(column)}".encode(), found)
        for chunk in _sampled(column).chunks:
            found = _values(chunk, found)
    return found


def of_arrays(*arrays: Any) -> int:
    """32 bits of arrays of numbers, dense or sparse (CSR), or None."""
    found = 0
    for array in arrays:
        for part in (array.data, array.indices, array.indptr) if hasattr(array, "indptr") else (array,):
            if part is not None:
                part = np.ascontiguousarray(part)
                found = zlib.crc32(part.data, zlib.crc32(f"{part.dtype} {part.shape}".encode(), found))
    return found


def _sampled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in one piece; of a long one, blocks of it."""
    size = column.nbytes
    if size <= MOST:
        return pa.chunked_array([column.combine_chunks()] if column.num_chunks != 1 else column.chunks, column.type)
    rows = max(1, int(len(column) * MOST / size) // BLOCKS)
    starts = np.linspace(0, len(column) - rows, BLOCKS).astype(np.int64)
    return pa.chunked_array([column.slice(s, rows).combine_chunks() for s in starts.tolist()], column.type)


def _values(array: Any, found: int) -> int:
    """The values of one array, lengths and nulls included, whatever its place in its buffers."""
    type_ = array.type
    if isinstance(array, pa.ChunkedArray):
        for chunk in array.chunks:
            found = _values(chunk, found)
        return found
    if pa.types.is_dictionary(type_):
        return _values(array.dictionary_decode(), found)
    if isinstance(array, pa.ExtensionArray):
        return _values(array.storage, found)
    found = zlib.crc32(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).data, found)
    if pa.types.is_null(type_):
        return found
    if pa.types.is_struct(type_):
        for i in range(type_.num_fields):
            found = _values(array.field(i), found)
        return found
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        found = zlib.crc32(array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype("<i8").data, found)
        return _values(array.flatten(), found)
    if pa.types.is_string(type_) or pa.types.is_binary(type_) or pa.types.is_large_string(type_):
        array = array.cast(pa.large_binary())
    if pa.types.is_large_binary(array.type):
        _, offsets, data = array.buffers()
        bounds = np.frombuffer(offsets, dtype="<i8")[array.offset : array.offset + len(array) + 1]
        found = zlib.crc32(np.diff(bounds).data, found)
        return zlib.crc32(memoryview(data)[bounds[0] : bounds[-1]], found) if data is not None else found
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return zlib.crc32(np.ascontiguousarray(array.fill_null(0).to_numpy(zero_copy_only=False)).data, found)
    return zlib.crc32("\0".join(map(repr, array.to_pylist())).encode(), found)
