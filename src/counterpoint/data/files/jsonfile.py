"""JSON to tables: an object per line, or one document that holds the rows."""

from __future__ import annotations

import decimal
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from counterpoint.data.files import textfile
from counterpoint.data.files.options import Reading
from counterpoint.data.files.store import File
from counterpoint.data.log import Log
from counterpoint.errors import DataError

DEPTH = 50
"""Levels of nesting that are read. Neither Arrow's parser nor Python's checks them before it runs out of stack."""
LONG = 2**53
"""Whole numbers from here on are no longer told apart when they become floating point."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_WRAPPERS = ("data", "rows", "examples", "items", "records", "instances", "samples", "results", "documents", "entries")
"""Names under which a document holds its rows."""
_SPLITS = ("train", "test", "dev", "val", "valid", "validation")
_LISTED = ("anchor", "positive", "negative")
"""What the texts of a line are that holds a list of two or three."""


def tables_of(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    """The rows of a file of JSON: an object a line, or one document. path: of the file. reading: what is said of it.
    log: of the rows."""
    with textfile.open_text(path, reading) as stream:
        line = 0
        for number, block in enumerate(textfile.blocks(stream, path)):
            if number == 0 and not is_lines(block, alone=len(block) < textfile.CHUNK, name=path.name):
                yield _document(path, block + stream.read(), log)
                return
            yield _lines(path, block, line, log)
            line += block.count(b"\n")


def is_lines(block: bytes, *, alone: bool = False, name: str = "") -> bool:
    """Whether every line is an object of its own (as opposed to one document over many lines, or on one).

    alone: the block is all of the file. name: of the file; one that ends in .json may hold a document on one line.
    """
    lines = (line.strip() for line in io.BytesIO(block) if line.strip())
    first, second = next(lines, b""), next(lines, None)
    if first.startswith(b"["):
        return second is not None and first.endswith(b"]") and second.startswith(b"[") and second.endswith(b"]")
    if alone and second is None and first.startswith(b"{") and ".json" in name.lower().removesuffix(".gz")[-5:]:
        return False
    return (first.startswith(b"{") and first.endswith(b"}")) or not first.startswith(b"{")


def loads(text: str | bytes) -> Any:
    """A value of JSON. Raises `json.JSONDecodeError`, and `DataError` where it nests deeper than `DEPTH`.

    text: of one value.
    """
    deep = depth(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    if deep > DEPTH:
        raise DataError(f"it nests {deep:,} levels deep; at most {DEPTH} are read. Write it flatter.")
    return json.loads(text)


def depth(text: bytes) -> int:
    """Levels of nesting of a value of JSON.

    text: of one value.
    """
    opening, closing = text.count(b"[") + text.count(b"{"), b"]}"
    if opening <= DEPTH:
        return opening and 1  # whatever it is, it is not too deep
    bare = np.frombuffer(re.sub(rb'"(?:[^"\\]|\\.)*+"', b"", text), np.uint8)
    steps = np.isin(bare, list(b"[{")).astype(np.int32) - np.isin(bare, list(closing))
    return int(np.cumsum(steps).max(initial=0))


def _check_depth(path: File, block: bytes, line: int) -> None:
    """Raises `DataError` for a line that nests too deep. Only those with many brackets are looked at."""
    signs = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(signs == 10)
    opening = np.searchsorted(ends, np.flatnonzero((signs | 32) == 123))  # [ and { differ in one bit
    for number in np.flatnonzero(np.bincount(opening) > DEPTH):
        begin = 0 if number == 0 else int(ends[number - 1]) + 1
        end = int(ends[number]) if number < len(ends) else len(block)
        if (deep := depth(block[begin:end])) > DEPTH:
            raise DataError(
                f"{path}, line {line + int(number) + 1:,}: it nests {deep:,} levels deep; at most {DEPTH} are read. "
                "Write it flatter, or leave it out."
            )


# --- lines -----------------------------------------------------------------------------------------------------


def _lines(path: File, block: bytes, line: int, log: Log) -> pa.Table:
    """One block of lines. Arrow's parser is fast, but reads dates into text columns, stops at NaN, and takes long whole
    numbers for floating point: then Python's."""
    _check_depth(path, block, line)
    try:
        table = pa.json.read_json(io.BytesIO(block), read_options=pa.json.ReadOptions(block_size=len(block) + 1))
        table.validate(full=True)  # texts are UTF-8, which its parser does not ask
        if not any(_temporal(f.type) for f in table.schema) and not any(map(_lossy, table.columns)):
            return table
    except pa.ArrowInvalid:
        pass
    rows = []
    for number, text in enumerate(block.decode("utf-8").split("\n"), line + 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}: not JSON ({error.msg}), it begins {text[:60]!r}. Expected one object per line."
            ) from error
        rows.append(as_row(row, f"{path}, line {number}"))
    return from_rows(path, rows, line, log)


