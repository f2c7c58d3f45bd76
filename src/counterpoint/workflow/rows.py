"""Which rows are learned from, which are measured on, and in which batches they come."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from counterpoint.data import registry
from counterpoint.data.bags import Bags
from counterpoint.data.graph import Graph, Nodes, holds_graph, read_graph
from counterpoint.data.infer import infer
from counterpoint.data.inspect import leakage
from counterpoint.data.loader import Loader, StreamLoader
from counterpoint.data.log import Log
from counterpoint.data.read import Source, read, train_part
from counterpoint.data.read import part as split_of
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled, Together
from counterpoint.data.schema import WRITTEN, Row, RowSet, Schema
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import Method
from counterpoint.train.config import TrainConfig
from counterpoint.train.team import launched
from counterpoint.workflow.choose import PLURAL
from counterpoint.workflow.series import read_windows, registered_series, windows_of

MOST_HELD, FEWEST_HELD = 1000, 10
"""Rows held out to measure on, at most and at least."""

STEPS_OF_SMALL = 8
"""Steps an epoch should have: where a recipe's batch would leave fewer, a smaller one is taken."""


@dataclass
class Given:
    """The rows of a run. held: what is measured on. log: receives what reading skipped and decided."""

    schema: Schema
    rows: RowSet | Stream
    held: list[Row] = field(default_factory=list)
    log: Log = field(default_factory=Log)

    @property
    def known(self) -> Rows | Bags | None:
        """The training rows, where they can be taken in any order and none depends on another."""
        return self.rows if isinstance(self.rows, Rows | Bags) else None

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
) -> Given:
    """Read the rows, find the parts that their columns play, and set aside what is measured on."""
    log = Log()
    if (graph := one_graph(data)) is not None:
        return gather_nodes(Nodes(graph, log=log), test)
    if (series := registered_series(data)) is not None:
        windows = windows_of(series, "series: as registered.", test=test, log=log)
        return Given(windows.schema, windows, log=log)
    raw = read(data, split=split, streaming=streaming, log=log)
    raw = raw if split else train_part(raw, log)
    schema = infer(raw, columns=registry.parts(data, columns))
    if schema.kind == "series":
        return Given(schema, read_windows(raw, schema, test=test, split=split, log=log), log=log)
    if isinstance(raw, datasets.IterableDataset):
        found = Given(schema, Stream(raw, schema), log=log)
        found.rows.log = log
    else:
        found = Given(schema, row_set(raw, schema, log), log=log)
    hold_out(found, test)
    return found


def row_set(raw: datasets.Dataset, schema: Schema, log: Log) -> Rows | Bags:
    """The rows of a table, or the bags that they make."""
    if schema.kind == "series":
        raise DataError(
            f"These rows are one {schema.why.rstrip('.')}. A model of series is measured on the latest steps of what "
            "it was trained on: see what `counterpoint fit` printed, or call counterpoint.evaluate.forecast."
        )
    rows = Rows(raw, schema, log=log)
    return Bags(rows) if schema.kind == "bags" else rows


def one_graph(data: Source) -> Graph | None:
    """The graph that a source is, where it is one."""
    named = [data] if isinstance(data, str | Path) else list(data)
    if len(named) != 1:
        return None
    if (path := Path(named[0])).exists():
        return read_graph(path) if holds_graph(path) else None
    known = registry.ENTRIES.get(str(named[0]))
    return registry.load(known.name) if known is not None and known.task == "graph" else None  # type: ignore[return-value]


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


def hold_out(given: Given, test: Source) -> None:
    """Set rows aside to be measured on: the test rows given, else a part of the data; notes go to the log."""
    log, rows = given.log, given.rows
    if test:
        held = rows_like(given.schema, test, log=log)
        given.held = spread(held, MOST_HELD)
        if isinstance(rows, Rows) and isinstance(held, Rows) and (repeated := overlap(rows, held)):
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
    if isinstance(given.rows, Rows | Bags) and given.schema.labels and len(np.unique(given.rows.labels())) < 2:
        given.rows = rows
        return log.note(f"No part was held out, as one class only would be left to learn from: {ask}.")
    given.held = spread(held, MOST_HELD)
    log.note(f"{len(given.held):,} of {len(rows):,} rows are held out to measure on.")


