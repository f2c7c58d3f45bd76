"""Endless batches of rows, with a position that is saved and continued exactly."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from counterpoint.data.files.readahead import Readers
from counterpoint.data.refreshed import Renewed
from counterpoint.data.sampler import Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.sharding import THREADS, Cut, Epoch, lanes_for
from counterpoint.data.stream import FrontToBack, Stream
from counterpoint.errors import DataError

HOPELESS = 10_000
"""Rows in a row that cannot be used, after which a stream counts as one without usable rows."""


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
    after ``next(loader)``. rank, world: this process takes every ``world``-th row of each batch; its share may be
    empty, so that all processes take the same number of steps. The position is the same in all of them.

    rows: any `RowSet`. sampler: says which of them make a batch.
    """

    def __init__(self, rows: RowSet, sampler: Sampler, *, rank: int = 0, world: int = 1) -> None:
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
            which, own = self._next_indices(), slice(self.rank, None, self.world)
            # What a renewed row holds depends on the whole batch, whoever has the others.
            rows = self.rows[which][own] if isinstance(self.rows, Renewed) else self.rows[which[own]]
            if rows or self.world > 1:  # alone, a batch in which every image was damaged is passed over
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
        """Continue with exactly the batches that would have followed. `DataError` when rows or sampler differ.

        state: of `state_dict`.
        """
        _refuse_other(state["of"], self._identity)
        self.epoch, self._done, self._plan = int(state["epoch"]), int(state["done"]), None

    def _identify(self) -> dict[str, Any]:
        s = self.sampler
        return {
            "sampler": type(s).__name__,
            "rows": len(self.rows),
            "batch": s.batch,
            "seed": s.seed,
            "index": zlib.crc32(self.rows.index.tobytes()),
            "content": self.rows.fingerprint(),
            **s.settings(),
        }


class StreamLoader:
    """Endless batches of a `Stream`: in every epoch each row once, whatever the number of processes.

    rank, world: this process reads its part of the data and gives its share of each batch, which may be empty. What a
    batch holds, over all processes, does not depend on their number (up to `lanes.LANES`[0]; with more, the number they
    began with stays in the position). The position is the same in all processes, and may be continued by any number.
    Rows that cannot be used make a batch smaller. stream: of rows. batch: rows of all processes together.
    """

    def __init__(self, stream: Stream, batch: int, *, rank: int = 0, world: int = 1) -> None:
        self.stream, self.batch, self.rank, self.world = stream, batch, rank, world
        self.epoch = 0
        self.steps_per_epoch: int | None = None
        self._lanes = 1
        if stream.pieces is not None:
            self.steps_per_epoch = Cut(stream.pieces.rows, batch).steps
            self._lanes = lanes_for(len(stream.pieces), world)
        elif world > 1:
            stream.log.note(
                f"This source cannot be opened in the middle: each of the {world} processes reads all of it. Files do "
                "better, also of a hub: hf://datasets/OWNER/NAME/*.parquet"
            )
        self._readers: Readers | None = None
        self._batches: Epoch | FrontToBack | None = None
        self._position: Any = None  # of a restored state, until its epoch goes on
        self._useful = False  # whether this epoch gave a batch
        self._unused = 0  # rows since the last one that could be used

    def __iter__(self) -> Iterator[list[Row]]:
        return self

    def __next__(self) -> list[Row]:
        while True:
            if self._batches is None:
                self._batches = self._begin()
            raws = next(self._batches, None)
            if raws is None:
                if not self._useful:
                    self._give_up()
                self.epoch, self._batches, self._position, self._useful = self.epoch + 1, None, None, False
                continue
            made = (self.stream.row(number, values) for number, values in raws)
            rows = [row for row in made if row is not None]
            self._unused = 0 if rows else self._unused + len(raws)
            if self._unused > HOPELESS:
                self._give_up()
            if rows or self.world > 1:
                self._useful = True
                return rows

    def _begin(self) -> Epoch | FrontToBack:
        stream, position = self.stream, self._position
        if stream.pieces is None:
            return FrontToBack(
                stream, batch=self.batch, epoch=self.epoch, position=position, rank=self.rank, world=self.world
            )
        self._readers = self._readers or Readers(THREADS)
        return Epoch(
            stream.pieces,
            columns=stream.columns,
            batch=self.batch,
            seed=stream.seed,
            epoch=self.epoch,
            done=position or 0,
            lanes=self._lanes,
            rank=self.rank,
            world=self.world,
            buffer=stream.buffer,
            readers=self._readers,
            log=stream.log,
        )

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position in it, with what it is a position in; small and JSON-able."""
        position = self._position
        if isinstance(self._batches, Epoch):
            position = self._batches.done
        elif self._batches is not None:
            position = copy.deepcopy(self._batches.position)
        return {"epoch": self.epoch, "position": position, "lanes": self._lanes, "of": self._identify()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with exactly the batches that would have followed. `DataError` when the data or its order differ.

        state: of `state_dict`.
        """
        _refuse_other(state["of"], self._identify())
        self.epoch, self._position, self._lanes = int(state["epoch"]), state["position"], int(state["lanes"])
        self._batches, self._useful = None, True

    def _identify(self) -> dict[str, Any]:
        stream = self.stream
        known = {} if stream.pieces is None else {"rows": stream.pieces.rows, "files": stream.pieces.digest}
        return {"batch": self.batch, "seed": stream.seed, "buffer": stream.buffer, **known}

    def _give_up(self) -> None:
        raise DataError(f"The stream gave no usable row. {' '.join(self.stream.log.lines())}")


def _refuse_other(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = {k: (then.get(k), now.get(k)) for k in {**then, **now} if then.get(k) != now.get(k)}
    if "content" not in then:  # a position of version 0.1.0, which did not look at what the rows hold
        changed.pop("content", None)
    if changed.keys() == {"content"}:
        raise DataError(
            "The rows are not those that the run was begun with: there are as many, but a cell differs. Put the file "
            "back as it was, or begin a new run (--overwrite, or another --out)."
        )
    if changed:
        said = "; ".join(f"{k} was {old}, is {new}" for k, (old, new) in changed.items())
        raise DataError(
            f"The position was saved for other batches ({said}): going on would repeat some rows and miss others. "
            "Resume with the same data and settings, or begin a new run."
        )
