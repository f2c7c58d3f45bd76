"""One file of rows to Arrow tables, chunk by chunk: jsonl, json, csv, tsv, parquet, arrow, text, those of a modality.

Every reader here yields tables of bounded size, so the same code serves files that fit in memory, files that are
turned into a memory-mapped Arrow file, and streams. Every failure names the file, the place in it, and the way out.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from counterpoint.data.files.store import File, Remote
from counterpoint.errors import DataError, NoRowsError
from counterpoint.modalities import base as modalities

CHUNK = 32 * 2**20
"""Bytes of text parsed at once."""

SUFFIXES = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".txt": "text", ".tar": "tar",
}  # fmt: skip
"""Of tables; files of many items of one modality are known by `counterpoint.modalities`."""
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz"}
_NOT_UTF8 = "not UTF-8 text. Type, for instance: iconv -f latin1 -t utf-8 OLD > NEW"
_MAGIC = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\x80\x04": "pickle",
}


def suffix(path: File) -> str:
    """The ending that decides, without ``.gz``: ``rows.jsonl.gz`` -> ``.jsonl``."""
    name = path.name.lower().removesuffix(".gz")
    return ".tar" if name.endswith(".tgz") else Path(name).suffix


def kind(path: File) -> str | None:
    """The format the file's name promises, or None."""
    found = modalities.format_of(ending := suffix(path))
    return SUFFIXES.get(ending) or (found.name if found else None)


def readable() -> str:
    """The formats that are read, in words."""
    more = ", ".join(f.name for m in modalities.discover().values() for f in m.formats)
    return f"jsonl, json, csv, tsv, txt, {more} (each also with .gz), parquet, arrow, webdataset .tar"


def tables(path: File) -> Iterator[pa.Table]:
    """The rows of one file as tables of bounded size. `DataError` when it is empty, truncated or something else."""
    found = kind(path)
    special = modalities.format_of(suffix(path))
    if found is None or (special is None and found not in _READERS):
        hint = " It may hold pickled objects, which are never loaded." if suffix(path) in PICKLES else ""
        raise DataError(f"{path} is not a format that is read here.{hint} Give one of: {readable()}.")
    check_magic(path, found)
    some = False
    try:
        for table in _READERS[found](path) if special is None else _items(path, special):
            if len(table):
                some = True
                yield _plain(table)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {_NOT_UTF8}") from error
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: of a store
        detail = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read as {found}: it is truncated or damaged, or it is something else under a wrong name "
            f"({detail}). Copy or write the file again."
        ) from error
    if not some:
        raise NoRowsError(f"{path} holds no rows. Give a file with at least one row.")


def check_magic(path: File, promised: str) -> None:
    """`DataError` where there is no such file, where it is empty, and where its first bytes are of another format."""
    if not path.exists():
        raise DataError(f"There is no file {path}. Check the path for a typing mistake.")
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        raise NoRowsError(f"{path} is empty (0 bytes). Write it again, or leave it out.")
    if promised == "tar":
        return
    actual = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    expected = "gzip" if path.name.lower().endswith(".gz") else promised if promised in ("parquet", "arrow") else None
    if actual is not None and actual != expected:
        raise DataError(f"{path} is named like {suffix(path)} but holds {actual}. Rename it to what it is.")
    if expected == "gzip" and actual is None:
        raise DataError(f"{path} is named .gz but is not compressed. Rename it without .gz.")


def open_text(path: File) -> IO[bytes]:
    """The bytes of a text file, decompressed where it is named .gz, without a byte-order mark."""
    raw: Any = path.open("rb")
    stream = raw
    if path.name.lower().endswith(".gz"):
        stream = gzip.GzipFile(fileobj=raw)
        stream.myfileobj = raw  # closed together
    if stream.read(3) != b"\xef\xbb\xbf":
        stream.seek(0)
    return stream  # type: ignore[no-any-return]


