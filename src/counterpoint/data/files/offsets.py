"""Where in a file reading can begin, and the rows from there: what lets a stream go on without reading what is past.

A *place* is a row group of a parquet file, a record batch of an arrow file, a byte at which a line or a member of a tar
file begins. Compressed text, csv and JSON documents have one place, their beginning: what precedes a row in them is
passed over, not parsed. Rows that cannot be read are None: they count, so that positions do not depend on them.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any, TypeAlias

import pyarrow as pa

from counterpoint.data.files import columns as kinds
from counterpoint.data.files import formats, jsonfile, shards, store, textfile
from counterpoint.data.files.options import AS_FOUND, Reading
from counterpoint.data.files.store import File
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities.text import TEXT

PIECE = 8 * 2**20
"""Bytes between two places, about. Pieces are what an epoch shuffles, and each is opened anew."""
BLOCK = 2**20
"""Bytes of text read at once."""
SLICE = 1_000
"""Rows turned into Python values at once."""

Values: TypeAlias = dict[str, Any] | None
"""Column -> value; None for a row that cannot be read."""
Columns: TypeAlias = Sequence[str] | None
"""The columns that are read; None: all."""


def places(file: File, reading: Reading = AS_FOUND) -> list[tuple[int, int]]:
    """(place, rows from it to the next place) of a file; nothing for one without rows. reading: what is said of it."""
    with _named(file):
        if empty(file):
            return []
        match _layout(file, reading):
            case "parquet":
                with formats.open_parquet(file) as found:
                    groups = [found.metadata.row_group(i) for i in range(found.num_row_groups)]
                    return _merged((i, g.num_rows, g.total_byte_size) for i, g in enumerate(groups))
            case "arrow":
                return _merged((i, b.num_rows, b.nbytes) for i, b in enumerate(_batches(file)))
            case "tar":
                return shards.shard_places(file, PIECE)
            case "txt" | "json":
                return _places_of_lines(file, reading)
        try:
            return [(0, sum(map(len, formats.tables(file, reading))))]
        except formats.NoRowsError:
            return []


def rows_from(
    file: File, at: int, skip: int, *, columns: Columns, first: int, log: Log, reading: Reading = AS_FOUND
) -> Iterator[Values]:
    """The rows from a place on, after ``skip`` of them, to the end of the file, with these columns.

    first: the number of the first row, for what is said of rows that cannot be read. reading: what is said of the file.
    Raises `DataError` where the file has no such column, is damaged, or is gone. file: of rows. at: the place, in
    bytes. columns: their names (None: all). log: of the rows.
    """
    with _named(file):
        match _layout(file, reading):
            case "parquet":
                with formats.open_parquet(file) as found:
                    _check(file, found.schema_arrow.names, columns)
                    groups = range(at, found.num_row_groups)
                    parts = formats.parquet_batches(file, found, groups, names=columns and list(columns))
                    yield from _values(file, parts, skip, columns)
            case "arrow":
                parts = itertools.islice(_batches(file), at, None)
                yield from _values(file, parts, skip, columns)
            case "tar":
                for row in shards.shard_rows(file, log, at=at, skip=skip):
                    yield None if row is None else _only(row, columns)
            case "txt" | "json" as layout:
                lines = itertools.islice(_lines(file, at, reading), skip, None)
                yield from _parsed(file, lines, layout, columns, first, log)
            case _:
                parts = (b for t in formats.tables(file, reading) for b in t.to_batches())
                yield from _values(file, parts, skip, columns)


def _layout(file: File, reading: Reading) -> str:
    """How places are found: by the format, where JSON means one object per line, and else ``whole``."""
    kind = formats.kind(file)
    if kind == "json":
        return "json" if _has_lines(file, store.state(file), reading) else "whole"
    return kind if kind in ("parquet", "arrow", "tar", "txt") else "whole"


@lru_cache(maxsize=100_000)
def _has_lines(file: File, state: tuple[str, int, str], reading: Reading) -> bool:
    """Looked at once for each state of the file: shards are opened again and again."""
    with textfile.open_text(file, reading) as stream:
        head = stream.read(BLOCK)
        return jsonfile.is_lines(head + stream.readline(), alone=len(head) < BLOCK, name=file.name)


def empty(file: File) -> bool:
    """Whether a file has no bytes."""
    with file.open("rb") as stream:
        return not stream.read(1)


def is_lines(file: File, reading: Reading = AS_FOUND) -> bool:
    """Whether a file holds one JSON object per line.

    file: of JSON. reading: what is said of it.
    """
    return _layout(file, reading) == "json"


def _only(row: dict[str, Any], columns: Columns) -> dict[str, Any]:
    return row if columns is None else {c: row.get(c) for c in columns}


@contextmanager
def _named(file: File) -> Iterator[None]:
    """Failures as sentences that name the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"{file} is not there any more. The rows of a run must stay as they are: put it back and add --resume, or "
            "begin a new run without it."
        ) from error
    except DataError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        detail = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{file} cannot be read: it is truncated or damaged, or its store does not answer as it should ({detail}). "
            "Copy or write it again, or add --resume when the store is back."
        ) from error


