"""Which rows are learned from, and which are measured on."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from counterpoint.data import objects
from counterpoint.data.arrange import split_path
from counterpoint.data.bags import Bags
from counterpoint.data.files.options import AS_FOUND, Reading, Said, reading_of
from counterpoint.data.files.read import Source, parts_of, read, train_part
from counterpoint.data.files.read import part as split_of
from counterpoint.data.files.tables import UnlikeColumns
from counterpoint.data.infer import infer, with_range, without_range
from counterpoint.data.inspect import leakage
from counterpoint.data.log import Log
from counterpoint.data.mixed import Mixed
from counterpoint.data.nodes import Nodes, holds_graph, read_graph
from counterpoint.data.roles import RANGE
from counterpoint.data.rows import Rows
from counterpoint.data.schema import SOURCED, Row, RowSet, Schema
from counterpoint.data.sets import registry
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.graph import GRAPH, Graph
from counterpoint.modalities.series import SERIES
from counterpoint.workflow.series import read_windows, registered_series, windows_of

MOST_HELD, FEWEST_HELD = 1000, 10
"""Rows held out to measure on, at most and at least."""


@dataclass
class Given:
    """The rows of a run. held: what is measured on. log: receives what reading skipped and decided. paired: what the
    share of a hybrid search is learned from (see `workflow.share`)."""

    schema: Schema
    rows: RowSet | Stream
    held: list[Row] = field(default_factory=list)
    log: Log = field(default_factory=Log)
    paired: list[Row] = field(default_factory=list)

    @property
    def known(self) -> RowSet | None:
        """The training rows, where they can be taken in any order and none depends on another."""
        return None if isinstance(self.rows, Stream) or not self.rows.independent else self.rows

    @property
    def modalities(self) -> list[str]:
        return sorted(set(self.schema.modalities.values()))


def gather(
    data: Source,
    *,
    columns: Mapping[str, str | list[str]],
    test: Source,
    split: str | None,
    streaming: bool | None,
    mix: bool = False,
    reading: Said = None,
) -> Given:
    """Read the rows, find the parts that their columns play, and set aside what is measured on.

    mix: several files stay apart, as the sources of their rows, as do those of unlike columns anyway. reading: what is
    said of files rather than found; see `counterpoint.data.files.read.read`.
    """
    log, test, how = Log(), objects.sources(test), reading_of(reading)
    if (graph := one_graph(data)) is not None:
        return gather_nodes(Nodes(graph, log=log), test)
    if (series := registered_series(data)) is not None:
        windows = windows_of(series, "series: as registered.", test=test, log=log)
        return Given(windows.schema, windows, log=log)
    sources = objects.sources(data)
    if len(sources) > 1 and (mix or any(map(is_name, sources))):
        return gather_mixed(sources, columns=columns, test=test, split=split, streaming=streaming, log=log, how=how)
    try:
        raw = read(sources, split=split, streaming=streaming, log=log, reading=how)
    except UnlikeColumns:
        if len(sources) < 2:  # a folder, a pattern
            raise
        return gather_mixed(sources, columns=columns, test=test, split=split, streaming=streaming, log=Log(), how=how)
    own = () if test or split else test_part(sources, raw, log)
    raw = raw if split else train_part(raw, log)
    schema = infer(raw, columns=registry.parts(sources, columns))
    if schema.kind == SERIES:
        return Given(schema, read_windows(raw, schema, test=test, split=split, log=log), log=log)
    if isinstance(raw, datasets.IterableDataset):
        found = Given(schema, Stream(raw, schema), log=log)
        log.notes += [n for n in found.rows.log.notes if n not in log.notes]
        found.rows.log = log
    else:
        found = Given(schema, row_set(raw, schema, log), log=log)
    hold_out(found, test or own, how)
    return found


def test_part(sources: list[Any], raw: datasets.Dataset | datasets.IterableDataset, log: Log) -> Source:
    """The source itself, where it has a part that is meant to be measured on, beside the one that is learned from."""
    if isinstance(raw, datasets.Dataset) and "split" in raw.column_names:
        parts = {split_of(str(name)) for name in raw.unique("split")}
    else:
        parts = parts_of(sources)
    named = next((name for name in ("test", "dev") if name in parts), None)
    if named is None or "train" not in parts:
        return ()
    of = ", ".join(map(str, sources)) if objects.is_paths(sources) else "the rows"
    log.note(f"The part {named} of {of} is measured on (--test FILE: other rows).")
    return sources


def row_set(raw: datasets.Dataset, schema: Schema, log: Log) -> Rows | Bags:
    """The rows of a table, or the bags that they make."""
    if schema.kind == SERIES:
        raise DataError(
            f"These rows are one {schema.why.rstrip('.')}. A model of series is measured on the latest steps of what "
            "it was trained on: see what `counterpoint fit` printed, or call counterpoint.evaluate.forecast."
        )
    rows = Rows(raw, schema, log=log)
    return Bags(rows) if schema.kind == "bags" else rows


def one_graph(data: Source) -> Graph | None:
    """The graph that a source is, where it is one."""
    named = objects.sources(data)
    if len(named) != 1 or not objects.is_paths(named):
        return None
    if (path := Path(named[0])).exists():
        return read_graph(path) if holds_graph(path) else None
    known = registry.ENTRIES.get(str(named[0]))
    return registry.load(known.name) if known is not None and known.task == GRAPH else None  # type: ignore[return-value]


def gather_nodes(rows: Nodes, test: Source) -> Given:
    """A graph is learned from as a whole, without its labels; those of its test part measure the model."""
    if test:
        raise DataError(
            "The nodes to measure a graph on are part of it: leave --test out, and mark them in a column `split` of "
            "nodes.csv, or as test_idx in the .npz."
        )
    held = rows.labelled("test") if len(rows.labelled("train")) else rows.labelled()
    given = Given(rows.schema, rows, spread(held, MOST_HELD) if len(held) else [], rows.log)
    if not given.held:
        given.log.note("The graph has no labels: there is nothing to measure the model on.")
    return given


def gather_mixed(
    sources: list[str | Path],
    *,
    columns: Mapping[str, str | list[str]],
    test: Source,
    split: str | None,
    streaming: bool | None,
    log: Log,
    how: Reading,
) -> Given:
    """Several sources, each read by itself; columns are named for those sources that have all of them."""
    if "source" in columns:
        raise ConfigError("Several files are mixed, so the source of a row is its file: leave source=... out.")
    parts: dict[str, Rows] = {}
    played = without_range(columns)
    taken = not played
    for name, source in zip(names_of(sources), sources):
        raw = read(source, split=split, streaming=streaming, log=log, reading=how)
        raw = raw if split else train_part(raw, log)
        if isinstance(raw, datasets.IterableDataset):
            raise DataError(
                f"{name} is a stream. Of several sources with batches of their own, none can be: leave --streaming out."
            )
        named = [c for some in played.values() for c in ([some] if isinstance(some, str) else some)]
        has = all(n in raw.column_names or split_path(n, raw.column_names) for n in named)
        taken |= has
        try:
            schema = infer(raw, columns=registry.parts(source, played if has else {}))
            if RANGE in columns and schema.kind == "scored":
                schema = with_range(schema, columns[RANGE])
            parts[name] = Rows(raw, schema, log=log) if schema.kind in SOURCED else _unmixed(name, schema)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    if not taken:
        raise DataError(f"None of the files has all of the columns {', '.join(map(str, played.values()))}.")
    if RANGE in columns and not any(part.schema.range for part in parts.values()):
        raise DataError(f"{RANGE}={columns[RANGE]} says what scores there can be, and none of the files has scores.")
    rows = Mixed(parts, log=log)
    log.note(f"{len(parts)} sources: {', '.join(f'{name} ({len(part):,} rows)' for name, part in parts.items())}.")
    given = Given(rows.schema, rows, log=log)
    hold_out(given, test, how)
    return given


def _unmixed(name: str, schema: Schema) -> Rows:
    raise DataError(
        f"these are {schema.why.rstrip('.')}. Files of these kinds can be mixed: {', '.join(SOURCED)}. Learn from "
        f"{name} by itself."
    )


def is_name(source: str | Path) -> bool:
    """Whether a source is a registered set."""
    return objects.is_paths(source) and str(source) in registry.ENTRIES and not Path(source).exists()


def names_of(sources: Sequence[str | Path]) -> list[str]:
    """What sources are called: their file names without endings, or as they are given where those are the same."""
    short = [Path(s).name.split(".")[0] or str(s) for s in sources]
    return short if len(set(short)) == len(short) else [str(s) for s in dict.fromkeys(sources)]


def mixed_like(rows: Mixed, test: Source, log: Log, how: Reading = AS_FOUND) -> Mixed:
    """Test rows as those of the parts that they are like: each source of the first part with its columns that has none
    yet."""
    held = {name: part.subset([]) for name, part in zip(rows.names, rows.parts)}
    for source in [test] if isinstance(test, str | Path) else list(test):
        why: DataError | None = None
        for name, part in sorted(zip(rows.names, rows.parts), key=lambda one: len(held[one[0]]) > 0):
            try:
                found = rows_like(part.schema, source, log=log, reading=how)
            except DataError as error:
                why = why or error
                continue
            assert isinstance(found, Rows)
            held[name] = found
            log.note(f"{source} measures what was learned from {name}.")
            break
        else:
            raise DataError(f"{source} has the columns of none of the sources. {why}")
    return Mixed(held, log=log)


def hold_out(given: Given, test: Source, how: Reading = AS_FOUND) -> None:
    """Set rows aside to be measured on: the test rows given, else a part of the data; notes go to the log."""
    log, rows = given.log, given.rows
    if test:
        mixed = not isinstance(rows, Stream) and rows.mixed
        held = mixed_like(rows, test, log, how) if mixed else rows_like(given.schema, test, log=log, reading=how)
        given.held = spread(held, MOST_HELD)
        if not isinstance(rows, Stream) and rows.table and held.table and (repeated := overlap(rows, held)):
            log.note(repeated)
        return
    ask = "give --test FILE to measure the model"
    if isinstance(rows, Stream):
        return log.note(f"A stream has no part that could be held out: {ask}.")
    size = min(MOST_HELD, len(rows) // 10)
    if size < FEWEST_HELD:
        return log.note(f"{len(rows):,} rows are too few to hold a part out: {ask}.")
    try:
        given.rows, held = rows.split(size)  # type: ignore[attr-defined]  # nodes are held out elsewhere
    except DataError as error:
        return log.note(f"No part was held out, {ask}. {error}")
    if given.known is not None and given.schema.labels and len(np.unique(given.known.labels())) < 2:
        given.rows = rows
        return log.note(f"No part was held out, as one class only would be left to learn from: {ask}.")
    given.held = spread(held, MOST_HELD)
    log.note(f"{len(given.held):,} of {len(rows):,} rows are held out to measure on.")


def rows_like(
    schema: Schema,
    source: Source,
    *,
    split: str | None = None,
    part: str = "test",
    log: Log | None = None,
    reading: Said = None,
) -> Rows | Bags:
    """The rows of another source with the same columns: of the split, else of the part where it has one, else all.

    reading: what is said of its files rather than found.
    """
    sources = objects.sources(source)
    one = len(sources) == 1 and not (objects.is_paths(sources) and glob.has_magic(str(sources[0])))
    log = Log() if log is None else log
    if split is not None:
        raw = read(sources, split=split, streaming=False, log=log, reading=reading)
    else:
        # Several files, or a pattern, mean all of them, whatever their names say.
        raw = (
            part_of(sources, part, log, reading)
            if one
            else read(sources, split="all", streaming=False, log=log, reading=reading)
        )
    if "source" in schema.columns:  # test rows need not say it, and may be from others
        schema = replace(schema, columns={k: c for k, c in schema.columns.items() if k != "source"}, sources=())
    try:
        infer(raw, columns=schema.columns, changes=schema.changes)
    except DataError as error:
        raise DataError(f"The test rows do not have the columns of the training rows. {error}") from error
    return row_set(named_classes(raw, schema), schema, log)


def part_of(sources: list[Any], part: str, log: Log, reading: Said = None) -> datasets.Dataset:
    """The rows of a part where the source has one of that name, else all of them."""
    try:
        raw = read(sources, split=part, streaming=False, log=log, reading=reading)
    except DataError:
        return read(sources, split="all", streaming=False, log=log, reading=reading)
    named = objects.is_paths(sources)
    if not named or split_of(Path(sources[0]).name.split(".")[0]) != part:  # else the file is that part
        log.note(f"Of {sources[0] if named else 'the rows'}, the part {part} is used.")
    return raw


def named_classes(raw: datasets.Dataset, schema: Schema) -> datasets.Dataset:
    """Class numbers as names, where the source numbers its classes in another way than the schema does."""
    column = str(schema.columns.get("label", ""))
    names = getattr(raw.features.get(column), "names", None)
    if names is None or tuple(names) == schema.labels:
        return raw
    labels = [None if n is None or n < 0 else names[n] for n in raw.with_format("arrow")[column].to_pylist()]
    return raw.remove_columns(column).add_column(column, pa.array(labels, pa.string()))


def spread(rows: RowSet, most: int) -> list[Row]:
    """At most so many rows, spread evenly: sources are often sorted by class."""
    found: list[Row] = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
    return found


def overlap(train: Rows, test: Rows) -> str:
    """The sentence that says how many test texts (or other items) are training ones too; empty where none is."""
    if written := [m for m in train.schema.modalities.values() if modalities.of(m).written]:
        repeated, what = leakage(train.texts(), test.texts()), modalities.of(written[0]).many
    else:
        known, what = set(digests(train)), modalities.of(train.schema.modalities[item_of(train)]).many
        repeated = sum(d in known for d in digests(test))
    return f"{repeated:,} test {what} are training {what} too: the figures flatter the model." if repeated else ""


def item_of(rows: Rows) -> str:
    """The part that holds the item of a row."""
    return next(iter(rows.schema.modalities))


def _content(path: Path) -> bytes:
    """The bytes of a file, or of the files of a folder in the order of their names."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return b"".join(p.read_bytes() for p in files)


def digests(rows: Rows) -> Iterator[bytes]:
    """Of what the items lie in the table as: the bytes of files, numbers."""
    names = rows.schema.columns[item_of(rows)]
    if not isinstance(names, str):  # the cells of a table
        for cells in zip(*(rows.column(name) for name in names)):
            yield hashlib.blake2b(repr([cell.as_py() for cell in cells]).encode(), digest_size=16).digest()
        return
    for cell in rows.column(names):
        value = cell.as_py()
        if isinstance(value, dict):
            value = value["bytes"] if value["bytes"] is not None else _content(Path(value["path"]))
        encoded = value if isinstance(value, bytes) else np.asarray(value).tobytes()
        yield hashlib.blake2b(encoded, digest_size=16).digest()