def open_as(path: File, promised: str) -> IO[bytes]:
    """As `open_text`, after `check_magic`."""
    check_magic(path, promised)
    return open_text(path)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, about `CHUNK` bytes at a time."""
    while block := stream.read(CHUNK):
        yield block + stream.readline()


# --- json ------------------------------------------------------------------------------------------------------


def _json(path: File) -> Iterator[pa.Table]:
    with open_text(path) as stream:
        line = 0
        for number, block in enumerate(_chunks(stream)):
            if number == 0 and not is_lines(block):
                yield _json_document(path, block + stream.read())
                return
            yield _json_block(path, block, line)
            line += block.count(b"\n")


def is_lines(block: bytes) -> bool:
    """Whether every line is an object of its own (as opposed to one document over many lines)."""
    first = next((line for line in block.splitlines() if line.strip()), b"").strip()
    return (first.startswith(b"{") and first.endswith(b"}")) or not first.startswith((b"[", b"{"))


def _json_document(path: File, text: bytes) -> pa.Table:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}). Write one object per line.") from error
    if isinstance(value, dict):  # {"data": [...]}: a wrapper around one list of rows
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    if not value or not all(isinstance(row, dict) for row in value):
        raise DataError(f"{path} holds a JSON document that is not a list of objects. Write one object per line.")
    return from_rows(path, value, 0)


def _json_block(path: File, block: bytes, line: int) -> pa.Table:
    """One block of lines. Arrow's parser is fast but reads dates into text columns and stops at NaN: then Python's."""
    try:
        table = pa.json.read_json(io.BytesIO(block), read_options=pa.json.ReadOptions(block_size=len(block) + 1))
        if not any(_temporal(f.type) for f in table.schema):
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
        if not isinstance(row, dict):
            raise DataError(
                f'{path}, line {number}: expected an object like {{"text": "..."}}, found {type(row).__name__}.'
            )
        rows.append(row)
    return from_rows(path, rows, line)


def from_rows(path: File, rows: list[dict[str, Any]], line: int) -> pa.Table:
    """Objects as a table; ``line`` of them came before, for the error where a column mixes types."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            types = sorted({type(v).__name__ for v in values if v is not None})
            raise DataError(
                f"{path}, rows from line {line + 1:,}: column {name!r} mixes {' and '.join(types)}. "
                "Write one type in every row."
            ) from error
    return pa.table(columns) if columns else pa.table({})


def _temporal(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return any(_temporal(type_.field(i).type) for i in range(type_.num_fields))
    return bool(pa.types.is_temporal(type_))


# --- csv -------------------------------------------------------------------------------------------------------


def _csv(path: File) -> Iterator[pa.Table]:
    """Comma- or tab-separated, with a header line. A column that is not all numbers is text, dates included."""
    as_text: set[str] = set()
    while True:
        try:
            first, rest = _open_csv(path, as_text)
        except pa.ArrowInvalid as error:
            if not (wrong := _not_a_number(error, path)) or wrong <= as_text:
                raise DataError(f"{path}: {_csv_sentence(error)}") from error
            as_text |= wrong
            continue
        dates = {f.name for f in first.schema if _temporal(f.type)}
        if not dates:
            break
        as_text |= dates
    yield first
    try:
        for batch in rest:
            yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: {_csv_sentence(error)}") from error


def _open_csv(path: File, as_text: set[str]) -> tuple[pa.Table, Iterator[pa.RecordBatch]]:
    reader = pa.csv.open_csv(
        open_text(path),
        # One thread is as quick here, and knows the number of a row that is wrong.
        read_options=pa.csv.ReadOptions(block_size=CHUNK, use_threads=False),
        parse_options=pa.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types={n: pa.string() for n in as_text}),
    )
    names = reader.schema.names
    if len(set(names)) < len(names):
        raise DataError(f"{path}: the header names a column twice: {', '.join(names)}. Rename one of them.")
    batches = iter(reader)
    first = next(batches, None)
    if any(pa.types.is_binary(f.type) for f in reader.schema):
        raise DataError(f"{path}: {_NOT_UTF8}")
    return (pa.table({}) if first is None else pa.Table.from_batches([first])), batches


