"""Rows that are in memory already: data frames, Arrow tables, data sets, lists and dicts, to a `datasets.Dataset`.

What comes out is what the readers of files give, so that a table means the same wherever it comes from: categories are
what they stand for, nullable numbers keep their type, and a column of mixed types is refused by its name. Neither
pandas nor polars is imported: their tables are known by the module they come from, and others by what Arrow asks of a
table.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pyarrow as pa

from counterpoint.data.files import columns, media
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets

TAKEN = (
    "a pandas or polars DataFrame, an Arrow table, a datasets.Dataset or DatasetDict, a list of dicts, a dict of "
    "lists, or a list of texts"
)
"""What `dataset` takes, for messages."""


def is_paths(source: Any) -> TypeGuard[str | os.PathLike[str] | Sequence[str | os.PathLike[str]]]:
    """Whether something names files, data sets or addresses, and is not rows itself.

    source: whatever was given.
    """
    if isinstance(source, str | os.PathLike):
        return True
    return isinstance(source, list | tuple) and all(isinstance(one, str | os.PathLike) for one in source)


def is_table(source: Any) -> bool:
    """Whether something is a table of columns: a data frame, an Arrow table, a data set.

    source: whatever was given.
    """
    return (
        isinstance(source, pa.Table | pa.RecordBatch) or hasattr(source, "column_names") or hasattr(source, "columns")
    )


def sources(given: Any) -> list[Any]:
    """What was given as a list of sources: paths as they are; rows that are in memory are one source."""
    if isinstance(given, list | tuple) and (is_paths(given) or all(map(is_table, given))):
        return list(given)
    return [given if is_paths(given) or is_table(given) else dataset(given)]


IN_MEMORY = "in memory: "
"""How the name of rows that are in memory begins."""


def names(given: Any) -> list[str]:
    """What sources are called where they are written down: paths as they are, else what they are, and how many rows.

    given: paths, or rows in memory.

    >>> names("pairs.jsonl"), names([{"text": "a"}, {"text": "b"}]), names(())
    (['pairs.jsonl'], ['in memory: list, 2 rows'], [])
    """
    if is_nothing(given):
        return []
    if is_paths(given):
        return [str(source) for source in sources(given)]
    table = is_table(given) and not isinstance(given, Mapping)
    count = f", {len(given):,} rows" if (table or isinstance(given, list | tuple)) and hasattr(given, "__len__") else ""
    return [f"{IN_MEMORY}{type(given).__name__}{count}"]


def is_nothing(given: Any) -> bool:
    """Whether no source was named: None, or a list of none.

    given: what may be a source."""
    return given is None or (isinstance(given, list | tuple | str) and not given)


def dataset(
    source: Any, *, split: str | None = None, log: Log | None = None
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of an object.

    source: one of `TAKEN`; a list of texts becomes a column ``text``. A `datasets.Dataset` stays as it is, a stream of
    `datasets` stays a stream. split: of a DatasetDict, which of its parts (None: train, or its only one; ``all``: every
    row). log: receives what was left out or chosen.

    Raises `DataError` for objects of another kind, for no rows, and for a column that holds no one type.
    """
    import datasets

    log = Log() if log is None else log
    if isinstance(source, dict) and isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
        return _part(source, split, log)
    if isinstance(source, datasets.IterableDataset):
        return source
    if isinstance(source, datasets.Dataset):
        if not len(source):
            raise DataError("The data set holds no rows.")
        return source.with_format(None)
    table = _table(source, log)
    if not len(table):
        raise DataError(f"The {type(source).__name__} holds no rows.")
    try:
        table = columns.plain(_decoded(table), Path(f"The {type(source).__name__}")).combine_chunks()
        return datasets.Dataset(table.cast(media.features(table).arrow_schema))
    except DataError:
        raise
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"The {type(source).__name__} holds a type that is not read ({_first(error)}).") from error


def _part(found: Any, split: str | None, log: Log) -> Any:
    """One of the parts of a DatasetDict, or all of them."""
    import datasets

    if not found:
        raise DataError("The DatasetDict holds no parts.")
    if split == "all":
        if isinstance(found, datasets.IterableDatasetDict):
            return datasets.concatenate_datasets(list(found.values()))
        return dataset(datasets.concatenate_datasets([part.with_format(None) for part in found.values()]))
    wanted = split or ("train" if "train" in found else next(iter(found)) if len(found) == 1 else "train")
    if wanted not in found:
        raise DataError(
            f"The DatasetDict has the parts {', '.join(found)}, not {wanted!r}. Give split={next(iter(found))!r}."
        )
    if split is None and len(found) > 1:
        log.note(f"Of the parts {', '.join(found)} of the DatasetDict, {wanted} is used.")
    return dataset(found[wanted], log=log)


def _decoded(table: pa.Table) -> pa.Table:
    """Categories written out: they are in memory, and what they stand for is limited by that."""
    for place, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table.schema.field(place).type):
            values = table.schema.field(place).type.value_type
            plain = pa.large_string() if values == pa.string_view() else values
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(plain)).dictionary_decode()
                for chunk in table.column(place).chunks
            ]
            table = table.set_column(place, name, pa.chunked_array(chunks, plain))
    return table


# --- each kind -------------------------------------------------------------------------------------------------