def as_row(value: Any, place: str) -> dict[str, Any]:
    """The value of a line as a row: an object, or a list of two or three texts (anchor, positive, negative).

    place: where it stands, for the `DataError` that anything else raises.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) in (2, 3) and all(isinstance(v, str) for v in value):
        return dict(zip(_LISTED, value))
    raise DataError(f'{place}: expected an object like {{"text": "..."}}, found {type(value).__name__}.')


def from_rows(path: File, rows: Sequence[dict[str, Any]], line: int, log: Log | None = None) -> pa.Table:
    """Objects as a table; ``line`` of them came before, for the error where a column mixes types.

    path: of the file, for messages. rows: the objects. log: of the rows.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns, broken = {}, set()
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = _array(values)
        except UnicodeEncodeError:
            mended = [mend(v) for v in values]
            broken |= {i for i, (a, b) in enumerate(zip(values, mended)) if a != b}
            columns[name] = _array(mended)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            types = sorted({type(v).__name__ for v in values if v is not None})
            raise DataError(
                f"{path}, rows from line {line + 1:,}: column {name!r} mixes {' and '.join(types)}. "
                "Write one type in every row."
            ) from error
    if broken and log is not None:
        log.note(
            f"{len(broken):,} rows of {path} hold half of a character (a lone surrogate, as in \\ud83d): U+FFFD "
            f"stands in its place (first: row {line + min(broken)})."
        )
    names = [mend(n) for n in names]
    return pa.table(dict(zip(names, columns.values()))) if columns else pa.table({})


