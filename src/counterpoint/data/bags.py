"""Rows that belong together: the instances of a bag, and the one label that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.data.rowset import Numbered
from counterpoint.data.sampler import PxK, Sampler
from counterpoint.data.schema import Known, Row, Schema
from counterpoint.errors import DataError


class Bags(Numbered):
    """Bags of rows: those that share the value of the column ``bag``, in the order of their first rows.

    ``len(bags)``, ``bags[7]``: a `Row` with ``bag``, the list of its instances, and ``label``. Raises `DataError` for a
    bag whose rows disagree in their label. A bag of which no instance can be read is left out of what is given.
    """

    independent = True

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.item = next(iter(rows.schema.modalities))
        names = rows.codes(str(rows.schema.columns["bag"]))
        _, first, number = np.unique(names, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))  # bags are numbered by their first rows
        order = np.argsort(rank[number], kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(rank[number]))[:-1])
        labels = rows.labels()
        self._labels = np.array([labels[m[0]] for m in self._members], dtype=np.int64)
        for members, label in zip(self._members, self._labels):
            if (labels[members] != label).any():
                other = labels[members][labels[members] != label][0]
                known = rows.schema.labels
                raise DataError(
                    f"Bag {self._name(members)!r} has rows of the labels {known[label]!r} and {known[other]!r}; all "
                    "rows of a bag have one label. Mend the column, or name another with --columns bag=..."
                )
        self.index = np.arange(len(self._members))

    def _name(self, members: np.ndarray) -> Any:
        return self.rows.column(str(self.rows.schema.columns["bag"]))[int(members[0])].as_py()

    def fingerprint(self) -> int:
        """32 bits of what the rows of all bags hold."""
        return self.rows.fingerprint()

    @property
    def schema(self) -> Schema:
        """That of the instances."""
        return self.rows.schema

    @property
    def log(self) -> Log:
        """That of the instances."""
        return self.rows.log

    def __getitem__(self, which: Any) -> Any:
        """A `Row`, or, of a slice or of positions, a list of those that hold anything."""
        found = super().__getitem__(which)
        return [row for row in found if row["bag"]] if isinstance(found, list) else found

    def __iter__(self) -> Iterator[Row]:
        return iter(self[:])

    def _row(self, number: int) -> Row:
        held = self.rows[self._members[number]]
        return {"bag": [r[self.item] for r in held], "label": int(self._labels[number]), "row": number}

    def labels(self) -> np.ndarray:
        """Class numbers, ``(len(self),)`` int64."""
        return self._labels[self.index]

    def sampler(self, batch: int, seed: int) -> Sampler:
        """Several bags of a class in a batch.

        batch: bags of each. seed: of what is drawn."""
        return PxK(self.labels(), batch, seed=seed)

    def sizes(self) -> np.ndarray:
        """Instances of each bag, ``(len(self),)``."""
        return np.array([len(self._members[n]) for n in self.index])

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Every text of the instances, for training a tokenizer.

        limit: the most that are wanted (None: all).
        """
        return self.rows.texts(limit)

    def known(self, modality: str) -> Known:
        """What the columns tell of the instances."""
        return self.rows.known(modality)

    def subset(self, which: np.ndarray) -> Bags:
        """The bags at these positions."""
        out = object.__new__(Bags)
        out.__dict__.update(self.__dict__)
        out.index = self.index[np.asarray(which, dtype=np.int64)]
        return out

    def split(self, holdout: int, *, seed: int = 0) -> tuple[Bags, Bags]:
        """(the rest, about so many held-out bags): the same share of every class, whole bags on one side.

        holdout: number of bags. seed: of the draw.
        """
        rng, labels = np.random.default_rng(seed), self.labels()
        held = np.zeros(len(self), dtype=bool)
        for label in np.unique(labels):
            of_class = rng.permutation(np.flatnonzero(labels == label))
            held[of_class[: round(len(of_class) * holdout / len(self))]] = True
        if not held.any() or held.all():
            raise DataError(f"A hold-out of {holdout} of {len(self)} bags leaves one side without any.")
        return self.subset(np.flatnonzero(~held)), self.subset(np.flatnonzero(held))