def _table(source: Any, log: Log) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    family, kind = type(source).__module__.partition(".")[0], type(source).__name__
    if family == "polars" and kind == "LazyFrame":
        source = source.collect()
    if family == "polars" and (held := [n for n, d in getattr(source, "schema", {}).items() if str(d) == "Object"]):
        raise DataError(f"Column {held[0]!r} of the {kind} holds Python objects. Give it one type.")
    if family in ("pandas", "polars") and kind == "Series":
        source = source.to_frame(source.name or TEXT)
    if family == "pandas" and hasattr(source, "columns"):
        return _pandas(source, log)
    if hasattr(source, "__arrow_c_stream__"):
        try:
            return pa.table(source)
        except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
            raise DataError(f"The {kind} cannot be read as a table ({_first(error)}).") from error
    if isinstance(source, Mapping):
        return _columns(source)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return _rows(source)
    raise DataError(f"A {kind} is no source of rows. Give {TAKEN}; or the path of a file.")


def _pandas(frame: Any, log: Log) -> pa.Table:
    """A pandas DataFrame without its index, NaN as missing."""
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise DataError("The DataFrame has columns of several levels. Give them one name each: frame.columns = [...].")
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"The DataFrame has two columns {twice!r}. Rename one of them.")
    if named := [str(name) for name in frame.index.names if name is not None]:
        log.note(f"The index of the DataFrame ({', '.join(named)}) is left out. To keep it: frame.reset_index().")
    columns = {}
    for place, name in enumerate(names):
        column = frame.iloc[:, place]
        values = column.to_numpy(dtype=object) if column.dtype == object else column
        columns[name] = _array(name, list(values) if column.dtype == object else values, from_pandas=True)
    return pa.table(columns)


def _columns(source: Mapping[Any, Any]) -> pa.Table:
    lengths = {}
    for name, values in source.items():
        if not isinstance(name, str):
            raise DataError(f"The name of a column is a string; {name!r} is a {type(name).__name__}.")
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
            raise DataError(
                f"Column {name!r} of the dict is a {type(values).__name__}, where a list with a value for each row is "
                "expected. One row is a list of one dict: [{...}]."
            )
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n:,}" for name, n in lengths.items())
        raise DataError(f"The columns of the dict have different numbers of values: {told}. Give one for each row.")
    return pa.table({name: _array(name, values) for name, values in source.items()})


def _rows(source: Sequence[Any]) -> pa.Table:
    first = next((row for row in source if row is not None), None)
    if first is None:
        raise DataError(f"The {type(source).__name__} holds no rows.")
    expected = str if isinstance(first, str) else Mapping
    for place, row in enumerate(source):
        if not isinstance(row, expected) and not (row is None and expected is str):
            wanted = "a text" if expected is str else "a dict from columns to values"
            raise DataError(
                f"Row {place:,} (counted from 0) is of the type {type(row).__name__}, where {wanted} is expected. Give "
                f"{TAKEN}."
            )
    if expected is str:
        return pa.table({TEXT: _array(TEXT, list(source))})
    names = list(dict.fromkeys(name for row in source for name in row))
    if wrong := next((name for name in names if not isinstance(name, str)), None):
        raise DataError(f"The name of a column is a string; {wrong!r} is a {type(wrong).__name__}.")
    if not names:
        raise DataError("The rows are dicts without any column.")
    return pa.table({name: _array(name, [row.get(name) for row in source]) for name in names})


def _array(name: str, values: Any, *, from_pandas: bool = False) -> pa.Array:
    """One column. `DataError` names it, and the types or the row where it holds no one type."""
    if hasattr(values, "detach"):  # a torch tensor
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and (values.ndim > 1 or values.dtype == object):
        values = list(values)
    if hasattr(values, "combine_chunks"):
        values = values.combine_chunks()
    pictures = False
    if isinstance(values, list | tuple):
        pictures = _is_picture(next((value for value in values if value is not None), None))
        values = [_cell(value) for value in values]
    try:
        found = pa.array(values, media.ARROW if pictures else None, from_pandas=from_pandas or None)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise DataError(f"Column {name!r} {_why(values, error)}") from error
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _cell(value: Any) -> Any:
    """A value as Arrow takes it: of an array of several axes the lists, of a picture its file, of a path its name."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.tolist() if value.ndim != 1 or value.dtype == object else value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if _is_picture(value):
        import datasets

        return datasets.Image().encode_example(value)
    return value


def _is_picture(value: Any) -> bool:
    """Whether something is an image of Pillow."""
    return hasattr(value, "convert") and hasattr(value, "save")


def _why(values: Any, error: Exception) -> str:
    """Why a column holds no one type: the row that cannot be read, or the types that do not go together."""
    if isinstance(values, list):
        kinds: dict[str, int] = {}
        for place, value in enumerate(values):
            if value is not None:
                kinds.setdefault(type(value).__name__, place)
            try:
                pa.array([value])
            except (pa.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError) as own:
                given = type(value).__name__
                return f"holds in row {place:,} (counted from 0) a {given} that is not read ({_first(own)})."
        if len(kinds) > 1:
            told = " and ".join(f"{kind} (row {place:,})" for kind, place in sorted(kinds.items()))
            return f"mixes {told}, rows counted from 0. Give one type in every row."
    return f"holds a type that is not read ({_first(error)})."


def _first(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