def mend(value: Any) -> Any:
    """A value whose texts hold no lone surrogates, which no encoding can write: U+FFFD stands in their place."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [mend(v) for v in value]
    return {mend(k): mend(v) for k, v in value.items()} if isinstance(value, dict) else value


def _array(values: list[Any]) -> pa.Array:
    """An array; whole numbers of more than 64 bits, at any depth, as decimals, which keep them apart."""
    whole = [v for v in values if type(v) is int]
    if whole and any(type(v) is float for v in values) and max(map(abs, whole)) >= LONG:
        raise pa.ArrowInvalid("whole numbers beside others, which floating point cannot tell apart")
    try:
        return pa.array(values)
    except OverflowError:
        return pa.array(_digits(values), pa.decimal128(38, 0) if whole and max(map(abs, whole)) < 10**38 else None)


def _digits(value: Any) -> Any:
    """A value with its whole numbers as decimals, or as texts where they are longer than those."""
    if isinstance(value, list):
        long = any(type(v) is int and abs(v) >= 10**76 for v in value)
        return [str(v) if long and type(v) is int else _digits(v) for v in value]
    if isinstance(value, dict):
        return {k: _digits(v) for k, v in value.items()}
    return decimal.Decimal(value) if type(value) is int else value


def _lossy(column: pa.ChunkedArray) -> bool:
    """Whether a column may hold whole numbers that became floating point, where they are no longer exact."""
    if pa.types.is_list(column.type):
        return _lossy(pa.compute.list_flatten(column))
    if pa.types.is_struct(column.type):
        return any(_lossy(part) for part in pa.chunked_array(column.chunks, column.type).flatten())
    if not pa.types.is_floating(column.type):
        return False
    bounds = pa.compute.min_max(column).as_py()
    return bounds["max"] is not None and max(abs(bounds["min"]), abs(bounds["max"])) >= LONG


def _temporal(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return any(_temporal(type_.field(i).type) for i in range(type_.num_fields))
    return bool(pa.types.is_temporal(type_))


# --- documents -------------------------------------------------------------------------------------------------


def _document(path: File, text: bytes, log: Log) -> pa.Table:
    try:
        value = loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}). Write one object per line.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    rows = _unwrapped(path, value, log) if isinstance(value, dict) else value
    if not rows or not isinstance(rows, list):
        raise DataError(f"{path} holds a JSON document that is not a list of objects. Write one object per line.")
    try:
        return from_rows(path, [as_row(row, str(path)) for row in rows], 0, log)
    except DataError as error:
        if all(isinstance(row, dict) for row in rows):
            raise
        raise DataError(
            f"{path} holds a JSON document that is not a list of objects ({error}). Write one object per line."
        ) from error


def _unwrapped(path: File, value: dict[str, Any], log: Log) -> list[Any]:
    """The rows that a document of one object holds: the one list of objects in it, the lists of its splits, its
    columns, or objects under names; else the object itself is the only row."""
    lists = {k: v for k, v in value.items() if _is_rows(v)}
    if len(lists) > 1 and all(k.lower() in _SPLITS for k in lists):
        log.note(f"{path} holds the splits {', '.join(lists)}: each row says its own in the column 'split'.")
        return [{**row, "split": name} for name, some in lists.items() for row in some]
    if len(lists) > 1:
        named = [k for k in lists if k.lower() in _WRAPPERS]
        if len(named) != 1:
            raise DataError(
                f"{path} holds several lists of objects ({', '.join(lists)}), any of which may be the rows. Write the "
                "rows into a file of their own."
            )
        lists = {named[0]: lists[named[0]]}
    if lists:
        ((name, rows),) = lists.items()
        others = [k for k in value if k != name]
        if name.lower() in _WRAPPERS or not any(isinstance(value[k], str) and len(value[k]) > 100 for k in others):
            more = f"; {', '.join(others)} beside them are not read" if others else ""
            log.note(f"The rows of {path} are the {len(rows):,} objects in {name!r}{more}.")
            return rows
    return _columns(path, value, log) or [value]


def _is_rows(value: Any) -> bool:
    """A list of objects that are not the turns of one conversation."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return not ({"role", "content"} <= set(value[0]) or {"from", "value"} <= set(value[0]))


def _columns(path: File, value: dict[str, Any], log: Log) -> list[Any]:
    """A document of columns (name -> list of values, or -> {row: value}, as pandas writes), or of rows under names."""
    parts = list(value.values())
    if len(parts) > 1 and all(isinstance(p, list) and len(p) > 1 and len(p) == len(parts[0]) for p in parts):
        if any(isinstance(v, list | dict) for p in parts for v in p):
            return []
        log.note(f"{path} holds columns: {', '.join(value)}.")
        return [dict(zip(value, cells)) for cells in zip(*parts)]
    if len(parts) > 1 and all(isinstance(p, dict) and p for p in parts):
        if all(list(p) == list(parts[0]) for p in parts) and all(k.isdigit() for k in parts[0]):
            log.note(f"{path} holds columns: {', '.join(value)}.")
            return [{name: value[name][row] for name in value} for row in parts[0]]
        if len({frozenset(p) for p in parts}) == 1:
            log.note(f"{path} holds {len(parts):,} objects under names: each is a row, its name in the column 'key'.")
            return [{"key": name, **row} for name, row in value.items()]
    return []
