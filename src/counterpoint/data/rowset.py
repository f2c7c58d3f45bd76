"""Row sets that are no tables: rows made one by one from their numbers, and rows that a program made."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from counterpoint.data.log import Log
from counterpoint.data.row import width
from counterpoint.data.sampler import Sampler, Shuffled
from counterpoint.data.schema import CELLS_FROM, Known, Row, RowSet, Schema


class Facts:
    """What a `RowSet` answers of itself, unless it knows better."""

    table = independent = whole = mixed = False

    def by_source(self) -> dict[str, tuple[RowSet, np.ndarray]]:
        """No sources."""
        return {}

    def taught(self) -> RowSet | None:
        """All rows, where they are independent and have labels."""
        return self if self.independent else None  # type: ignore[return-value]  # what has these facts is a row set

    def sampler(self, batch: int, seed: int) -> Sampler:
        """Rows in any order.

        batch: rows of each. seed: of their order."""
        return Shuffled(len(self), batch, seed=seed)  # type: ignore[arg-type]

    def roomy(self, batch: int, seed: int) -> int:
        """All rows may meet.

        batch, seed: as of `RowSet.roomy`."""
        return batch


class Numbered(Facts, ABC):
    """A `RowSet` of which each row is made from its number. index: ``(len,)``, the numbers of the rows."""

    index: np.ndarray

    @abstractmethod
    def _row(self, number: int) -> Row: ...

    @abstractmethod
    def fingerprint(self) -> int:
        """32 bits of what the rows hold: another number where they hold something else."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: Any) -> Any:
        """A `Row`, or, of a slice or of positions, a list of them."""
        if isinstance(which, int | np.integer):
            return self._row(int(self.index[which]))
        return [self._row(int(n)) for n in self.index[which]]

    def __iter__(self) -> Iterator[Row]:
        return (self._row(int(n)) for n in self.index)

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Every text of the rows; none, unless a subclass knows better.

        limit: the most that are wanted (None: all).
        """
        return iter(())

    def known(self, modality: str) -> Known:
        """What the rows tell of items of this modality; nothing, unless a subclass knows better."""
        return Known()


class Made(Facts):
    """A `RowSet` of rows in memory; those without a number (``row``) get their place as one.

    rows: any number of them. schema: of the rows (None: told by their parts).

    >>> rows = Made([{"text": "a boat"}, {"text": "a car"}])
    >>> len(rows), rows[1], list(rows.texts())
    (2, {'row': 1, 'text': 'a car'}, ['a boat', 'a car'])
    """

    def __init__(self, rows: Sequence[Row], schema: Schema | None = None) -> None:
        self.rows = [{"row": i, **row} for i, row in enumerate(rows)]
        self.schema = Schema(kind="items", columns={}) if schema is None else schema
        self.log = Log()
        self.index = np.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def fingerprint(self) -> int:
        """32 bits of what the rows hold, as far as it can be written out."""
        return zlib.crc32(repr(self.rows).encode())

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            return self.rows[which]
        return self.rows[which] if isinstance(which, slice) else [self.rows[int(i)] for i in which]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Every text of the rows, at most ``limit`` of them (None: all)."""
        found = (v for row in self.rows for v in row.values() if isinstance(v, str))
        return islice(found, limit)

    def known(self, modality: str) -> Known:
        """The width of the first item, where it is a vector; the cells of the first ones, where they are mappings.

        modality: its name.
        """
        items = [row[modality] for row in islice(self.rows, CELLS_FROM) if row.get(modality) is not None]
        if not items or not isinstance(items[0], Mapping):
            return Known(width=width(items[0]) if items else 0)
        return Known(cells={name: [item.get(name) for item in items] for name in items[0]})
