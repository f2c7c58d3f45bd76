"""Rows of a data set with the schema applied: checked once, then taken in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data import fingerprint
from counterpoint.data.arrange import arranged
from counterpoint.data.classes import class_name, holds_class
from counterpoint.data.log import Log
from counterpoint.data.row import class_numbers, known_of, make_row, optional, unknown_class
from counterpoint.data.rowset import Facts
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler
from counterpoint.data.schema import Known, Row, RowSet, Schema
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets

Indices = Sequence[int] | np.ndarray


class Rows(Facts):
    """Map-style access to the usable rows.

    ``len(rows)``, ``rows[7]`` (a `Row`), ``rows[[3, 1]]`` (a list of them, in that order; rows whose image or
    recording turns out to be damaged are left out of it and listed in ``rows.log``). Rows without text, image,
    recording or label are dropped and counted. Raises `DataError` when nothing is left, when there is one class only,
    and when scores are NaN, all the same, or outside the range that the schema says.

    dataset: of `datasets`. schema: as `infer` gives it. log: of what is left out (None: a new one).
    """

    table = independent = True

    def __init__(self, dataset: datasets.Dataset, schema: Schema, *, log: Log | None = None) -> None:
        self.log = Log() if log is None else log
        self.dataset, self.schema = arranged(dataset, schema.changes, self.log), schema
        dataset = self.dataset
        for sentence in schema.notes:
            self.log.note(sentence)
        names = [c for value in schema.columns.values() for c in ([value] if isinstance(value, str) else value)]
        self._table: pa.Table = dataset.data.table.select(list(dict.fromkeys(names)))
        self._batches = self._table.to_batches()
        self._starts = np.cumsum([0] + [len(b) for b in self._batches])
        order = dataset._indices  # a selected or shuffled data set reads its table through these
        self._order = None if order is None else order.column(0).to_numpy().astype(np.int64)
        self._classes = class_numbers(dataset.features, schema)
        self.index = self._usable()
        self._checks()

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Rows:
        """Single texts as rows of the kind ``texts``."""
        import datasets  # here: importing it takes long

        schema = Schema(kind="texts", columns={TEXT: TEXT}, modalities={TEXT: TEXT})
        return cls(datasets.Dataset.from_dict({TEXT: list(texts)}), schema)

    # --- taking rows -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.index)

    @overload
    def __getitem__(self, which: int) -> Row: ...
    @overload
    def __getitem__(self, which: slice | Indices) -> list[Row]: ...
    def __getitem__(self, which: int | slice | Indices) -> Row | list[Row]:
        if isinstance(which, int | np.integer):
            found = self[[int(which)]]
            if not found:
                raise DataError(f"The {self._item()} of row {self.index[which]} cannot be read.")
            return found[0]
        numbers = self.index[which if isinstance(which, slice) else np.asarray(which, dtype=np.int64)]
        values = self._take(numbers)
        rows = (self.row({c: v[i] for c, v in values.items()}, int(n)) for i, n in enumerate(numbers))
        return [r for r in rows if r is not None]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), 256):
            yield from self[start : start + 256]

    def _take(self, numbers: np.ndarray) -> dict[str, list[Any]]:
        physical = numbers if self._order is None else self._order[numbers]
        # Batch by batch: taking from a table of many batches would first copy all of it into one.
        batch = np.searchsorted(self._starts, physical, side="right") - 1
        order = np.argsort(batch, kind="stable")
        parts = [
            self._batches[b].take(pa.array(physical[order[batch[order] == b]] - self._starts[b]))
            for b in np.unique(batch)
        ]
        back = np.argsort(order, kind="stable")
        found = pa.Table.from_batches(parts, self._table.schema)
        return found.combine_chunks().take(pa.array(back)).to_pydict()  # type: ignore[no-any-return]

    def row(self, values: dict[str, Any], number: int) -> Row | None:
        """The values of the columns as a `Row`, or None where an image cannot be decoded.

        values: column -> cell. number: of the row.
        """
        return make_row(values, number, self.schema, self._classes, self.log)

    def fingerprint(self) -> int:
        """32 bits of what all rows of the data set hold in the columns that are used, and of their order."""
        order = 0 if self._order is None else fingerprint.of_arrays(self._order)
        return fingerprint.of_table(self._table, self._table.column_names) ^ order

    # --- whole columns -----------------------------------------------------------------------------------------

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the data set over the usable rows, ``(len(self),)``, in their order.

        name: of the column.
        """
        if name not in self.dataset.column_names:
            raise DataError(f"There is no column {name!r}; there are {', '.join(self.dataset.column_names)}.")
        column = self.dataset.data.table.column(name)
        physical = self.index if self._order is None else self._order[self.index]
        untouched = len(physical) == len(column) and bool((np.diff(physical) == 1).all())
        return column if untouched else column.take(pa.array(physical))

    def labels(self) -> np.ndarray:
        """Class numbers, ``(len(self),)`` int64."""
        if "label" not in self.schema.columns:
            raise DataError(f"These rows have no labels: {self.schema.why}")
        return self._numbers("label")

    def sources(self) -> np.ndarray:
        """The numbers of the sources that the rows are from, ``(len(self),)`` int64; their names are in the schema."""
        if "source" not in self.schema.columns:
            raise DataError(
                f"Nothing says which source (file, task, language, domain) each row is from: {self.schema.why} "
                f"Name the column that does: --columns source=COLUMN (there are {', '.join(self.dataset.column_names)})"
            )
        return self._numbers("source")

    def _numbers(self, part: str) -> np.ndarray:
        column, numbers = self.column(str(self.schema.columns[part])), self._classes[part]
        if numbers is None:
            return column.to_numpy().astype(np.int64)
        encoded = column.combine_chunks().dictionary_encode()
        values = encoded.dictionary.to_pylist()
        if unknown := [v for v in values if class_name(v) not in numbers]:
            raise unknown_class(unknown[0], self.schema, part)
        return np.array([numbers[class_name(v)] for v in values], dtype=np.int64)[encoded.indices.to_numpy()]

    def codes(self, name: str) -> np.ndarray:
        """The values of any column as numbers, equal where the values are equal, ``(len(self),)`` int64.

        name: of the column.
        """
        return _codes(self.column(name))

    def keys(self) -> np.ndarray:
        """Each row's texts as numbers, ``(len(self), K)`` int64, equal where the trimmed texts are; -1: none."""
        codes, owner = self._coded(self._text_columns())
        order = np.argsort(owner, kind="stable")
        codes, owner = codes[order], owner[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)  # 0, 1, 2 ... within a row
        keys = np.full((len(self), int(place.max(initial=0)) + 1), -1, dtype=np.int64)
        keys[owner, place] = codes
        return keys

    def lengths(self) -> np.ndarray:
        """Characters of each row's longest text, ``(len(self),)`` int64; ones where rows have no text."""
        out = np.ones(len(self), dtype=np.int64)
        for name in self._text_columns():
            column, owner = _flat(self.column(name))
            np.maximum.at(out, owner, pc.fill_null(pc.utf8_length(column), 0).to_numpy().astype(np.int64))
        return out

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Every text of the rows, for training a tokenizer; at most ``limit``, spread evenly over the rows."""
        names = self._text_columns()
        rows = len(self) if limit is None else min(len(self), max(1, limit // max(1, len(names))))
        spread = np.linspace(0, len(self) - 1, rows).astype(np.int64) if rows < len(self) else np.arange(len(self))
        given = 0
        for start in range(0, len(spread), 10_000):
            values = self._take(self.index[spread[start : start + 10_000]])
            for i in range(len(spread[start : start + 10_000])):
                for name in names:
                    value = values[name][i]
                    for text in value if isinstance(value, list) else [value]:
                        if text and given != limit:
                            given += 1
                            yield text

    def known(self, modality: str) -> Known:
        """What the columns tell of the items of this modality."""
        return known_of(self.schema, modality, self._cells)

    def _cells(self, names: Sequence[str], limit: int) -> dict[str, list[Any]]:
        """Column -> its cells in at most ``limit`` rows, spread evenly."""
        some = self.index[np.linspace(0, len(self) - 1, min(len(self), limit)).astype(np.int64)]
        physical = pa.array(some if self._order is None else self._order[some])
        return {name: self._table.column(name).take(physical).to_pylist() for name in names}

    # --- parts -------------------------------------------------------------------------------------------------

    def by_source(self) -> dict[str, tuple[RowSet, np.ndarray]]:
        """The rows of each source that the schema names, where a row says which it is from."""
        if not self.schema.sources:
            return {}
        number = self.sources()
        places = {self.schema.sources[s]: np.flatnonzero(number == s) for s in np.unique(number)}
        return {name: (self.subset(at), at) for name, at in places.items()}

    def sampler(self, batch: int, seed: int) -> Sampler:
        """Of pairs, batches in which no text comes twice; of labelled rows, several of a class; of texts, like lengths
        together.

        batch: rows of each. seed: of their order."""
        match self.schema.kind:
            case "pairs":
                return NoDuplicates(self.keys(), batch, seed=seed)
            case "labelled" | "bags":
                return PxK(self.labels(), batch, seed=seed)
            case "texts" | "scored":
                return LengthBucketed(self.lengths(), batch, seed=seed)
        return super().sampler(batch, seed)

    def roomy(self, batch: int, seed: int) -> int:
        """Of pairs, those that share a text must not meet.

        batch: the largest that is asked for. seed: of the order that is tried."""
        if self.schema.kind == "pairs":
            keys = self.keys()
            while batch > 2 and NoDuplicates(keys, batch, seed=seed).rows_of_epoch < len(self) / 2:
                batch //= 2
        return batch

    def subset(self, which: Indices) -> Rows:
        """The rows at these positions, as `Rows` of the same data set (``row`` numbers stay).

        which: positions, or a slice.
        """
        out = object.__new__(Rows)
        out.__dict__.update(self.__dict__)
        out.index = self.index[np.asarray(which, dtype=np.int64)]
        return out

    def split(self, holdout: float | int, *, seed: int = 0, by: str | None = None) -> tuple[Rows, Rows]:
        """(the rest, the held-out part): a share (below 1) or a number of rows, the same for the same seed.

        Rows that share the value of column ``by`` stay on one side; without it, rows that share their first text do, so
        that no held-out anchor was trained on. The part can exceed the number asked for by one group.

        holdout: the share or the number. seed: of the draw.
        """
        n = len(self)
        size = round(holdout * n) if isinstance(holdout, float) and holdout < 1 else int(holdout)
        if not 0 < size < n:
            raise DataError(f"A hold-out of {holdout} is {size} of {n} rows; both sides need at least one row.")
        groups = self.codes(by) if by else self._first_text()
        names, groups = np.unique(groups, return_inverse=True)
        if len(names) < 2:
            raise DataError(f"All rows share one value of {by or TEXT!r}: they cannot be split.")
        order = np.random.default_rng(seed).permutation(len(names))
        until = np.searchsorted(np.cumsum(np.bincount(groups)[order]), size) + 1
        held = np.isin(groups, order[: min(int(until), len(names) - 1)])
        return self.subset(np.flatnonzero(~held)), self.subset(np.flatnonzero(held))

    # --- checks ------------------------------------------------------------------------------------------------

    def _usable(self) -> np.ndarray:
        """Numbers of the rows that have what their kind needs; the others are logged."""
        needed = {
            key: [c] if isinstance(c, str) else c
            for key, c in self.schema.columns.items()
            if key not in optional(self.schema)
        }
        total = self._table.num_rows if self._order is None else len(self._order)
        keep = np.ones(total, dtype=bool)
        present = {key: np.logical_or.reduce([self._present(n) for n in names]) for key, names in needed.items()}
        if self.schema.kind == "towers":
            keep = np.logical_or.reduce(list(present.values()))
            self._log_dropped(~keep, "rows with neither of their two sides")
            return np.flatnonzero(keep)
        for key, names in needed.items():
            what = modalities.of(self.schema.modalities[key]).missing if key in self.schema.modalities else f"no {key}"
            self._log_dropped(keep & ~present[key], f"rows with {what} in column {'+'.join(names)!r}")
            keep &= present[key]
        return np.flatnonzero(keep)

    def _present(self, name: str) -> np.ndarray:
        column = self._table.column(name)
        if any(name == self.schema.columns[part] and known is not None for part, known in self._classes.items()):
            mask = holds_class(column)
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            mask = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
        elif any(name == self.schema.columns[part] and known is None for part, known in self._classes.items()):
            mask = pc.greater_equal(column, 0)  # -1 is how an unlabelled row is written
        else:
            mask = pc.is_valid(column)
        found = pc.fill_null(mask, False).to_numpy()
        return found if self._order is None else found[self._order]

    def _log_dropped(self, dropped: np.ndarray, why: str) -> None:
        for number in np.flatnonzero(dropped):
            self.log.skip(f"row {number}", why)

    def _checks(self) -> None:
        if len(self) == 0:
            raise DataError(f"No usable row is left of {len(self.dataset):,}. {' '.join(self.log.lines())}")
        if self.schema.kind == "scored":
            self._check_scores()
        if "label" in self.schema.columns:
            found = np.unique(self.labels())
            if len(found) < 2:
                name = self.schema.columns["label"]
                other = next(iter(self.schema.modalities))
                raise DataError(
                    f"Column {name!r} holds one class only ({self.schema.labels[found[0]]!r}): there is nothing to "
                    f"tell apart. To learn without labels, type: --columns {other}={self.schema.columns[other]}"
                )
        if set(self.schema.modalities.values()) == {TEXT}:
            keys = self.keys()
            if (copies := _copies(keys)) > 0:
                self.log.note(f"{copies:,} of {len(self):,} rows repeat an earlier row's texts; they are kept.")
            if self.schema.kind in ("pairs", "scored"):
                self._check_pairs(keys[:, :2])

    def _check_pairs(self, sides: np.ndarray) -> None:
        """Notes pairs that teach nothing, and scores of the same two texts that contradict each other.

        sides: ``(N, 2)``, both texts as numbers.
        """
        kind = self.schema.kind
        if kind == "pairs" and (same := int((sides[:, 0] == sides[:, 1]).sum())):
            self.log.note(
                f"In {same:,} of {len(self):,} rows the positive is its anchor word for word: that teaches nothing. "
                "They are kept; leave them out, or give them another positive."
            )
        if kind == "pairs" and (bad := self._against_themselves()):
            self.log.note(
                f"In {bad:,} of {len(self):,} rows a negative is the row's own anchor or positive word for word: "
                "training would push apart what belongs together. They are kept; take these negatives out."
            )
        if kind == "scored":
            scores = self.scores()
            _, pair = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True)
            low, high = np.full(pair.max() + 1, np.inf), np.full(pair.max() + 1, -np.inf)
            np.minimum.at(low, pair, scores)
            np.maximum.at(high, pair, scores)
            if apart := int((high > low).sum()):
                worst = int((high - low).argmax())
                row = self.index[np.flatnonzero(pair == worst)[0]]
                self.log.note(
                    f"{apart:,} pairs of texts have several scores that contradict each other, up to {low[worst]:g} "
                    f"and {high[worst]:g} (first: row {row}). All are kept; keep one of each, or their mean."
                )

    def _check_scores(self) -> None:
        name, scores = self.schema.columns["score"], self.scores()
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise DataError(
                f"Column {name!r} is NaN or infinite in {len(bad):,} of {len(scores):,} rows (first: row "
                f"{self.index[bad[0]]}). Remove these rows or give them a score."
            )
        if self.schema.range is not None:
            self.within(*self.schema.range)
        low, high = float(scores.min()), float(scores.max())
        if low == high:
            raise DataError(f"Column {name!r} is {low:g} in every row: there is nothing to learn from equal scores.")
        self.log.note(f"Scores in column {name!r} reach from {low:g} to {high:g}.")

    def scores(self) -> np.ndarray:
        """``(N,)`` float64; rows of the kind ``scored`` have them."""
        found: np.ndarray = self.column(str(self.schema.columns["score"])).cast(pa.float64()).to_numpy()
        return found

    def within(self, low: float, high: float) -> None:
        """Raises `DataError` where scores lie outside of what there can be, with their number and the first one.

        low, high: the bounds, included.
        """
        name, scores = self.schema.columns["score"], self.scores()
        out = np.flatnonzero((scores < low) | (scores > high))
        if len(out):
            raise DataError(
                f"Column {name!r} lies outside {low:g} to {high:g} in {len(out):,} of {len(scores):,} rows (first: row "
                f"{self.index[out[0]]}, with {scores[out[0]]:g}). Correct these rows, or say what scores there can be: "
                "--columns range=LOWEST..HIGHEST"
            )

    def duplicates(self) -> int:
        """Rows whose texts are all those of an earlier row (0 for rows that hold anything but texts)."""
        if set(self.schema.modalities.values()) != {TEXT}:
            return 0
        return _copies(self.keys())

    # --- helpers -----------------------------------------------------------------------------------------------

    def _text_columns(self) -> list[str]:
        return [
            c
            for key, value in self.schema.columns.items()
            if key in self.schema.modalities and modalities.of(self.schema.modalities[key]).written
            for c in ([value] if isinstance(value, str) else value)
        ]

    def _coded(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The trimmed texts of columns as numbers, ``(n,)``, equal where the texts are, and the row each belongs to."""
        found = [_flat(self.column(name)) for name in names]
        if not found:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        parts = [column.cast(pa.large_string()) for column, _ in found]
        texts = pa.chunked_array([c for part in parts for c in part.chunks], pa.large_string())
        return _codes(pc.utf8_trim_whitespace(texts)), np.concatenate([owner for _, owner in found])

    def _against_themselves(self) -> int:
        """Rows of pairs in which a negative is the anchor or the positive."""
        named = self.schema.columns
        parts = {
            key: [c] if isinstance(c, str) else list(c) for key, c in named.items() if key in self.schema.modalities
        }
        against = parts.pop("negatives", [])
        if not against:
            return 0
        own = [name for columns in parts.values() for name in columns]
        codes, owner = self._coded([*own, *against])
        first = sum(len(_flat(self.column(name))[1]) for name in own)  # where the negatives begin
        keys = owner * (int(codes.max(initial=0)) + 2) + codes
        return len(np.unique(owner[first:][np.isin(keys[first:], keys[:first]) & (codes[first:] >= 0)]))

    def _first_text(self) -> np.ndarray:
        if set(self.schema.modalities.values()) != {TEXT}:
            return np.arange(len(self))
        return self.codes(self._text_columns()[0])

    def _item(self) -> str:
        """What a row holds beside texts, in a word."""
        return next((m for m in self.schema.modalities.values() if m != TEXT), TEXT)


def _copies(keys: np.ndarray) -> int:
    """Rows of ``(N, K)`` that equal an earlier one."""
    return len(keys) - len(np.unique(keys, axis=0))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Values as int64 codes by first appearance; null is -1."""
    encoded = column.dictionary_encode()
    parts = [pc.fill_null(c.indices, -1).to_numpy().astype(np.int64) for c in encoded.chunks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _flat(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """A column of texts, or of lists of texts, as texts and the row each belongs to."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return pc.list_flatten(column), pc.list_parent_indices(column).to_numpy().astype(np.int64)
    return column, np.arange(len(column), dtype=np.int64)
