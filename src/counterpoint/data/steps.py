"""A table whose rows are steps of time becomes a series: which columns are its channels, which one tells the time."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from counterpoint.data import tabular
from counterpoint.data.log import Log
from counterpoint.data.schema import Schema
from counterpoint.data.windows import Series
from counterpoint.errors import DataError
from counterpoint.modalities.series import SERIES

if TYPE_CHECKING:
    import datasets

ALIKE = 0.5
"""Mean correlation of neighbouring rows from which a table of numbers without a time counts as a series."""
STRETCH, NEAR = 16, 0.2
"""Rows of a short stretch, and the mean correlation of neighbours within such: rows that are sorted by a class resemble
those before them too, but within a class they do not."""
FEWEST = 30
"""Rows of a table that is looked at for this."""
COUNTERS = re.compile(r"|unnamed: ?\d+|(.*_)?(id|idx|index|uuid|row|step)\d*")
"""Names of columns that number the rows, where they do."""


def series_schema(dataset: datasets.Dataset, types: Mapping[str, str], labels: Sequence[str]) -> Schema | None:
    """The schema of a table that is a series, or None: numbers and nothing else, and a column of times, or rows that
    resemble the ones before them.

    types: column -> ``number``, ``text``, ... labels: names of columns that hold classes. dataset: of `datasets`.
    """
    table, numbers = dataset.data.table, [n for n, t in types.items() if t == "number"]
    others = [n for n in types if n not in numbers]
    if not numbers or len(others) > 1 or dataset._indices is not None:
        return None
    if others and (types[others[0]] == "class" or times(table.column(others[0])) is None):
        return None
    time = others[0] if others else None
    aside = [n for n in numbers if n.lower() in labels or _counts(table, n)]
    channels = [n for n in numbers if n not in aside]
    if not channels:
        return None
    if time is None:
        alike = _alike(table, channels)
        if alike < ALIKE or _alike(table, channels, within=STRETCH) < NEAR or any(n.lower() in labels for n in aside):
            return None
        if tabular.sorted_by(dataset, channels):
            return None
        why = f"numbers alone, and rows resemble those before them (mean correlation {alike:.2f})"
    else:
        why = f"the times of its steps ({time}) and numbers"
    left = f"; {', '.join(aside)} left aside" if aside else ""
    return named(channels, time, f"{why}: {_few(channels)}{left}")


def named(channels: Sequence[str], time: str | None, why: str) -> Schema:
    """The schema of a series with these columns.

    channels: columns of values. time: column of times (None: there is none). why: a sentence that says how it was
    decided.
    """
    columns: dict[str, str | list[str]] = {SERIES: list(channels), **({"time": time} if time else {})}
    return Schema(kind="series", columns=columns, modalities={SERIES: SERIES}, why=f"series: {why}.")


def series_of(dataset: datasets.Dataset, schema: Schema, log: Log) -> Series:
    """The series that a table holds, its parts at the usual borders. Raises `DataError` for gaps, for times that go
    back, and for a file without a header.

    dataset: of `datasets`. schema: of the series. log: of the rows.
    """
    channels = list(schema.columns[SERIES])
    if all(_is_number(c) for c in channels):
        raise DataError(
            f"The columns are called {_few(channels)}: the file seems to begin with its values. Add a first line that "
            "names the columns."
        )
    rows = dataset.with_format("arrow")[:]
    if "time" in schema.columns:
        _check_times(rows.column(str(schema.columns["time"])), str(schema.columns["time"]), log)
    values = [rows.column(c).cast(pa.float64()).to_numpy().astype(np.float32) for c in channels]
    return Series(values=np.stack(values, axis=1), names=tuple(channels))


def times(column: pa.ChunkedArray) -> np.ndarray | None:
    """Times ``(T,)`` datetime64[ns] of a column of dates, or of texts that can be read as such; else None."""
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not (text or pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)) or column.null_count:
        return None
    if text and not all(re.search(r"\d{2}", v) for v in column.slice(0, 100).to_pylist()):
        return None  # before a parser tries each of many texts
    try:
        return column.cast(pa.timestamp("ns")).to_numpy()  # type: ignore[no-any-return]
    except pa.ArrowInvalid:
        pass
    import pandas

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of formats it has to guess
        try:
            parsed = pandas.to_datetime(column.to_pandas(), utc=True)
        except (ValueError, TypeError, OverflowError):
            return None
    return parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")  # type: ignore[no-any-return]


def _check_times(column: pa.ChunkedArray, name: str, log: Log) -> None:
    found = times(column) if not pa.types.is_integer(column.type) else column.to_numpy()
    if found is None:
        raise DataError(f"Column {name!r} cannot be read as times. Write them as 2024-01-31 13:00:00, one in each row.")
    steps = np.diff(found)
    zero = steps.dtype.type(0)
    if len(steps) and steps.min() <= zero:
        row = int(np.flatnonzero(steps <= zero)[0]) + 1
        raise DataError(
            f"The times of column {name!r} do not rise: row {row:,} is not later than the one before. Sort the rows by "
            "time, and give each time one row (several series: one file each)."
        )
    if len(steps) and steps.max() > steps.min():
        usual = np.median(steps)
        odd = int((steps != usual).sum())
        log.note(f"{odd:,} of {len(steps):,} steps of {name} are longer or shorter than usual: windows count rows.")


def _counts(table: pa.Table, name: str) -> bool:
    """Whether a column only numbers the rows."""
    if not COUNTERS.fullmatch(name.lower()) or table.column(name).null_count:
        return False
    steps = np.diff(table.column(name).to_numpy().astype(np.float64))
    return bool(len(steps) and (steps == steps[0]).all() and steps[0] != 0)


def _alike(table: pa.Table, channels: Sequence[str], *, within: int | None = None) -> float:
    """Mean over the columns of the correlation of each value with the one before; 0 for few rows. within: of stretches
    of so many rows, the median one."""
    if len(table) < FEWEST:
        return 0.0
    size = within or len(table)
    found = []
    for name in channels:
        x = pc.fill_null(table.column(name).cast(pa.float64()), 0.0).to_numpy()
        x = x[: len(x) // size * size].reshape(-1, size)
        x = x - x.mean(axis=1, keepdims=True)
        square = (x * x).sum(axis=1)
        like = np.divide((x[:, 1:] * x[:, :-1]).sum(axis=1), square, out=np.ones(len(x)), where=square > 0)
        found.append(float(np.median(like)))
    return float(np.mean(found))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


# --- the sets of the registry ----------------------------------------------------------------------------------


CURRENCIES = ("Australia", "UK", "Canada", "Switzerland", "China", "Japan", "New Zealand", "Singapore")


def transformer_temperature(path: Path) -> Series:
    """ETT: 12, 4 and 4 months of 30 days are learned from, chosen by and measured on; what is later is not used.

    path: of the file.
    """
    found = pa.csv.read_csv(path)
    month = 30 * 24
    return _plain(found.drop_columns(["date"]), (12 * month, 16 * month, 20 * month))


def exchange_rates(path: Path) -> Series:
    """Eight columns without a header.

    path: of the file.
    """
    return _plain(pa.csv.read_csv(path, read_options=pa.csv.ReadOptions(column_names=CURRENCIES)), None)


def _plain(table: pa.Table, borders: tuple[int, int, int] | None) -> Series:
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    return Series(values=values, names=tuple(table.column_names), borders=borders)
