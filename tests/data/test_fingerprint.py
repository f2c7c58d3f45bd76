"""The fingerprint of rows: equal for equal cells however they are stored, another for any cell that differs."""

from __future__ import annotations

import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from counterpoint.data import fingerprint

COLUMNS: dict[str, list[Any]] = {
    "text": ["a", "", None, "déjà", "bc"],
    "number": [1, None, 3, 4, 5],
    "float": [0.5, -0.0, None, 1e9, 2.0],
    "flag": [True, False, None, True, True],
    "list": [["a", "b"], [], None, ["ab"], ["c"]],
    "vector": [[1.0, 2.0], [3.0], [], [4.0], None],
    "struct": [{"bytes": b"x", "path": None}, {"bytes": None, "path": "p"}, None, {"bytes": b"", "path": ""}, None],
    "when": [datetime.date(2026, 1, day) for day in range(1, 6)],
    "decimal": [Decimal("1.50"), Decimal("2.00"), None, Decimal("0.25"), Decimal("3.00")],
}


def of(values: list[Any], cuts: tuple[int, ...] = ()) -> int:
    whole = pa.array(values)
    bounds = [0, *cuts, len(values)]
    chunks = [whole.slice(a, b - a) for a, b in pairwise(bounds)]
    return fingerprint.of_table(pa.table({"c": pa.chunked_array(chunks, whole.type)}), ["c"])


@pytest.mark.parametrize("name", COLUMNS)
def test_it_does_not_depend_on_how_the_column_is_cut(name: str) -> None:
    values = COLUMNS[name]
    assert of(values) == of(values, (1,)) == of(values, (2, 4))
    assert of(values[1:4]) == fingerprint.of_table(pa.table({"c": pa.array(values).slice(1, 3)}), ["c"])


@pytest.mark.parametrize("name", COLUMNS)
def test_any_cell_changes_it(name: str) -> None:
    values = COLUMNS[name]
    seen = {of(values)}
    for i in range(len(values)):
        other = next(v for v in values if v is not None and v != values[i])
        seen.add(of([*values[:i], other, *values[i + 1 :]]))
        seen.add(of([*values[:i], None, *values[i + 1 :]]))
    distinct = {repr(values)} | {
        repr([*values[:i], v, *values[i + 1 :]])
        for i in range(len(values))
        for v in (None, next(v for v in values if v is not None and v != values[i]))
    }
    assert len(seen) == len(distinct)


def test_where_a_text_ends_counts() -> None:
    assert of(["ab", "c"]) != of(["a", "bc"])
    assert of([["a"], ["b"]]) != of([["a", "b"], []])


def test_of_a_long_column_blocks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MOST", 2000)
    values = [f"row {i}" for i in range(5000)]
    assert of(values) == of(values, (17, 3000))
    assert of(values) != of(["other", *values[1:]])
    assert of(values) != of([*values[:-1], "other"])


def test_arrays() -> None:
    from scipy import sparse

    x = np.arange(6.0).reshape(2, 3)
    assert fingerprint.of_arrays(x, None) == fingerprint.of_arrays(np.asfortranarray(x), None)
    assert fingerprint.of_arrays(x) != fingerprint.of_arrays(x.reshape(3, 2))
    assert fingerprint.of_arrays(sparse.csr_array(x)) != fingerprint.of_arrays(sparse.csr_array(x * 2))
