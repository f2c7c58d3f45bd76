"""Endless batches of rows, with a position that is saved and continued exactly."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Sampler
from counterpoint.data.schema import Row
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError, DataError


class Batches(Protocol):
    """What the trainer needs: endless lists of rows, and the position behind the last one given."""

    steps_per_epoch: int | None
    epoch: int

    def __iter__(self) -> Iterator[list[Row]]: ...
    def __next__(self) -> list[Row]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Loader:
    """Endless batches of `Rows`, epoch after epoch, in the order of a sampler.

    ``state_dict()`` is the position behind the last batch given, whatever a caller has prefetched: snapshot it right
    after ``next(loader)``. rank, world: this process takes every ``world``-th row of each batch.
    """

    def __init__(self, rows: Rows, sampler: Sampler, *, rank: int = 0, world: int = 1) -> None:
        if sampler.batch % world:
            raise ConfigError(f"A batch of {sampler.batch} rows cannot be shared evenly by {world} processes.")
        self.rows, self.sampler, self.rank, self.world = rows, sampler, rank, world
        self.steps_per_epoch: int | None = len(sampler)
        if self.steps_per_epoch == 0:
            raise DataError(f"{len(rows):,} rows make no batch of {sampler.batch:,}. Lower the batch.")
        self.epoch, self._done = 0, 0  # batches given of this epoch
        self._identity = self._identify()
        self._plan: Iterator[np.ndarray] | None = None

    def __iter__(self) -> Iterator[list[Row]]:
        return self

    def __next__(self) -> list[Row]:
        while True:
            rows = self.rows[self._next_indices()[self.rank :: self.world]]
            if rows:  # empty only where every image of the batch was damaged
                return rows

    def _next_indices(self) -> np.ndarray:
        if self._plan is None:
            self._plan = self.sampler.batches(self.epoch)
            for _ in range(self._done):
                next(self._plan)
        indices = next(self._plan, None)
        if indices is None:
            self.epoch, self._done, self._plan = self.epoch + 1, 0, None
            return self._next_indices()
        self._done += 1
        return indices

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches given of it, with what they are positions in; JSON-able."""
        return {"epoch": self.epoch, "done": self._done, "of": self._identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with exactly the batches that would have followed. `DataError` when rows or sampler differ."""
        if state["of"] != self._identity:
            changed = {k: (v, self._identity[k]) for k, v in state["of"].items() if v != self._identity[k]}
            said = "; ".join(f"{k} was {old}, is {new}" for k, (old, new) in changed.items())
            raise DataError(
                f"The position was saved for other batches ({said}): going on would repeat some rows and miss others. "
                "Resume with the same data and settings, or begin a new run."
            )
        self.epoch, self._done, self._plan = int(state["epoch"]), int(state["done"]), None

    def _identify(self) -> dict[str, Any]:
        s = self.sampler
        return {
            "sampler": type(s).__name__,
            "rows": len(self.rows),
            "batch": s.batch,
            "seed": s.seed,
            "index": zlib.crc32(self.rows.index.tobytes()),
        }


class StreamLoader:
    """Endless batches of a `Stream`. The number of steps in an epoch is not known."""

    steps_per_epoch: int | None = None

    def __init__(self, stream: Stream, batch: int) -> None:
        self.stream, self.batch = stream, batch
        self.epoch = 0
        self._rows: Iterator[Row] | None = None

    def __iter__(self) -> Iterator[list[Row]]:
        return self

    def __next__(self) -> list[Row]:
        found: list[Row] = []
        while len(found) < self.batch:
            if self._rows is None:
                self._rows = self.stream.rows(self.epoch)
            row = next(self._rows, None)
            if row is not None:
                found.append(row)
                continue
            if not self.stream.given:
                raise DataError(f"The stream gave no usable row. {' '.join(self.stream.log.lines())}")
            # A batch never spans two epochs: it could hold one row twice.
            small, found = found, []
            self.epoch, self._rows = self.epoch + 1, None
            if len(small) == self.stream.given:  # fewer rows than the batch: all of them
                return small
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "stream": self.stream.state_dict() if self._rows is not None else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self._rows = int(state["epoch"]), None
        if state["stream"] is not None:
            self._rows = self.stream.rows(self.epoch, state["stream"])
