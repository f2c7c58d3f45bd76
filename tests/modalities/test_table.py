"""Cells: columns are learned from training rows, raw rows are read by them, holes and strangers are missing."""

import math

import pytest

from counterpoint.errors import DataError
from counterpoint.modalities.table import Columns

TABLE = {
    "kind": ["b", "a", "b", None],
    "sold": [True, False, True, True],
    "price": [1.0, 3.0, math.nan, 5],
    "floors": [2, 2, 2, 2],
}
COLUMNS = Columns.fit(TABLE)


def test_columns_are_what_training_rows_show() -> None:
    assert COLUMNS.names == ("kind", "sold", "price", "floors")
    assert COLUMNS.categories == {"kind": ["b", "a"], "sold": ["True", "False"]}  # the commonest first
    assert COLUMNS.sizes == (2, 2)
    assert COLUMNS.numbers["price"] == pytest.approx([3.0, math.sqrt(8 / 3)])
    assert COLUMNS.numbers["floors"] == [2.0, 1.0]  # a constant is not divided by 0


def test_rows_are_read_in_one_vocabulary_and_standardised() -> None:
    cells = COLUMNS.read([{"kind": "a", "sold": True, "price": 3 + math.sqrt(8 / 3), "floors": 3}])
    assert cells["codes"].tolist() == [[1, 2]]
    assert cells["values"].tolist() == [[pytest.approx(1.0), 1.0]]
    assert not cells["missing"].any()


def test_holes_strangers_and_absent_columns_are_missing() -> None:
    rows = [
        {"kind": "new", "sold": None, "price": math.nan, "floors": 2},
        {"kind": " ", "price": None, "more": 1},
        {"kind": None, "sold": None, "price": None, "floors": None},
    ]
    cells = COLUMNS.read(rows)
    assert cells["missing"].tolist() == [[True, True, True, False], [True] * 4, [True] * 4]
    assert not cells["codes"].any()
    assert not cells["values"].any()


def test_a_category_is_the_same_as_a_number_of_any_type() -> None:
    columns = Columns.fit({"zip": ["85255", "3"]})
    assert columns.read([{"zip": 3}, {"zip": 3.0}, {"zip": " 3 "}])["codes"].unique().tolist() == [0]


def test_one_sort_of_columns_will_do() -> None:
    assert Columns.fit({"x": [1.0, 2.0]}).read([{"x": 1.0}])["codes"].shape == (1, 0)
    assert Columns.fit({"x": ["a"]}).read([{"x": "a"}])["values"].shape == (1, 0)


def test_what_cannot_be_read_is_refused() -> None:
    for table, said in (
        ({}, "at least one column"),
        ({"x": [None, math.nan, ""]}, "'x' holds nothing in any of 3 rows"),
        ({"x": [1.0, math.inf]}, "'x' holds numbers; inf is none"),
        ({"x": [f"text {i}" for i in range(1_500)]}, "1,500 different texts in 1,500 cells"),
    ):
        with pytest.raises(DataError, match=said):
            Columns.fit(table)
    with pytest.raises(DataError, match="'price' holds numbers; 'dear' is none"):
        COLUMNS.read([{"price": "dear"}])
    with pytest.raises(DataError, match=r"none of the columns that the encoder knows: kind, sold.*The first has: a, b"):
        COLUMNS.read([{"a": 1, "b": 2}])


def test_scales_that_spoil_the_squared_error_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"column 'x' lies \d\d standard deviations from the mean.*logarithm"):
        Columns.fit({"x": [0.0] * 999 + [1.0]})
    columns = Columns.fit({"x": [0.0, 1.0, 2.0]})
    with pytest.warns(UserWarning, match="same unit"):
        columns.read([{"x": 1000.0 + i} for i in range(8)])
