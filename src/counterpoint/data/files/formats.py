"""One file of rows to Arrow tables, chunk by chunk: jsonl, json, csv, tsv, xlsx, parquet, arrow, text, a modality's.

Every reader here yields tables of bounded size, so the same code serves files that fit in memory, files that are
turned into a memory-mapped Arrow file, and streams. Every failure names the file, the place in it, and the way out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from counterpoint.data.files import columns, excel, jsonfile, options, separated, store, textfile
from counterpoint.data.files.options import AS_FOUND, Reading
from counterpoint.data.files.store import File, Remote
from counterpoint.data.log import Log
from counterpoint.errors import DataError, NoRowsError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.text import TEXT

SUFFIXES = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".txt": "txt", ".tar": "tar", ".xlsx": "excel",
}  # fmt: skip
"""Of tables; files of many items of one modality are known by `counterpoint.modalities`."""
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz"}
_MAGIC = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\x80\x04": "pickle",
}


FIRST, MOST_ROWS, BATCH = 64, 50_000, 32 * 2**20
"""Rows of a parquet file that are looked at first, rows that are read at once, and bytes that they should take."""


LOOKED_AT = 2**32
"""Bytes of an Arrow file whose every value is looked at before it is used."""


def suffix(path: File) -> str:
    """The ending that decides, without ``.gz``: ``rows.jsonl.gz`` -> ``.jsonl``.

    path: of the file.
    """
    name = path.name.lower().removesuffix(".gz")
    return ".tar" if name.endswith(".tgz") else Path(name).suffix


def kind(path: File) -> str | None:
    """The format the file's name promises, or None.

    path: of the file.
    """
    found = modalities.format_of(ending := suffix(path))
    return SUFFIXES.get(ending) or (found.name if found else None)


def readable() -> str:
    """The formats that are read, in words."""
    more = ", ".join(f.name for m in modalities.discover().values() for f in m.formats)
    return f"jsonl, json, csv, tsv, txt, {more} (each also with .gz), parquet, arrow, xlsx, webdataset .tar"


def tables(path: File, reading: Reading = AS_FOUND, log: Log | None = None) -> Iterator[pa.Table]:
    """The rows of one file as tables of bounded size. `DataError` when it is empty, truncated or something else.

    reading: what is said about the file rather than found. log: receives what was found and decided. path: of the file.
    """
    found = kind(path)
    special = modalities.format_of(suffix(path))
    if found is None or (special is None and found not in _READERS):
        hint = " It may hold pickled objects, which are never loaded." if suffix(path) in PICKLES else ""
        raise DataError(f"{path} is not a format that is read here.{hint} Give one of: {readable()}.")
    check_magic(path, found)
    some = False
    try:
        log = Log() if log is None else log
        for table in _items(path, special, reading) if special else _READERS[found](path, reading, log):
            if len(table):
                some = True
                yield columns.plain(table, path)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: its text is not of the encoding that it should be ({textfile.encoding(path, reading).name}). "
            "If it is of another one, type --encoding NAME, for instance cp1252."
        ) from error
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: of a store
        detail = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read as {found}: it is truncated or damaged, or it is something else under a wrong name "
            f"({detail}). Copy or write the file again."
        ) from error
    if not some:
        raise NoRowsError(f"{path} holds no rows. Give a file with at least one row.")


def check_magic(path: File, promised: str) -> None:
    """`DataError` where there is no such file, where it is empty, and where its first bytes are of another format.

    path: of the file. promised: the format that its name promises.
    """
    if not path.exists():
        raise DataError(f"There is no file {path}. Check the path for a typing mistake.")
    if isinstance(path, Path) and not path.is_file():
        raise DataError(
            f"{path} is {'a folder' if path.is_dir() else 'a pipe, a socket or a device'}, not a file. Write the rows "
            "into a file first."
        )
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        raise NoRowsError(f"{path} is empty (0 bytes). Write it again, or leave it out.")
    if promised == "tar":
        return
    actual = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    binary = {"parquet": "parquet", "arrow": "arrow", "excel": "zip"}
    expected = "gzip" if textfile.zipped(path) else binary.get(promised)
    if actual is not None and actual != expected:
        raise DataError(f"{path} is named like {suffix(path)} but holds {actual}. Rename it to what it is.")
    if expected == "gzip" and actual is None:
        raise DataError(f"{path} is named .gz but is not compressed. Rename it without .gz.")


# --- the rest --------------------------------------------------------------------------------------------------


def _text(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    """One text per line; blank lines stay, so that row i is line i + 1."""
    log.note(f"Each line of {path} is a row.")
    _say_encoding(path, reading, log)
    with textfile.open_text(path, reading) as stream:
        for block in textfile.blocks(stream, path):
            lines = block.decode("utf-8").removesuffix("\n").split("\n")
            yield pa.table({TEXT: [line.removesuffix("\r") for line in lines]})


def _say_encoding(path: File, reading: Reading, log: Log) -> None:
    encoding = textfile.encoding(path, reading)
    if encoding.name != "utf-8" and reading.encoding is None:
        log.note(f"{path} is read in the encoding {encoding}.")


def _json(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    _say_encoding(path, reading, log)
    return jsonfile.tables_of(path, reading, log)


def _parquet(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    with open_parquet(path) as file:
        schema = file.schema_arrow
        columns.check_names(path, schema.names)
        for batch in parquet_batches(path, file, range(file.num_row_groups)):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)


def parquet_batches(
    path: File, file: pa.parquet.ParquetFile, groups: Iterable[int], *, names: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of some row groups, so many at a time that they take about `BATCH` bytes.

    A text is written once and may stand in every row, so that a small file becomes a large table: the first few rows of
    a group tell how large rows are. names: of the columns to read (None: all). Raises `DataError` beyond the limits.

    path: of the file, for messages. file: opened. groups: their numbers.
    """
    most, total, per_row = options.most_bytes(store.size(path)), 0, 0
    for group in groups:
        if not isinstance(path, Remote) or not per_row:  # elsewhere, looking twice takes as long as reading twice
            for batch in file.iter_batches(batch_size=FIRST, row_groups=[group], columns=names):
                per_row = batch.nbytes // max(1, len(batch))
                break
        rows = min(MOST_ROWS, max(1, BATCH // max(1, per_row)))
        for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=names):
            total += batch.nbytes
            if total > most:
                raise DataError(options.too_large(str(path), store.size(path)))
            columns.check_rows(path, batch)
            yield batch


def open_parquet(path: File) -> pa.parquet.ParquetFile:
    """Its footer is read; of the rest, what is asked for. To be closed by the caller.

    path: of the file.
    """
    if isinstance(path, Remote):
        return pa.parquet.ParquetFile(path.open(scattered=True), buffer_size=4 * 2**20)
    return pa.parquet.ParquetFile(path, memory_map=True)


def open_source(path: File) -> Any:
    """The bytes as Arrow reads them: mapped into memory where the file lies on a disk.

    path: of the file.
    """
    return pa.PythonFile(path.open(), mode="r") if isinstance(path, Remote) else pa.memory_map(str(path))


def _arrow(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    """Memory-mapped, nothing is copied: a file costs address space only, unless its columns are compressed."""
    source = open_source(path)
    most, total = options.most_bytes(store.size(path)), 0
    batches = []
    try:
        file: Any = pa.ipc.open_file(source)
        found = (file.get_batch(i) for i in range(file.num_record_batches))
    except pa.ArrowInvalid:
        source.seek(0)
        file = found = pa.ipc.open_stream(source)
    columns.check_names(path, file.schema.names)
    for batch in found:
        total += batch.nbytes
        if total > most:
            raise DataError(options.too_large(str(path), store.size(path)))
        # Places in a damaged file can lie outside of it, and nothing looks where it reads afterwards. Of a very large
        # file, which is mapped so as not to be read, the beginning is looked at.
        batch.validate(full=total <= LOOKED_AT)
        batches.append(batch)
    yield pa.Table.from_batches(batches, file.schema)


def _items(path: File, found: modalities.Format, reading: Reading) -> Iterator[pa.Table]:
    """The items that a modality reads from a file of its own format."""
    with textfile.open_text(path, reading) as stream:
        yield from found.read(stream, str(path))


_READERS: dict[str, Callable[[File, Reading, Log], Iterator[pa.Table]]] = {
    "json": _json, "csv": separated.tables_of, "excel": excel.tables_of, "parquet": _parquet, "arrow": _arrow,
    "txt": _text,
}  # fmt: skip
