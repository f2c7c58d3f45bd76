"""Rows that are in memory: whatever holds them, the same table comes out as from a file; what is not read is named."""

from __future__ import annotations

import decimal
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.read import read
from counterpoint.data.log import Log
from counterpoint.data.objects import dataset
from counterpoint.errors import DataError

ROWS = [{"text": "a rose", "label": 1}, {"text": "a boat", "label": 2}, {"text": None, "label": None}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}


def same(given: Any) -> None:
    found = dataset(given)
    assert found.column_names == ["text", "label"]
    assert found.to_list() == ROWS
    assert found.features["label"].dtype == "int64"
    assert read(given).to_list() == ROWS


def test_the_same_rows_in_everything_that_holds_them() -> None:
    table = pa.table(COLUMNS)
    arrow: list[Any] = [table, table.to_batches()[0], table.set_column(0, "text", table["text"].cast(pa.string_view()))]
    held = datasets.Dataset.from_dict(COLUMNS)
    for given in (ROWS, tuple(ROWS), COLUMNS, *arrow, held, held.with_format("numpy"), datasets.DatasetDict(all=held)):
        same(given)


def test_data_frames_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS).astype({"label": "Int64"})
    same(frame)
    same(frame.astype({"text": "category"}))
    same(frame.astype({"text": object}))
    same(frame.set_index(pandas.Index([3, 1, 2])))
    log = Log()
    assert dataset(frame.set_index("label"), log=log).column_names == ["text"]
    assert "The index of the DataFrame (label) is left out" in " ".join(log.lines())
    rich = pandas.DataFrame(
        {
            "whole": pandas.array([1, None], dtype="Int8"),
            "truth": pandas.array([True, None], dtype="boolean"),
            "part": [0.5, np.nan],
            "price": [decimal.Decimal("1.25"), None],
            "day": pandas.to_datetime(["2026-01-01", None]),
            "kind": pandas.Categorical([7, 3]),
            "many": [["a"], ["b", "c"]],
        }
    )
    rich.to_parquet(tmp_path / "x.parquet")
    expected = read(tmp_path / "x.parquet")
    assert dataset(rich).features == expected.features
    assert dataset(rich).to_list() == expected.to_list()
    assert dataset(rich)["whole"] == [1, None]
    assert dataset(rich)["part"] == [0.5, None]
    assert dataset(rich)["price"] == [1.25, None]
    assert dataset(frame["text"]).to_list() == [{"text": row["text"]} for row in ROWS]


def test_data_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(COLUMNS)
    same(frame)
    same(frame.lazy())
    same(frame.with_columns(polars.col("text").cast(polars.Categorical)))
    priced = polars.DataFrame({"price": ["1.25"]}).with_columns(polars.col("price").cast(polars.Decimal(10, 2)))
    assert dataset(priced).to_list() == [{"price": 1.25}]
    assert dataset(frame["text"]).column_names == ["text"]
    with pytest.raises(DataError, match="Column 'held' of the DataFrame holds Python objects"):
        dataset(polars.DataFrame({"held": polars.Series([object()], dtype=polars.Object)}))


def test_neither_is_imported_for_rows_that_are_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    same(ROWS)
    same(COLUMNS)


def test_texts_arrays_and_pictures() -> None:
    assert dataset(["a", "b", None]).to_list() == [{"text": "a"}, {"text": "b"}, {"text": None}]
    torch = pytest.importorskip("torch")
    for vectors in (np.eye(2, 3, dtype=np.float32), torch.eye(2, 3), [np.eye(2, 3)[0], np.eye(2, 3)[1]]):
        found = dataset({"vector": vectors, "label": np.array([4, 5])})
        assert found.to_list() == [{"vector": [1.0, 0, 0], "label": 4}, {"vector": [0.0, 1, 0], "label": 5}]
    pictures = pytest.importorskip("PIL.Image")
    found = dataset([{"image": pictures.new("RGB", (3, 2), (9, 8, 7)), "label": "c"}])
    assert isinstance(found.features["image"], datasets.Image)
    assert np.asarray(found[0]["image"]).tolist() == [[[9, 8, 7]] * 3] * 2
    assert dataset([{"path": Path("a.png")}]).to_list() == [{"path": "a.png"}]


