"""Rows of a source that is too large to be held: read piece by piece where it can be, else from front to back."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.data.arrange import arranged
from counterpoint.data.classes import is_class
from counterpoint.data.files import media
from counterpoint.data.files.pieces import pieces_of
from counterpoint.data.log import Log
from counterpoint.data.row import NUMBERED, class_numbers, known_of, make_row, optional
from counterpoint.data.schema import Known, Row, Schema
from counterpoint.data.sharding import Raw
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities

if TYPE_CHECKING:
    import datasets


class Stream:
    """The streaming twin of `Rows`: a source, its schema, and how far its rows are shuffled.

    buffer: rows that are shuffled with each other. pieces: what the source is made of, where that is known (files, here
    or in a store); None for what another library streams, which every process then reads whole. dataset: of `datasets`.
    schema: as `infer` gives it. seed: of the shuffle.
    """

    def __init__(
        self, dataset: datasets.IterableDataset, schema: Schema, *, buffer: int = 10_000, seed: int = 0
    ) -> None:
        self.log = Log()
        dataset = arranged(dataset, schema.changes, self.log)
        self.pieces = pieces_of(dataset)
        # A copy that is never iterated: iterations of one data set, or of two that share a source, share a position.
        self.dataset = twin(media.encoded(dataset))
        self.schema, self.buffer, self.seed = schema, buffer, seed
        for sentence in schema.notes:
            self.log.note(sentence)
        self._classes, self._optional = class_numbers(dataset.features, schema), optional(schema)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        named = [[c] if isinstance(c, str) else c for c in self.schema.columns.values()]
        return list(dict.fromkeys(c for some in named for c in some))

    def texts(self, limit: int) -> Iterator[str]:
        """The first ``limit`` texts of the source, for training a tokenizer."""
        keys = [k for k, m in self.schema.modalities.items() if modalities.of(m).written]
        rows = (self.row(number, values) for number, values in enumerate(twin(self.dataset)))
        found = (t for row in rows if row for k in keys for t in (row[k] if isinstance(row[k], list) else [row[k]]))
        yield from itertools.islice((t for t in found if t), limit)

    def known(self, modality: str) -> Known:
        """What the first rows of the source tell of the items of this modality."""
        return known_of(self.schema, modality, self.values)

    def values(self, names: Sequence[str], limit: int) -> dict[str, list[Any]]:
        """The cells of some columns in the first ``limit`` rows of the source.

        names: of the columns. limit: number of rows.
        """
        found = list(itertools.islice(twin(self.dataset), limit))
        return {name: [row.get(name) for row in found] for name in names}

    def row(self, number: int, values: Mapping[str, Any] | None) -> Row | None:
        """A row that has what its kind needs, or None (and a line in the log).

        number: of the row. values: column -> cell (None: it cannot be read).
        """
        if values is None:
            return None
        for key, column in self.schema.columns.items():
            names = [column] if isinstance(column, str) else column
            if missing := [n for n in names if n not in values]:
                raise DataError(f"Row {number} of the stream has no column {missing[0]!r}, only {', '.join(values)}.")
            if key in self._optional or self.schema.kind == "towers":
                continue
            value = values[names[0]]
            cells = [values[n] for n in names]
            unknown = key in NUMBERED and not is_class(value)
            if unknown or all(c is None or (isinstance(c, str) and not c.strip()) for c in cells):
                self.log.skip(f"row {number}", f"nothing in column {'+'.join(names)!r}")
                return None
            if key == "score" and not np.isfinite(value):
                raise DataError(f"Column {names[0]!r} is NaN or infinite in row {number} of the stream.")
            if key == "score" and self.schema.range and not self.schema.range[0] <= value <= self.schema.range[1]:
                low, high = self.schema.range
                raise DataError(
                    f"Column {names[0]!r} is {value:g} in row {number} of the stream, outside {low:g} to {high:g}. "
                    "Correct it, or say what scores there can be: --columns range=LOWEST..HIGHEST"
                )
        row = make_row(dict(values), number, self.schema, self._classes, self.log)
        if row is not None and self.schema.kind == "towers" and all(row[k] is None for k in self.schema.modalities):
            self.log.skip(f"row {number}", "neither of its two sides")
            return None
        return row


class FrontToBack:
    """The batches of an epoch of a source that cannot be opened in the middle; the last, smaller one is left out.

    Every process reads all rows and keeps its share of each batch. Blocks of ``buffer`` rows are shuffled; unlike a
    sliding shuffle buffer, a block is reproduced by reading it again, so the position is small and continued exactly:
    the place in the source where the block began, and how many of its rows were given.

    stream: of rows. batch: rows of all processes together. epoch: from 0. position: where it goes on (None: at the
    beginning). rank: of this process. world: number of processes.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        batch: int,
        epoch: int,
        position: Mapping[str, Any] | None,
        rank: int,
        world: int,
    ) -> None:
        self.position = dict(position or {"source": None, "block": 0, "first": 0, "given": 0})
        self._batch, self._share = batch, slice(rank, None, world)
        self._source = twin(stream.dataset)
        if self.position["source"] is not None:
            self._source.load_state_dict(copy.deepcopy(self.position["source"]))
        self._rows = self._shuffled(stream, epoch)
        self._some = position is not None  # whether the epoch gave a batch

    def __iter__(self) -> Iterator[list[Raw]]:
        return self

    def __next__(self) -> list[Raw]:
        found = list(itertools.islice(self._rows, self._batch))
        if not found or (self._some and len(found) < self._batch):
            raise StopIteration
        self._some = True
        return found[self._share]

    def _shuffled(self, stream: Stream, epoch: int) -> Iterator[Raw]:
        values = iter(self._source)
        while block := list(itertools.islice(values, stream.buffer)):
            behind = self._source.state_dict()  # itself a copy
            first, number = self.position["first"], self.position["block"]
            order = np.random.default_rng([stream.seed, epoch, number]).permutation(len(block))
            for place in order[self.position["given"] :]:
                self.position["given"] += 1
                yield first + int(place), block[place]
            self.position = {"source": behind, "block": number + 1, "first": first + len(block), "given": 0}


def twin(dataset: datasets.IterableDataset) -> datasets.IterableDataset:
    """A copy with a position of its own.

    What `datasets` remembers of open file systems stays shared: it is one table of the whole process, and copying it in
    another thread adds entries to it while it is being copied.

    dataset: of `datasets`.
    """
    shared = [value for name, value in vars(dataset).items() if name.endswith("hffs_cache") or name == "_pieces"]
    return copy.deepcopy(dataset, {id(value): value for value in shared})
