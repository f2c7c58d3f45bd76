"""Several sets of rows as one, each staying what it is: files of unlike sizes, columns or kinds in one run."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.data.rowset import Facts
from counterpoint.data.schema import SOURCED, Known, Row, RowSet, Schema
from counterpoint.errors import DataError

FEWEST_HELD = 10
"""Rows of a part that are worth holding out."""


class Mixed(Facts):
    """A `RowSet` of the rows of several `Rows`, one after another.

    parts: the rows of each source, by its name. A row is that of its part, with ``source``, the number of the part
    (replacing one of its own), and ``row`` counted on from part to part. The schema's kind is that of all parts, or
    ``mixed`` where they differ; its ``parts`` are theirs. Raises `DataError` for kinds that cannot be mixed. log: that
    goes on (None: a new one).
    """

    independent = mixed = True

    def __init__(self, parts: Mapping[str, Rows], *, log: Log | None = None) -> None:
        for name, part in parts.items():
            if part.schema.kind not in SOURCED:
                raise DataError(
                    f"{name} holds {part.schema.why.rstrip('.')}. Files of these kinds can be mixed: "
                    f"{', '.join(SOURCED)}. Learn from it by itself."
                )
        self.names, self.parts = tuple(parts), tuple(parts.values())
        self.log = Log() if log is None else log
        self.schema = _schema(self.names, [p.schema for p in self.parts])
        self._ends = np.cumsum([len(p) for p in self.parts])
        self._first = np.cumsum([0, *(len(p.dataset) for p in self.parts)])
        self.index = np.concatenate([p.index + first for p, first in zip(self.parts, self._first)])

    def __len__(self) -> int:
        return len(self.index)

    def fingerprint(self) -> int:
        """32 bits of what the rows of all sources hold."""
        return zlib.crc32(repr([part.fingerprint() for part in self.parts]).encode())

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            return self[[int(which)]][0]
        places = np.arange(len(self))[which if isinstance(which, slice) else np.asarray(which, dtype=np.int64)]
        sources = self.sources()[places]
        found: dict[int, Row] = {}
        for s in np.unique(sources):
            start = self._ends[s] - len(self.parts[s])
            for row in self.parts[s][places[sources == s] - start]:
                number = row["row"] + int(self._first[s])
                found[number] = {**row, "row": number, "source": int(s)}
        return [found[n] for n in self.index[places].tolist() if n in found]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), 256):
            yield from self[start : start + 256]

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Texts of all parts, of each at most an equal share of the limit: no part's words crowd out another's."""
        each = None if limit is None else -(-limit // len(self.parts))
        return islice((text for part in self.parts for text in part.texts(each)), limit)

    def known(self, modality: str) -> Known:
        """What the parts tell together. Raises `DataError` where their vectors differ in width.

        modality: its name.
        """
        found = {name: part.known(modality) for name, part in zip(self.names, self.parts)}
        widths = {name: k.width for name, k in found.items() if k.width}
        if len(set(widths.values())) > 1:
            said = ", ".join(f"{name}: {width:,}" for name, width in widths.items())
            raise DataError(f"The sources hold {modality}s of unlike widths ({said}), and an encoder reads one width.")
        columns = dict.fromkeys(column for k in found.values() for column in k.cells)
        cells = {c: [cell for k in found.values() for cell in k.cells.get(c, ())] for c in columns}
        return Known(width=next(iter(widths.values()), 0), cells=cells)

    def by_source(self) -> dict[str, tuple[RowSet, np.ndarray]]:
        """The parts."""
        places = np.split(np.arange(len(self)), self._ends[:-1])
        return {name: (part, at) for name, part, at in zip(self.names, self.parts, places)}

    def sources(self) -> np.ndarray:
        """The number of each row's part, ``(len(self),)`` int64."""
        return np.repeat(np.arange(len(self.parts)), [len(p) for p in self.parts])

    def labels(self) -> np.ndarray:
        """Class numbers, ``(len(self),)`` int64, where all parts have the same classes."""
        if self.schema.kind != "labelled":
            raise DataError(f"These rows have no labels in common: {self.schema.why}")
        return np.concatenate([p.labels() for p in self.parts])

    def split(self, holdout: int, *, seed: int = 0) -> tuple[Mixed, Mixed]:
        """(the rest, about so many held-out rows): an equal number of each part, but at most a tenth of it.

        Parts too small to spare `FEWEST_HELD` rows are not held out from; the log names them.

        holdout: number of rows. seed: of the draws.
        """
        rest, held = dict(zip(self.names, self.parts)), {}
        for name, part in rest.items():
            size = min(-(-holdout // len(self.parts)), len(part) // 10)
            held[name] = part.subset([])
            if size >= FEWEST_HELD:
                rest[name], held[name] = part.split(size, seed=seed)
            else:
                self.log.note(f"{name}: {len(part):,} rows are too few to hold a part out.")
        if not any(map(len, held.values())):
            raise DataError("No source has enough rows.")
        return Mixed(rest, log=self.log), Mixed(held, log=self.log)


def _schema(names: Sequence[str], schemas: Sequence[Schema]) -> Schema:
    kinds, labels = {s.kind for s in schemas}, {s.labels for s in schemas}
    alike = len(kinds) == 1 and len(labels) == 1  # numbers of classes with other names are no common labels
    said = "; ".join(f"{name} holds {s.why.rstrip('.')}" for name, s in zip(names, schemas))
    kind = schemas[0].kind if alike else "mixed"
    return Schema(
        kind=kind,
        columns=dict(schemas[0].columns) if alike else {},
        modalities={role: m for s in schemas for role, m in s.modalities.items()},
        labels=schemas[0].labels if alike else (),
        sources=tuple(names),
        parts=tuple(schemas),
        why=f"{kind}: {said}.",
    )
