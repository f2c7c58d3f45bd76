"""Pairs whose hard negatives are replaced while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from counterpoint.data.rows import Rows


class Renewed(Rows):
    """`Rows` of pairs, with the negatives that were mined last in place of their own (which they have until then).

    mined: what negatives are numbers of. negatives: ``(len, n)`` such numbers, -1: none; None: nothing mined yet.
    banned: for each row, the numbers of the texts that its anchor must not have. A negative that
    some other anchor of the same batch must not have is left out of the batch, as methods show it to all its rows.
    """

    mined: Sequence[str]
    negatives: np.ndarray | None
    banned: Sequence[np.ndarray]
    _by_number: np.ndarray

    @classmethod
    def of(cls, rows: Rows, mined: Sequence[str], banned: Sequence[np.ndarray]) -> Renewed:
        """The same rows with what was mined for them. rows: the pairs. mined: texts that may be negatives. banned: for
        each row, numbers of those that must not be."""
        out = object.__new__(cls)
        out.__dict__.update(rows.__dict__)
        out.mined, out.banned, out.negatives = mined, banned, None
        out._by_number = np.argsort(out.index, kind="stable")
        return out

    def __getitem__(self, which: Any) -> Any:
        found = super().__getitem__(which)
        if self.negatives is None or isinstance(found, dict):  # a single row was taken as a list of one
            return found
        numbers = np.array([row["row"] for row in found], dtype=np.int64)
        places = self._by_number[np.searchsorted(self.index, numbers, sorter=self._by_number)]
        wrong = {int(text) for place in places for text in self.banned[place]}
        for row, place in zip(found, places):
            row["negatives"] = [self.mined[i] for i in self.negatives[place] if i >= 0 and int(i) not in wrong]
        return found