def _delimiter(path: File) -> str:
    return "\t" if suffix(path) == ".tsv" else ","


def _not_a_number(error: Exception, path: File) -> set[str]:
    """The column whose first rows looked like numbers and later ones do not."""
    found = re.search(r"CSV column #(\d+): CSV conversion error", str(error))
    if not found:
        return set()
    with open_text(path) as stream:
        header = pa.csv.read_csv(
            io.BytesIO(stream.readline()), parse_options=pa.csv.ParseOptions(delimiter=_delimiter(path))
        ).column_names
    return {header[int(found[1])]}


def _csv_sentence(error: Exception) -> str:
    found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
    if found:
        return (
            f"row {found[1]} has {found[3]} fields where the header has {found[2]}. "
            'Put fields that hold the separator in "quotes".'
        )
    if "UTF8" in str(error):
        return _NOT_UTF8
    return f"not readable as separated values ({str(error).splitlines()[0][:160]})."


# --- the rest --------------------------------------------------------------------------------------------------


def _text(path: File) -> Iterator[pa.Table]:
    """One text per line; blank lines stay, so that row i is line i + 1."""
    with open_text(path) as stream:
        for block in _chunks(stream):
            lines = block.decode("utf-8").removesuffix("\n").split("\n")
            yield pa.table({"text": [line.removesuffix("\r") for line in lines]})


def _parquet(path: File) -> Iterator[pa.Table]:
    with open_parquet(path) as file:
        schema = file.schema_arrow
        for batch in file.iter_batches(batch_size=50_000):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)


def open_parquet(path: File) -> pa.parquet.ParquetFile:
    """Its footer is read; of the rest, what is asked for. To be closed by the caller."""
    if isinstance(path, Remote):
        return pa.parquet.ParquetFile(path.open(scattered=True), buffer_size=4 * 2**20)
    return pa.parquet.ParquetFile(path, memory_map=True)


def open_source(path: File) -> Any:
    """The bytes as Arrow reads them: mapped into memory where the file lies on a disk."""
    return pa.PythonFile(path.open(), mode="r") if isinstance(path, Remote) else pa.memory_map(str(path))


def _arrow(path: File) -> Iterator[pa.Table]:
    """Memory-mapped, nothing is copied: a file of any size costs address space only."""
    source = open_source(path)
    try:
        file = pa.ipc.open_file(source)
        yield pa.Table.from_batches([file.get_batch(i) for i in range(file.num_record_batches)], file.schema)
    except pa.ArrowInvalid:
        source.seek(0)
        yield pa.ipc.open_stream(source).read_all()


def _plain(table: pa.Table) -> pa.Table:
    """Dictionary-encoded and view columns as what they mean; the index column that pandas adds is left out."""
    for i, field in enumerate(table.schema):
        type_ = field.type
        if pa.types.is_dictionary(type_):
            table = table.set_column(i, field.name, table.column(i).cast(type_.value_type))
        elif type_ == pa.string_view():
            table = table.set_column(i, field.name, table.column(i).cast(pa.large_string()))
    index = [n for n in table.column_names if re.fullmatch(r"__index_level_\d+__", n)]
    return table.drop_columns(index) if index else table


def _items(path: File, found: modalities.Format) -> Iterator[pa.Table]:
    """The items that a modality reads from a file of its own format."""
    with open_text(path) as stream:
        yield from found.read(stream, str(path))


_READERS: dict[str, Callable[[File], Iterator[pa.Table]]] = {
    "json": _json, "csv": _csv, "parquet": _parquet, "arrow": _arrow, "text": _text,
}  # fmt: skip
