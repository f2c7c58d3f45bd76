"""Separated values to tables: how the fields of a file are told apart is found over many lines, and said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from counterpoint.data.files import dialect, options, store, textfile
from counterpoint.data.files.dialect import Dialect
from counterpoint.data.files.options import SEPARATORS, Reading
from counterpoint.data.files.store import File
from counterpoint.data.files.typed import Typing
from counterpoint.data.log import Log
from counterpoint.errors import DataError


def tables_of(path: File, reading: Reading, log: Log) -> Iterator[pa.Table]:
    """Every column is read as text and becomes numbers where all of it, in the whole file, are numbers as written.

    path: of the file. reading: what is said of it. log: of the rows.
    """
    found = dialect.look(path, store.state(path), reading)
    _say(path, found, reading, log)
    if not found.rows:
        return
    typing = Typing(found.names, decimal=found.decimal, trim=found.spaced)
    first: pa.Table | None = None
    for number, table in enumerate(_texts(path, found, reading)):
        typing.look(table)
        first = table if number == 0 else None
    if first is not None:  # one block: it need not be read again
        yield typing.table(first, last=True)
        return
    for table in _texts(path, found, reading):
        yield typing.table(table)


def _texts(path: File, found: Dialect, reading: Reading) -> Iterator[pa.Table]:
    """The columns as text, block by block."""
    if found.quotes == "spaced":
        yield from _slowly(path, found, reading)
        return
    names = [str(i) for i in range(len(found.names))]  # ours may hold the separator, or be the same
    lines = _Counted(textfile.open_text(path, reading))
    rows = 0
    try:
        for batch in pa.csv.open_csv(
            lines,
            # One thread is as quick here, and knows the number of a row that is wrong.
            read_options=pa.csv.ReadOptions(
                block_size=textfile.CHUNK,
                use_threads=False,
                column_names=names,
                skip_rows=found.before,
                skip_rows_after_names=int(found.header),
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=found.separator,
                quote_char=False if found.quotes == "none" else '"',
                escape_char="\\" if found.quotes == "escaped" else False,
                newlines_in_values=found.quotes != "none",
            ),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        ):
            rows += batch.num_rows
            yield pa.Table.from_batches([batch]).rename_columns(list(found.names))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: {_sentence(error, found)}") from error
    if not found.whole and lines.count > 2 * rows + 100:  # the quotes of all of a smaller file were looked at
        raise DataError(
            f"{path}: its {lines.count:,} lines became {rows:,} rows, as a quote opens where none closes. Put a quote "
            'within "quotes" twice, or write the file as parquet.'
        )


def _slowly(path: File, found: Dialect, reading: Reading) -> Iterator[pa.Table]:
    """Where spaces stand between separators and quotes."""
    import csv
    import io
    import itertools

    csv.field_size_limit(options.most_row_bytes())
    stream = io.TextIOWrapper(textfile.open_text(path, reading), "utf-8", newline="")
    lines = (row for row in csv.reader(stream, delimiter=found.separator, skipinitialspace=True) if row)
    if found.header:
        next(lines)
    while rows := list(itertools.islice(lines, 100_000)):
        for number, row in enumerate(rows, 2):
            if len(row) != len(found.names):
                raise DataError(f"{path}: {_ragged(number, len(row), len(found.names), found.header)}")
        yield pa.table([pa.array(cells) for cells in zip(*rows)], names=list(found.names))


class _Counted:
    """A stream whose lines are counted as it is read."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.count, self.closed = stream, 0, False

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._stream.read(size)
        self.count += found.count(b"\n")
        return found

    def close(self) -> None:
        self.closed = True
        self._stream.close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


# --- words -----------------------------------------------------------------------------------------------------


def _say(path: File, found: Dialect, reading: Reading, log: Log) -> None:
    encoding = textfile.encoding(path, reading)
    said = []
    if found.separator != dialect.usual(path) and reading.separator is None:
        sign = "" if found.separator == "\t" else f" ({found.separator})"
        said.append(f"separated by {SEPARATORS[found.separator]}s{sign}")
    if found.decimal == ",":
        said.append("with decimal commas")
    if found.quotes == "none" and found.stray:
        said.append(f"without quoting (a quote in line {found.stray:,} closes none)")
    if found.quotes == "escaped":
        said.append("with a backslash before quotes")
    if encoding.name != "utf-8" and reading.encoding is None:
        said.append(f"in the encoding {encoding}")
    if said:
        log.note(f"{path} is read as values {', '.join(said)}.")
    if not found.header and reading.header is None:
        log.note(
            f"The first line of {path} holds numbers where its columns do, so it is taken for a row: the columns are "
            f"called {', '.join(found.names[:3])}{' …' if len(found.names) > 3 else ''}. If they are names, write "
            "some that are no numbers; to say that there are none, type --no-header."
        )
    if found.header and reading.header is None and found.long:
        log.note(
            f"The first line of {path} is taken for the names of its columns, though it is as long as a row. If it is "
            "one, type --no-header."
        )
    if found.inside:
        log.note(
            f"{path} has more lines than rows, as {found.inside:,} line breaks lie within quotes, the first in line "
            f"{found.first_inside:,}."
        )
    if found.unnamed:
        log.note(f"Columns of {path} without a name are called {', '.join(found.unnamed)}.")


def _sentence(error: Exception, found: Dialect) -> str:
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
    if ragged:
        return _ragged(int(ragged[1]), int(ragged[3]), int(ragged[2]), found.header)
    if "UTF8" in str(error):
        return (
            "its text is not of the encoding that it begins with. If it is of another one, type --encoding NAME, for "
            "instance cp1252."
        )
    if "straddling" in str(error):
        return f"a row is longer than {textfile.CHUNK:,} bytes; perhaps a quote opens where none closes."
    return f"not readable as separated values ({str(error).splitlines()[0][:160]})."


def _ragged(row: int, fields: int, expected: int, header: bool) -> str:
    one = " If each line is one text, end the name of the file with .txt." if expected == 1 else ""
    return (
        f"row {row} has {fields} fields where the {'header' if header else 'first row'} has {expected}. "
        f'Put fields that hold the separator in "quotes".{one}'
    )