# --- tables ----------------------------------------------------------------------------------------------------


def _batches(file: File) -> Iterator[pa.RecordBatch]:
    source = formats.open_source(file)
    try:
        found = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        yield from pa.ipc.open_stream(source)
        return
    for i in range(found.num_record_batches):
        yield found.get_batch(i)


def _merged(parts: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """(place, rows, bytes) put together until they have about `PIECE` bytes."""
    out: list[list[int]] = []
    for at, rows, size in parts:
        if not rows:
            continue
        if not out or out[-1][2] >= PIECE:
            out.append([at, 0, 0])
        out[-1][1] += rows
        out[-1][2] += size
    return [(at, rows) for at, rows, _ in out]


def _values(file: File, parts: Iterable[pa.RecordBatch], skip: int, columns: Columns) -> Iterator[Values]:
    for part in parts:
        _check(file, part.schema.names, columns)
        chosen = kinds.plain(pa.Table.from_batches([part]), file)
        chosen = chosen if columns is None else chosen.select(list(columns))
        for start in range(skip, part.num_rows, SLICE):
            yield from chosen.slice(start, SLICE).to_pylist()
        skip = max(0, skip - part.num_rows)


def _check(file: File, there: Sequence[str], columns: Columns) -> None:
    if missing := [c for c in columns or () if c not in there]:
        raise DataError(
            f"The files do not have the same columns: {file} has {', '.join(there)}, not {missing[0]!r}. "
            "Read them apart, or give them the same columns."
        )


# --- lines -----------------------------------------------------------------------------------------------------


def _blocks(stream: IO[bytes], at: int) -> Iterator[tuple[int, list[bytes]]]:
    """Whole lines, about `BLOCK` bytes of them at a time, with the byte at which they begin."""
    rest = b""
    while block := stream.read(BLOCK):
        block = rest + block
        end = block.rfind(b"\n") + 1
        if end:
            yield at, block[: end - 1].split(b"\n")
            at += end
        rest = block[end:]
    if rest:
        yield at, [rest]


def _counted(file: File, lines: list[bytes]) -> list[bytes]:
    """The lines that are rows: blank ones are no rows of JSON, but empty texts."""
    return lines if formats.kind(file) == "txt" else [line for line in lines if line.strip()]


def _places_of_lines(file: File, reading: Reading) -> list[tuple[int, int]]:
    one = not textfile.seekable(file, reading)
    out: list[list[int]] = []
    with textfile.open_text(file, reading) as stream:
        for at, lines in _blocks(stream, 0 if one else stream.tell()):
            rows = len(_counted(file, lines))
            if not rows:
                continue
            if not out or (at - out[-1][0] >= PIECE and not one):
                out.append([0 if one else at, 0])
            out[-1][1] += rows
    return [(at, rows) for at, rows in out]


def _lines(file: File, at: int, reading: Reading) -> Iterator[bytes]:
    with textfile.open_text(file, reading) as stream:
        if at:
            stream.seek(at)
        for _, lines in _blocks(stream, at):
            yield from _counted(file, lines)


def _parsed(
    file: File, lines: Iterable[bytes], layout: str, columns: Columns, first: int, log: Log
) -> Iterator[Values]:
    for number, line in enumerate(lines, first):
        try:
            if layout == "txt":
                yield {TEXT: line.removesuffix(b"\r").decode()}
                continue
            row = jsonfile.loads(line)
            if b"\\ud" in line.lower() and row != (row := jsonfile.mend(row)):
                log.skip(f"row {number} in {file.name}", "half of a character in it is replaced by U+FFFD")
            yield _only(jsonfile.as_row(row, ""), columns)
            continue
        except UnicodeDecodeError:
            why = "not UTF-8 text"
        except json.JSONDecodeError:
            why = "not JSON"
        except DataError as error:
            why = str(error).removeprefix(": ")
        log.skip(f"row {number} in {file.name}", why)
        yield None
