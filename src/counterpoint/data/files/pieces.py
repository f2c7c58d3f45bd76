"""The rows of many files as pieces that are read in any order: how long each is and where it begins is known before."""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.data.files import formats, store
from counterpoint.data.files.offsets import PIECE, Values, places, rows_from
from counterpoint.data.files.options import AS_FOUND, Reading
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.files import write_text

OPEN = 16
"""Files looked into at once: a store answers slowly, but many at a time."""


class Pieces:
    """Files, and what they are made of: pieces of rows that follow each other, each of which can be opened by itself.

    What has to be read to know that (the footers of parquet files; text and tar files once, whole) is remembered in
    ``cache``. Files without rows are left out and listed in the log.

    files: of rows. log: of the rows. reading: what is said of the files.
    """

    def __init__(self, files: Sequence[store.File], cache: Path, log: Log, reading: Reading = AS_FOUND) -> None:
        self.files, self.cache, self.log, self.reading = list(files), cache, log, reading

    def __len__(self) -> int:
        return len(self._table)

    @property
    def rows(self) -> int:
        """Rows in all, those that cannot be read included."""
        return int(self._table[:, 2].sum())

    @cached_property
    def digest(self) -> int:
        """Other pieces, other rows or other names of files: another number."""
        names = "\n".join(f.name for f in self.files)
        return zlib.crc32(self._table.tobytes() + names.encode())

    def order(self, seed: int, epoch: int) -> Order:
        """The pieces in the order of an epoch.

        seed: of the shuffle. epoch: from 0; each has an order of its own.
        """
        return Order(self, np.random.default_rng([seed, epoch]).permutation(len(self)))

    def read(self, piece: int, skip: int, n: int, columns: Sequence[str], log: Log) -> Iterator[tuple[int, Values]]:
        """``n`` rows of a piece after the first ``skip``, each with its number among all rows.

        columns: their names. log: of the rows.
        """
        file, at, _ = (int(x) for x in self._table[piece])
        first = int(self._firsts[piece]) + skip
        found = rows_from(self.files[file], at, skip, columns=columns, first=first, log=log, reading=self.reading)
        given = 0
        for values in itertools.islice(found, n):
            yield first + given, values
            given += 1
        if given < n:
            raise DataError(
                f"{self.files[file]} holds fewer rows than it did when they were counted. The rows of a run must stay "
                "as they are: put them back and add --resume, or begin a new run."
            )

    @cached_property
    def _firsts(self) -> np.ndarray:
        return np.cumsum(self._table[:, 2]) - self._table[:, 2]

    @cached_property
    def _table(self) -> np.ndarray:
        """(number of the file, place in it, rows) of each piece, ``(pieces, 3)``."""
        from counterpoint import processes  # here, as it imports torch, which a look into a file does not need

        n = len(self.files)
        # Processes on one machine begin at different files and find what the others have counted.
        turn = processes.rank() * n // processes.world()
        numbers = [*range(turn, n), *range(turn)]
        with ThreadPoolExecutor(OPEN) as pool:
            found = dict(zip(numbers, pool.map(lambda i: self._places(self.files[i]), numbers)))
        for i, file in enumerate(self.files):
            if not found[i]:
                self.log.skip(str(file), "no rows in it")
        table = [(i, at, rows) for i in range(n) for at, rows in found[i]]
        if not table:
            raise DataError(f"{self.files[0]}{' … ' if n > 1 else ''} holds no rows. Give files with at least one row.")
        return np.array(table, dtype=np.int64)

    def _places(self, file: store.File) -> list[tuple[int, int]]:
        if isinstance(file, Path) and formats.kind(file) in ("parquet", "arrow"):
            return places(file)  # their own index is as quickly read as ours
        key = hashlib.sha256(repr((store.state(file), PIECE, self.reading)).encode()).hexdigest()[:20]
        kept = self.cache / "places" / key[:2] / f"{key}.json"
        with suppress(OSError, ValueError):
            return [(at, rows) for at, rows in json.loads(kept.read_text())]
        found = places(file, self.reading)
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, json.dumps(found))
        return found


class Order:
    """Pieces in some order: one long row of rows, of which any part can be read.

    pieces: of which files. order: their numbers.
    """

    def __init__(self, pieces: Pieces, order: np.ndarray) -> None:
        self.pieces, self._order = pieces, order
        self._ends = np.cumsum(pieces._table[order, 2])

    def read(self, start: int, stop: int, columns: Sequence[str], log: Log) -> Iterator[tuple[int, Values]]:
        """The rows at ``start ... stop - 1`` of the order, with their numbers among all rows.

        columns: their names. log: of the rows.
        """
        place = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            piece, end = int(self._order[place]), int(self._ends[place])
            skip = start - (end - int(self.pieces._table[piece, 2]))
            yield from self.pieces.read(piece, skip, min(stop, end) - start, columns, log)
            start, place = end, place + 1


def pieces_of(dataset: Any) -> Pieces | None:
    """The pieces behind a data set that `counterpoint.data.files.tables.stream` made; None for any other.

    dataset: a stream.
    """
    found: Pieces | None = getattr(dataset, "_pieces", None)
    return found
