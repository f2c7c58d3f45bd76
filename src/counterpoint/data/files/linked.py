"""Files that a table names instead of holding them: pictures and recordings beside it, and none elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from counterpoint.data.files import media
from counterpoint.data.files.options import Reading
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.base import Modality

ALSO = ("images", "img", "photo", "picture", "sound", "recording", "wav", "clip")
"""Names of columns that are files where their cells look like names of such, as those of modalities are."""
_LOOK = 50


def with_files(dataset: Any, folder: Path, reading: Reading, log: Log) -> Any:
    """A data set whose columns of paths are pictures or recordings, where there are such files below the folder.

    folder: where the table lies; paths are relative to it. Raises `DataError` for files outside of it, unless the
    reading allows them. dataset: of `datasets`. reading: what is said of the files. log: of the rows.
    """
    import datasets

    table = dataset.data.table
    found: dict[str, pa.Array] = {}
    for name in table.column_names:
        column = table.column(name)
        if _is_file(column.type):
            if (cells := _checked(column.to_pylist(), name, folder, reading)) is not None:
                found[name] = pa.array(cells, media.ARROW)
        elif (medium := named_files(column)) is not None:
            paths = _paths(name, column.to_pylist(), folder, reading, strict=means_files(name))
            if any(paths):
                missing = sum(p is None for p in paths)
                lost = f" ({missing:,} of {len(paths):,} are not there)" if missing else ""
                log.note(f"Column {name!r} names {medium.many} below {folder}: they are read{lost}.")
                found[name] = pa.array([None if p is None else {"bytes": None, "path": p} for p in paths], media.ARROW)
    if not found:
        return dataset
    for name, array in found.items():
        table = table.set_column(table.column_names.index(name), name, array)
    features = media.features(table, **{n: f for n, f in dataset.features.items() if n not in found})
    return datasets.Dataset(table.cast(features.arrow_schema))


def means_files(name: str) -> bool:
    """Whether a column of this name holds files, if its texts name any."""
    return name.lower() in ALSO or any(m.suffixes and m.name == name.lower() for m in modalities.discover().values())


def named_files(column: pa.ChunkedArray) -> Modality | None:
    """What kind of files the texts of a column name, by their endings; None where they name none."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return None
    names = [v for v in column.slice(0, _LOOK).to_pylist() if v]
    found = {modalities.of_suffix(Path(n).suffix.lower()) if len(n) < 1_000 else None for n in names}
    return found.pop() if len(found) == 1 else None


def _is_file(type_: pa.DataType) -> bool:
    """Whether cells are files by their bytes or their path, whichever there are."""
    if not pa.types.is_struct(type_):
        return False
    return {type_.field(i).name for i in range(type_.num_fields)} == {"bytes", "path"}


def _checked(cells: list[Any], name: str, folder: Path, reading: Reading) -> list[Any] | None:
    """Files of which some are named and not held, with their whole paths; None where all are held."""
    named = [c["path"] if c and c["bytes"] is None else None for c in cells]
    if not any(named):
        return None
    paths = _paths(name, named, folder, reading)
    return [c if n is None else {"bytes": None, "path": p} if p else None for c, n, p in zip(cells, named, paths)]


def _paths(
    column: str, names: Sequence[str | None], folder: Path, reading: Reading, *, strict: bool = True
) -> list[str | None]:
    """The path of each file that is there; None for the others.

    strict: raise `DataError` for a file outside of the folder that the reading does not allow, else pass over it.
    """
    out: list[str | None] = []
    for row, name in enumerate(names):
        path = None if not name or "\0" in name else media.below(folder, name)
        if name and path is None and reading.anywhere:
            path = os.path.normpath(os.path.join(folder, name))
        if name and path is None and strict and os.path.exists(os.path.join(folder, name.replace("\0", ""))):
            raise DataError(
                f"Column {column!r} names {name!r} in row {row:,}, which lies outside of {folder}, the folder of the "
                "table. A table may name files beside it or below; to allow others, type --files-anywhere"
            )
        out.append(path if path is not None and os.path.isfile(path) else None)
    return out