def test_parts() -> None:
    parts = datasets.DatasetDict({n: datasets.Dataset.from_dict({"text": [n]}) for n in ("train", "test")})
    log = Log()
    assert dataset(parts, log=log)["text"] == ["train"]
    assert "Of the parts train, test of the DatasetDict, train is used." in log.lines()
    assert dataset(parts, split="test")["text"] == ["test"]
    assert sorted(dataset(parts, split="all")["text"]) == ["test", "train"]
    with pytest.raises(DataError, match=r"has the parts train, test, not 'dev'\. Give split='train'"):
        dataset(parts, split="dev")
    rows = [{"text": "a", "split": "train"}, {"text": "b", "split": "test"}]
    assert read(rows, split="test").to_list() == rows[1:]
    with pytest.raises(DataError, match="The list: column 'split' holds train, test, not 'dev'"):
        read(rows, split="dev")
    assert [row["text"] for row in read(rows, streaming=True)] == ["a", "b"]
    stream = datasets.Dataset.from_dict({"text": ["a"]}).to_iterable_dataset()
    assert read(stream) is stream


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"a": "x"}, {"a": 1}], r"Column 'a' mixes int \(row 1\) and str \(row 0\)"),
        ([{"a": 1}, {"a": True}], r"Column 'a' mixes bool \(row 1\) and int \(row 0\)"),
        ({"a": ["x", 2.5]}, r"Column 'a' mixes float \(row 1\) and str \(row 0\)"),
        ([{"a": 1}, {"a": 2**70}], r"Column 'a' holds in row 1 .* a int that is not read"),
        ([{"a": object()}], r"Column 'a' holds in row 0 .* a object that is not read"),
        ([{"a": "\ud800"}], r"Column 'a' holds in row 0"),
        ([{"a": 1}, "b"], r"Row 1 \(counted from 0\) is of the type str, where a dict"),
        (["a", 3], r"Row 1 .* is of the type int, where a text is expected"),
        ([1, 2], r"Row 0 .* is of the type int"),
        ([{1: "a"}], "name of a column is a string; 1 is a int"),
        ({1: ["a"]}, "name of a column is a string; 1 is a int"),
        ({"a": ["x"], "b": [1, 2]}, "different numbers of values: a 1, b 2"),
        ({"a": "x"}, "Column 'a' of the dict is a str"),
        ({"a": {"b": 1}}, "Column 'a' of the dict is a dict"),
        ([], "holds no rows"),
        ([{}], "without any column"),
        (pa.table({"a": pa.array([], pa.string())}), "holds no rows"),
        (pa.table([["x"], ["y"]], names=["a", "a"]), "'a'"),
        (3, "A int is no source of rows. Give a pandas or polars DataFrame"),
        (b"text", "A bytes is no source of rows"),
        (object(), "A object is no source of rows"),
    ],
)
def test_what_cannot_be_read_is_named(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset(given)


def test_frames_that_cannot_be_read_are_named() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"Column 'a' mixes int \(row 1\) and str \(row 0\)"):
        dataset(pandas.DataFrame({"a": ["x", 1]}))
    with pytest.raises(DataError, match="has two columns 'a'"):
        dataset(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(DataError, match="columns of several levels"):
        dataset(pandas.DataFrame([[1]], columns=pandas.MultiIndex.from_tuples([("a", "b")])))
    with pytest.raises(DataError, match="Column 'a'"):
        dataset(pandas.DataFrame({"a": [1 + 2j]}))


def test_a_list_of_strings_names_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    assert read([str(tmp_path / "x.parquet")])["text"] == ["a"]
    with pytest.raises(DataError, match="There is no file or folder 'a rose'"):
        read(["a rose", "a boat"])
