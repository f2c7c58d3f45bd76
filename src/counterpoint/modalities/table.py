"""Rows of a table as tensors: what its columns are, learned from training rows, and how raw cells are read by it."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from counterpoint.errors import DataError
from counterpoint.modalities.base import Modality, is_number, is_text, is_truth

if TYPE_CHECKING:
    from torch import Tensor

TABLE = "table"

Table: TypeAlias = Mapping[str, Any]
"""The cells of one row: column -> a number, a text, True or False; None or NaN: the cell is missing."""

Cells: TypeAlias = "dict[str, Tensor]"
"""Rows as an encoder eats them: ``codes`` (N, K) long, numbers in the vocabulary of all categories; ``values`` (N, M)
float, standardised; ``missing`` (N, K + M) bool, categories first. What is missing is 0 in the other two."""

MOST_VALUES = 1_000
"""Values of a column of categories above which at least half of its cells must repeat another."""
CELLS = 12
"""Of a row in a report, at most."""
FAR = 20.0
"""Standard deviations from the mean at which a squared error is about one cell."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table, categories before numbers.

    categories: column -> the values known, the commonest first. numbers: column -> mean and standard deviation. Both
    are plain values, so that a configuration can hold them and a model folder reads raw cells.
    """

    categories: dict[str, list[str]]
    numbers: dict[str, list[float]]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, categories first."""
        return (*self.categories, *self.numbers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each column of categories."""
        return tuple(len(values) for values in self.categories.values())

    def __len__(self) -> int:
        return len(self.categories) + len(self.numbers)

    @classmethod
    def fit(cls, table: Mapping[str, Sequence[Any]]) -> Columns:
        """The columns as the cells of training rows show them.

        Texts and truth values are categories, everything else numbers. Raises `DataError` for a column without any
        cell, one that holds free text, and numbers that are infinite.
        """
        if not table:
            raise DataError("A table needs at least one column. Name them: --columns table=a+b+c")
        categories: dict[str, list[str]] = {}
        numbers: dict[str, list[float]] = {}
        for name, cells in table.items():
            found = [cell for cell in cells if not is_missing(cell)]
            if not found:
                raise DataError(f"The column {name!r} holds nothing in any of {len(cells):,} rows. Leave it out.")
            if any(isinstance(cell, str | bool | np.bool_) for cell in found):
                categories[name] = _values(name, found)
            else:
                numbers[name] = _scale(name, found)
        return cls(categories=categories, numbers=numbers)

    def read(self, rows: Sequence[Table]) -> Cells:
        """Raw rows as `Cells`. A column that a row does not have, and a value that training rows did not have, are
        missing cells; columns that are not known are passed over.

        Raises `DataError` where no row has any of the columns, and for a number that is none.
        """
        import torch  # here: what is known of the modality is had without it

        if rows and not any(name in row for row in rows for name in self.names):
            raise DataError(
                f"These rows have none of the columns that the encoder knows: {', '.join(self.names)}. The first has: "
                f"{', '.join(map(str, rows[0])) or 'nothing'}."
            )
        codes = np.zeros((len(rows), len(self.categories)), dtype=np.int64)
        values = np.zeros((len(rows), len(self.numbers)), dtype=np.float32)
        missing = np.ones((len(rows), len(self)), dtype=bool)
        offset = 0
        for k, (name, known) in enumerate(self.categories.items()):
            number = {value: offset + i for i, value in enumerate(known)}
            for i, row in enumerate(rows):
                cell = row.get(name)
                if not is_missing(cell) and (code := number.get(as_value(cell))) is not None:
                    codes[i, k], missing[i, k] = code, False
            offset += len(known)
        for m, (name, (mean, deviation)) in enumerate(self.numbers.items()):
            for i, row in enumerate(rows):
                if not is_missing(cell := row.get(name)):
                    values[i, m] = (_number(name, cell) - mean) / deviation
                    missing[i, len(self.categories) + m] = False
        self._look(values, missing[:, len(self.categories) :])
        return {name: torch.from_numpy(x) for name, x in (("codes", codes), ("values", values), ("missing", missing))}

    def _look(self, values: np.ndarray, missing: np.ndarray) -> None:
        """Warn of numbers in other units than those of the training rows."""
        for m, name in enumerate(self.numbers):
            there = values[~missing[:, m], m]
            if len(there) >= 8 and (middle := float(np.median(there))) and abs(middle) > FAR / 2:
                warnings.warn(
                    f"The numbers in column {name!r} lie {abs(middle):.0f} standard deviations away from those of the "
                    "training rows. Are they in the same unit?",
                    stacklevel=3,
                )


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or a blank text."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell))


def as_value(cell: Any) -> str:
    """A category as text: ``3`` and ``3.0`` are the same one.

    cell: of a column of categories.
    """
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        cell = int(cell)
    return str(cell).strip()


def _values(name: str, cells: Sequence[Any]) -> list[str]:
    counts = Counter(as_value(cell) for cell in cells)
    if len(counts) > MOST_VALUES and len(counts) * 2 > len(cells):
        raise DataError(
            f"The column {name!r} holds {len(counts):,} different texts in {len(cells):,} cells: these are no "
            "categories. Leave it out of the table."
        )
    return sorted(counts, key=lambda value: (-counts[value], value))


def _scale(name: str, cells: Sequence[Any]) -> list[float]:
    x = np.array([_number(name, cell) for cell in cells])
    mean, deviation = float(x.mean()), float(x.std()) or 1.0  # of a constant nothing can be learned, nor divided by
    if (far := float(np.abs(x - mean).max()) / deviation) > FAR:
        warnings.warn(
            f"A number in column {name!r} lies {far:.0f} standard deviations from the mean, where squared errors are "
            "about little else. Take the logarithm of the column, or repair it.",
            stacklevel=3,
        )
    return [mean, deviation]


def _number(name: str, cell: Any) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.inf
    if not math.isfinite(value):
        raise DataError(f"The column {name!r} holds numbers; {cell!r} is none. Leave the cell empty if it is missing.")
    return value


def shown(row: Table) -> str:
    """The cells that are there, each with the name of its column, escaped.

    row: cells by column.
    """
    cells = [(name, f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for name, cell in row.items()
             if not is_missing(cell)]  # fmt: skip
    told = "".join(f"<span><b>{escape(name)}</b> {escape(cell[:40])}</span> " for name, cell in cells[:CELLS])
    return f"<span class=cells>{told}{'…' if len(cells) > CELLS else ''}</span>"


def example(rng: np.random.Generator) -> dict[str, Any]:
    """Cells of two categories and two numbers, one in five of them missing.

    rng: every draw comes from it.
    """
    cells = {"kind": str(rng.choice(["a", "b", "c"])), "sold": bool(rng.random() < 0.5)}
    cells |= {"price": float(rng.normal()), "area": int(rng.integers(10))}
    return {name: None if rng.random() < 0.2 else cell for name, cell in cells.items()}


modality = Modality(
    name=TABLE,
    one="a row of a table",
    many="table rows",
    none="no table",
    empty=lambda cell: all(is_missing(value) for value in cell.values()),
    fits=lambda type_: is_text(type_) or is_number(type_) or is_truth(type_),
    columns="several",
    shown=shown,
    then=("counterpoint index {run} ROWS && counterpoint search {run} --table '{\"column\": 1}'",),
    example=example,
)
