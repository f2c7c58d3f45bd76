"""Rows of plain columns as a data set that answers what `datasets.Dataset` is asked here, without its import.

That import takes longer than all else that a look into a file does. Only what has no classes and no files in its
columns is plain; everything else is read as a `datasets.Dataset`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.modalities.base import is_list, is_number, is_text, is_truth

OF_DATASETS = b"huggingface"
"""Under this name `datasets` keeps, in a file, what its columns are."""


def is_plain(schema: pa.Schema) -> bool:
    """Whether all columns are texts, numbers, truth values, or lists of such, of which nothing else is said.

    schema: of a table."""
    said = schema.metadata or {}
    return OF_DATASETS not in said and all(_is_plain(field.type) for field in schema)


def _is_plain(type_: pa.DataType) -> bool:
    one = type_.value_type if is_list(type_) else type_
    return bool(is_text(one) or is_number(one) or is_truth(one) or pa.types.is_null(one))


def is_stream(rows: Any) -> bool:
    """Whether rows are a stream of `datasets`, which is not imported to tell."""
    known = sys.modules.get("datasets")
    return known is not None and isinstance(rows, known.IterableDataset)


class Held:
    """What `Plain.data` answers. table: the rows."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.schema, self.column = table, table.schema, table.column


class Plain:
    """Rows that are an Arrow table.

    table: its columns are plain (`is_plain`).

    >>> rows = Plain(pa.table({"text": ["a", "b", "a"]}))
    >>> len(rows), rows.column_names, rows.unique("text"), len(rows.select([2]))
    (3, ['text'], ['a', 'b'], 1)
    """

    _indices = None

    def __init__(self, table: pa.Table) -> None:
        self.data, self.features = Held(table), dict.fromkeys(table.column_names)
        self.column_names: list[str] = table.column_names

    def __len__(self) -> int:
        return int(self.data.table.num_rows)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        return self.data.column(name)

    def with_format(self, kind: str) -> Plain:
        """Itself: its columns are Arrow's, the only kind that is asked for."""
        assert kind == "arrow"
        return self

    def unique(self, name: str) -> list[Any]:
        """The values of a column, in the order in which they first come.

        name: of the column."""
        return pc.unique(self.data.column(name)).to_pylist()  # type: ignore[no-any-return]

    def select(self, rows: Sequence[int] | np.ndarray) -> Plain:
        """Some rows by their numbers."""
        return Plain(self.data.table.take(pa.array(np.asarray(rows))))

    def remove_columns(self, name: str) -> Plain:
        """All columns but one.

        name: of the one that goes."""
        return Plain(self.data.table.drop_columns([name]))
