"""Rows that a program made, rather than read from somewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from counterpoint.data.log import Log
from counterpoint.data.schema import Row, Schema


class Made:
    """A `RowSet` of rows in memory; those without a number (``row``) get their place as one."""

    def __init__(self, rows: Sequence[Row], schema: Schema | None = None) -> None:
        self.rows = [{"row": i, **row} for i, row in enumerate(rows)]
        self.schema = Schema(kind="items", columns={}) if schema is None else schema
        self.log = Log()
        self.index = np.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            return self.rows[which]
        return self.rows[which] if isinstance(which, slice) else [self.rows[int(i)] for i in which]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def texts(self, limit: int | None = None) -> Iterator[str]:
        found = (v for row in self.rows for v in row.values() if isinstance(v, str))
        return islice(found, limit)
