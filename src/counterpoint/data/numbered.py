"""What row sets that are no tables share: rows made one by one from their numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from counterpoint.data.schema import Row


class Numbered(ABC):
    """A `RowSet` of which each row is made from its number. index: ``(len,)``, the numbers of the rows."""

    index: np.ndarray

    @abstractmethod
    def _row(self, number: int) -> Row: ...

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
        """Every text of the rows; none, unless a subclass knows better."""
        return iter(())
