"""Rows of a source that is read from front to back, shuffled in blocks, with a position that is continued exactly."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.data.log import Log
from counterpoint.data.row import class_numbers, make_row
from counterpoint.data.schema import Row, Schema
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets


class Stream:
    """The streaming twin of `Rows`.

    Blocks of ``buffer`` rows are read and each is shuffled by (seed, epoch, block). Unlike a sliding shuffle buffer, a
    block is reproduced by reading it again, so the saved position is small and resuming is exact: the place in the
    source where the block began, and how many of its rows were given.
    """

    def __init__(
        self, dataset: datasets.IterableDataset, schema: Schema, *, buffer: int = 10_000, seed: int = 0
    ) -> None:
        images = any(m == "image" for m in schema.modalities.values())
        # A copy that is never iterated: iterations of one data set, or of two that share a source, share a position.
        self.dataset = _twin(dataset.decode(False) if images and dataset.features else dataset)
        self.schema, self.buffer, self.seed = schema, buffer, seed
        self.log = Log()
        self.given = 0  # usable rows given in this epoch
        self._classes = class_numbers(dataset.features, schema)
        self._state: dict[str, Any] = {}

    def rows(self, epoch: int, state: dict[str, Any] | None = None) -> Iterator[Row]:
        """The rows of an epoch; with a state, those that follow it."""
        state = state or {"source": None, "block": 0, "first": 0, "done": 0, "given": 0}
        source = _twin(self.dataset)
        if state["source"] is not None:
            source.load_state_dict(copy.deepcopy(state["source"]))
        self.given = state["given"]
        self._state = dict(state)
        values = iter(source)
        while block := list(itertools.islice(values, self.buffer)):
            behind = source.state_dict()  # itself a copy
            order = np.random.default_rng([self.seed, epoch, self._state["block"]]).permutation(len(block))
            for place in order[self._state["done"] :]:
                row = self._row(block[place], self._state["first"] + int(place))
                self._state["done"] += 1
                if row is not None:
                    self.given += 1
                    self._state["given"] = self.given
                    yield row
            self._state = {
                "source": behind,
                "block": self._state["block"] + 1,
                "first": self._state["first"] + len(block),
                "done": 0,
                "given": self.given,
            }

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last row given; small and JSON-able."""
        return copy.deepcopy(self._state)

    def texts(self, limit: int) -> Iterator[str]:
        """The first ``limit`` texts of the source, for training a tokenizer. Does not move the position."""
        probe = Stream(self.dataset, self.schema, buffer=1)
        keys = [k for k, m in self.schema.modalities.items() if m == "text"]
        found = (
            text for row in probe.rows(0) for k in keys for text in (row[k] if isinstance(row[k], list) else [row[k]])
        )
        yield from itertools.islice((t for t in found if t), limit)

    def _row(self, values: dict[str, Any], number: int) -> Row | None:
        """A row that has what its kind needs, or None."""
        for key, column in self.schema.columns.items():
            names = [column] if isinstance(column, str) else column
            if missing := [n for n in names if n not in values]:
                raise DataError(f"Row {number} of the stream has no column {missing[0]!r}, only {', '.join(values)}.")
            if key == "negatives" or self.schema.kind == "towers":
                continue
            value = values[names[0]]
            if value is None or (isinstance(value, str) and not value.strip()):
                self.log.skip(f"row {number}", f"nothing in column {names[0]!r}")
                return None
            if key == "score" and not np.isfinite(value):
                raise DataError(f"Column {names[0]!r} is NaN or infinite in row {number} of the stream.")
        row = make_row(values, number, self.schema, self._classes, self.log)
        if row is not None and self.schema.kind == "towers" and all(row[k] is None for k in self.schema.modalities):
            self.log.skip(f"row {number}", "neither of its two sides")
            return None
        return row


def _twin(dataset: datasets.IterableDataset) -> datasets.IterableDataset:
    """A copy with a position of its own.

    What `datasets` remembers of open file systems stays shared: it is one table of the whole process, and copying it in
    another thread adds entries to it while it is being copied.
    """
    shared = [value for name, value in vars(dataset).items() if name.endswith("hffs_cache")]
    return copy.deepcopy(dataset, {id(value): value for value in shared})