def rows_like(
    schema: Schema, source: Source, *, split: str | None = None, part: str = "test", log: Log | None = None
) -> Rows | Bags:
    """The rows of another source with the same columns: of the split, else of the part where it has one, else all."""
    sources = [source] if isinstance(source, str | Path) else list(source)
    one = len(sources) == 1 and not glob.has_magic(str(sources[0]))
    log = Log() if log is None else log
    if split is not None:
        raw = read(sources, split=split, streaming=False, log=log)
    else:
        # Several files, or a pattern, mean all of them, whatever their names say.
        raw = part_of(sources, part, log) if one else read(sources, split="all", streaming=False, log=log)
    if "source" in schema.columns:  # test rows need not say it, and may be from others
        schema = replace(schema, columns={k: c for k, c in schema.columns.items() if k != "source"}, sources=())
    try:
        infer(raw, columns=schema.columns)
    except DataError as error:
        raise DataError(f"The test rows do not have the columns of the training rows. {error}") from error
    return row_set(named_classes(raw, schema), schema, log)


def part_of(sources: list[str | Path], part: str, log: Log) -> datasets.Dataset:
    """The rows of a part where the source has one of that name, else all of them."""
    try:
        raw = read(sources, split=part, streaming=False, log=log)
    except DataError:
        return read(sources, split="all", streaming=False, log=log)
    if split_of(Path(sources[0]).name.split(".")[0]) != part:  # else the file is that part
        log.note(f"Of {sources[0]}, the part {part} is used.")
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
    if written := [m for m in train.schema.modalities.values() if m in WRITTEN]:
        repeated, what = leakage(train.texts(), test.texts()), PLURAL[written[0]]
    else:
        known = set(digests(train))
        repeated, what = sum(d in known for d in digests(test)), PLURAL[train.schema.modalities[item_of(train)]]
    return f"{repeated:,} test {what} are training {what} too: the figures flatter the model." if repeated else ""


def item_of(rows: Rows) -> str:
    """The part that holds the item of a row."""
    return next(iter(rows.schema.modalities))


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
            value = value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()
        encoded = value if isinstance(value, bytes) else np.asarray(value).tobytes()
        yield hashlib.blake2b(encoded, digest_size=16).digest()


# --- batches ---------------------------------------------------------------------------------------------------


def fitting(config: TrainConfig, rows: RowSet | Stream, log: Log) -> TrainConfig:
    """The recipe's settings with a batch that suits few rows: an epoch of one step teaches little."""
    if isinstance(rows, Stream):
        return config
    if isinstance(rows, Nodes):
        return replace(config, batch=len(rows))
    batch = max(8, len(rows) // STEPS_OF_SMALL)
    if batch >= config.batch:
        return config
    log.note(
        f"There are {len(rows):,} rows, so the batch is {batch:,} instead of {config.batch:,} (--batch N sets another)."
    )
    return replace(config, batch=batch)


def make_loader(given: Given, config: TrainConfig, method: Method | None = None) -> Loader | StreamLoader:
    """Batches that suit the rows: no duplicates among candidates, several rows per class, like lengths together; or
    those that the method asks for."""
    rows, batch, seed = given.rows, config.batch, config.seed
    rank, world = launched()
    own = None if method is None else method.sampler(rows, config)
    if own is not None:
        assert not isinstance(rows, Stream)
        return Loader(rows, own, rank=rank, world=world)
    if isinstance(rows, Stream):
        rows.seed = seed
        return StreamLoader(rows, batch, rank=rank, world=world)
    sampler: Sampler
    if isinstance(rows, Nodes):
        if batch != len(rows):
            raise ConfigError(
                f"batch={batch}: a graph is trained on as a whole, all {len(rows):,} nodes in every step. "
                "Leave --batch out."
            )
        return Loader(rows, Together(len(rows), batch, seed=seed), rank=rank, world=world)
    match given.schema.kind:
        case "pairs":
            sampler = NoDuplicates(rows.keys(), batch, seed=seed)
        case "labelled" | "bags":
            sampler = PxK(rows.labels(), batch, seed=seed)
        case "texts" | "scored":
            sampler = LengthBucketed(rows.lengths(), batch, seed=seed)
        case _:
            sampler = Shuffled(len(rows), batch, seed=seed)
    return Loader(rows, sampler, rank=rank, world=world)
