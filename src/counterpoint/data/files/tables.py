"""Several files to one table: in memory, memory-mapped from the cache folder, or row by row."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from counterpoint.data.files import formats, jsonfile, media, store
from counterpoint.data.files.offsets import empty, is_lines, rows_from
from counterpoint.data.files.options import AS_FOUND, Reading
from counterpoint.data.files.pieces import Pieces
from counterpoint.data.files.shards import shard_tables
from counterpoint.data.files.store import File
from counterpoint.data.log import Log
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

MAP_ABOVE = 512 * 2**20
"""Bytes of files (compressed ones count fourfold) above which the table is memory-mapped instead of held in memory."""

LOOK = 1_000
"""Rows of a stream from which the types of its columns are read, where no format declares them."""


def cache_folder() -> Path:
    """Where derived files are kept: ``COUNTERPOINT_CACHE``, else ``XDG_CACHE_HOME/counterpoint``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("COUNTERPOINT_CACHE") or Path(base) / "counterpoint")


def _one(path: File, log: Log, reading: Reading) -> Iterator[pa.Table]:
    return shard_tables(path, log) if formats.kind(path) == "tar" else formats.tables(path, reading, log)


class UnlikeColumns(DataError):
    """Files that are no one table."""


def _agreeing(paths: list[File], log: Log, reading: Reading) -> Iterator[pa.Table]:
    """The tables of all files, which must have the same columns."""
    first: tuple[File, list[str]] | None = None
    for path in paths:
        names: list[str] = []
        for table in _one(path, log, reading):
            names += [n for n in table.column_names if n not in names]
            yield table
        if first is None:
            first = (path, names)
        elif set(names) != set(first[1]):
            raise UnlikeColumns(
                f"The files do not have the same columns: {first[0]} has {', '.join(first[1])}; {path} has "
                f"{', '.join(names)}. Read them apart, or give them the same columns."
            )


def table(paths: list[File], size: int, log: Log, reading: Reading = AS_FOUND) -> datasets.Dataset:
    """The rows of all files as one table. size: bytes that they take. reading: what is said of them.

    paths: of the files. log: of the rows.
    """
    import datasets

    if size > MAP_ABOVE and not all(formats.kind(p) == "arrow" for p in paths):
        return datasets.Dataset.from_file(str(_mapped(paths, lambda: _agreeing(paths, log, reading), reading)))
    table = joined(paths, log, reading)
    if size <= MAP_ABOVE:
        table = table.combine_chunks()  # one chunk: rows are taken twenty times faster
    return datasets.Dataset(table.cast(media.features(table).arrow_schema))


def joined(paths: list[File], log: Log, reading: Reading = AS_FOUND) -> pa.Table:
    """The rows of all files, in memory. Raises `DataError` for files that are no one table.

    paths: of the files. log: of what is left out. reading: what is said of them."""
    parts = list(_agreeing(paths, log, reading))
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        other = next(t.schema for t in parts if not _fits(parts[0].schema, t.schema))
        raise _conflict(parts[0].schema, other, paths) from error


def _fits(a: pa.Schema, b: pa.Schema) -> bool:
    try:
        pa.unify_schemas([a, b], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _conflict(a: pa.Schema, b: pa.Schema, paths: list[File]) -> DataError:
    name = next(n for n in b.names if n in a.names and not _fits(pa.schema([a.field(n)]), pa.schema([b.field(n)])))
    files = ", ".join(map(str, paths[:3]))
    return DataError(
        f"Column {name!r} is {a.field(name).type} in some rows and {b.field(name).type} in others ({files}). "
        "Write one type in every row."
    )


def _mapped(paths: list[File], make: Callable[[], Iterator[pa.Table]], reading: Reading) -> Path:
    """An Arrow file with all rows, written once per state of the sources and memory-mapped ever after."""
    state: list[Any] = [store.state(p) for p in paths]
    target = cache_folder() / "arrow" / f"{hashlib.sha256(repr((state, reading)).encode()).hexdigest()[:20]}.arrow"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * sum(s[1] for s in state), shutil.disk_usage(target.parent).free
    if needed > free:
        raise DataError(
            f"Reading these files needs about {needed / 2**30:.1f} GiB in {target.parent}, where "
            f"{free / 2**30:.1f} GiB are free. Set COUNTERPOINT_CACHE to a larger disk, or type --streaming."
        )
    schema: pa.Schema | None = None
    while True:  # again from the start whenever a later chunk widens the schema (null -> string, int -> float)
        handle, aside = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
        try:
            wider = _write(Path(aside), make(), schema, paths)
            if wider is None:
                os.replace(aside, target)
                return target
            schema = wider
        finally:
            Path(aside).unlink(missing_ok=True)


def _write(aside: Path, parts: Iterator[pa.Table], schema: pa.Schema | None, paths: list[File]) -> pa.Schema | None:
    """Write the tables under one schema; None when done, else the wider schema to begin again with."""
    import datasets

    writer = None
    try:
        for table in parts:
            if schema is None:
                schema = media.features(table).arrow_schema
            elif not _fits(schema, table.schema):
                raise _conflict(schema, table.schema, paths)
            both = pa.unify_schemas([schema, table.schema], promote_options="permissive")
            if both != schema:
                known = datasets.Features.from_arrow_schema(schema) | media.features(table)
                files = {n: f for n, f in known.items() if both.field(n).type == media.ARROW}  # an empty table has none
                return media.features(both.remove_metadata().empty_table(), **files).arrow_schema
            if writer is None:
                writer = pa.ipc.new_stream(str(aside), schema)
            missing = [n for n in schema.names if n not in table.column_names]
            for name in missing:
                table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
            writer.write_table(table.select(schema.names).cast(schema), max_chunksize=50_000)
    finally:
        if writer is not None:
            writer.close()
    return None


def stream(paths: list[File], log: Log, reading: Reading = AS_FOUND) -> datasets.IterableDataset:
    """The rows one after another, with what knows where they lie (`counterpoint.data.files.pieces.pieces_of`).

    paths: of the files. log: of the rows. reading: what is said of them.
    """
    import datasets

    features = media.features(_first(paths, reading))
    found = datasets.IterableDataset.from_generator(
        _rows, gen_kwargs={"paths": paths, "columns": tuple(features), "reading": reading}, features=features
    )
    found._pieces = Pieces(paths, cache_folder(), log, reading)
    return found


def _first(paths: list[File], reading: Reading) -> pa.Table:
    """The first rows there are: among many shards, an empty one is no accident."""
    for path in paths:
        if empty(path):
            continue
        if is_lines(path, reading):
            found = rows_from(path, 0, 0, columns=None, first=0, log=Log(), reading=reading)
            if rows := [row for row in itertools.islice(found, LOOK) if row is not None]:
                return jsonfile.from_rows(path, rows, 0)
            continue
        with contextlib.suppress(formats.NoRowsError):
            return next(_one(path, Log(), reading))
    raise DataError(f"{paths[0]}{' … ' if len(paths) > 1 else ' '}holds no rows. Give files with at least one row.")


def _rows(paths: list[File], columns: tuple[str, ...], reading: Reading) -> Iterator[dict[str, Any]]:
    for path in paths:
        found = () if empty(path) else rows_from(path, 0, 0, columns=columns, first=0, log=Log(), reading=reading)
        with contextlib.suppress(formats.NoRowsError):
            yield from (row for row in found if row is not None)
