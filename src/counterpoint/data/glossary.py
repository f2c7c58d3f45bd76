"""A glossary: entries, and the texts that say what they are, as rows of pairs give them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Self

import numpy as np

from counterpoint.data.schema import Row
from counterpoint.errors import DataError


class Glossary:
    """Entries (the anchors of pairs) with their definitions (the positives), spaces around them taken off.

    definitions: the distinct ones. owners: ``(P, 2)`` pairs of a definition and an entry, each once. size: of the
    entries. repeated: definitions that stand under several entries. rows: pairs.

    >>> glossary = Glossary([{"anchor": "cat", "positive": "it purrs"}, {"anchor": "cat", "positive": "it meows"}])
    >>> glossary.size, glossary.entry("it meows")
    (1, 0)
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        entries: dict[str, int] = {}
        definitions: dict[str, int] = {}
        owners: dict[tuple[int, int], None] = {}
        for row in rows:
            entry = entries.setdefault(row["anchor"].strip(), len(entries))
            definition = definitions.setdefault(row["positive"].strip(), len(definitions))
            owners[definition, entry] = None
        self.definitions, self.size = list(definitions), len(entries)
        self.owners = np.array(list(owners), dtype=np.int64).reshape(-1, 2)
        times = Counter(definition for definition, _ in owners)
        self.repeated = sum(n > 1 for n in times.values())
        self._entry = {d: -1 if times[i] > 1 else -2 for d, i in definitions.items()}
        for definition, entry in owners:
            text = self.definitions[definition]
            self._entry[text] = entry if self._entry[text] == -2 else -1

    @classmethod
    def whole(cls, rows: Iterable[Row]) -> Self:
        """The glossary that a training classifies into: tells of definitions of several entries, and raises `DataError`
        where there are not two entries to tell apart.

        rows: pairs.
        """
        found = cls(rows)
        if found.size < 2:
            raise DataError(f"The glossary has {found.size} entry; there is nothing to tell apart with fewer than two.")
        if found.repeated:
            warnings.warn(
                f"{found.repeated:,} of {len(found.definitions):,} definitions stand under several entries. They count "
                "for the targets of all of them, but are not learned from, as they have no one answer.",
                stacklevel=3,
            )
        return found

    def entry(self, definition: str) -> int:
        """The number of the entry that a definition is of; -1 where it is of several."""
        return self._entry[definition.strip()]
