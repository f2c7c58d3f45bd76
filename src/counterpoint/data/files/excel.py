"""Sheets of .xlsx files to tables."""

from __future__ import annotations

import datetime
import itertools
import zipfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from counterpoint.data.files import dialect, options, store
from counterpoint.data.files.options import Reading
from counterpoint.data.files.store import File
from counterpoint.data.log import Log
from counterpoint.errors import DataError, MissingExtra

ROWS = 20_000
"""Rows of a table."""


def tables_of(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    """The first sheet that holds anything; its first row names the columns. A column holds numbers where all of its
    cells do, else texts; a date is a text like 2024-01-31.

    path: of the file. reading: what is said of it. log: of the rows.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra(
            f"{path}: reading .xlsx needs a package that is not installed. Type: pip install 'counterpoint[excel]', or "
            "save the sheet as .csv"
        ) from error
    with path.open("rb") as stream:
        _check(path, stream)
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            sheets = [s for s in book.worksheets if _filled(s)]
            if not sheets:
                return
            if len(book.sheetnames) > 1:
                log.note(f"Of the sheets {', '.join(book.sheetnames)} of {path}, {sheets[0].title} is read.")
            found = _rows(sheets[0])
        except DataError:
            raise
        except Exception as error:  # of a damaged file, in many ways
            raise DataError(f"{path} cannot be read as a workbook ({error}). Save it again, or as .csv.") from error
        first = next(found, None)
        if first is None:
            return
        yield from _tables(path, [*first], found, reading, log)


def _check(path: File, stream: Any) -> None:
    try:
        with zipfile.ZipFile(stream) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} cannot be read as a workbook ({error}). Save it again, or as .csv.") from error
    if size > options.most_bytes(store.size(path)):
        raise DataError(options.too_large(str(path), store.size(path)))
    stream.seek(0)


def _filled(sheet: Any) -> bool:
    return next(_rows(sheet), None) is not None


def _rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    """Rows that hold anything."""
    for row in sheet.iter_rows(values_only=True):
        if any(cell is not None and str(cell).strip() for cell in row):
            yield row


def _tables(
    path: File, first: list[Any], rest: Iterator[tuple[Any, ...]], reading: Reading, log: Log
) -> Iterator[pa.Table]:
    while first and first[-1] is None:
        first.pop()
    numbers = [cell for cell in first if isinstance(cell, int | float)]
    header = reading.header if reading.header is not None else len(numbers) < len(first)
    names, unnamed = dialect.name_columns(path, ["" if c is None else str(c) for c in first], header)
    if unnamed:
        log.note(f"Columns of {path} without a name are called {', '.join(unnamed)}.")
    rows = itertools.chain([] if header else [tuple(first)], rest)
    cells = [tuple(row[: len(names)]) + (None,) * (len(names) - len(row)) for row in rows]
    texts = [any(not isinstance(row[i], int | float | None) for row in cells) for i in range(len(names))]
    for start in range(0, len(cells), ROWS):
        some = cells[start : start + ROWS]
        yield pa.table({
            name: pa.array([_cell(row[i]) if texts[i] else row[i] for row in some], pa.string() if texts[i] else None)
            for i, name in enumerate(names)
        })  # fmt: skip


def _cell(value: Any) -> str | None:
    """A cell as text; of a date without a time, the date."""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return None if value is None else str(value)
