"""Columns of every Arrow type become what the library knows, and nothing is lost on the way."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.errors import DataError

D = decimal.Decimal
TEXTS = ["some words", "other words", None]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20

COLUMNS: list[tuple[str, pa.Array, Any, list[Any]]] = [
    ("decimal", pa.array([D("0.5"), D("1.0"), None], pa.decimal128(2, 1)), pa.float64(), [0.5, 1.0, None]),
    ("whole decimal", pa.array([D(5), D(7), None], pa.decimal128(9, 0)), pa.int64(), [5, 7, None]),
    ("long decimal", pa.array([D(10**30), D(10**30 + 1), None], pa.decimal128(38, 0)), pa.decimal128(38, 0),
     [D(10**30), D(10**30 + 1), None]),
    ("dictionary", pa.array(TEXTS).dictionary_encode(), pa.string(), TEXTS),
    ("view", pa.array(TEXTS, pa.string_view()), pa.large_string(), TEXTS),
    ("large", pa.array(TEXTS, pa.large_string()), pa.large_string(), TEXTS),
    ("bytes of text", pa.array([b"a", "ü".encode(), None]), pa.large_string(), ["a", "ü", None]),
    ("list of dictionary", pa.array([["a"], ["b", "a"], None], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
     pa.list_(pa.string()), [["a"], ["b", "a"], None]),
    ("half", pa.array([0.5, 1.5, None], pa.float16()), pa.float32(), [0.5, 1.5, None]),
    ("map", pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())), None,
     [[{"key": "a", "value": 1}], [], None]),
    ("date", pa.array([datetime.date(2024, 1, 31), None, None]), pa.date32(), [datetime.date(2024, 1, 31), None, None]),
    ("struct", pa.array([{"a": D("1.5")}, None, None], pa.struct({"a": pa.decimal128(3, 1)})), None,
     [{"a": 1.5}, None, None]),
    ("nothing", pa.nulls(3), pa.null(), [None] * 3),
    ("unsigned", pa.array([2**64 - 1, 2**64 - 2, None], pa.uint64()), pa.uint64(), [2**64 - 1, 2**64 - 2, None]),
]  # fmt: skip


@pytest.mark.parametrize(("array", "type_", "values"), [c[1:] for c in COLUMNS], ids=[c[0] for c in COLUMNS])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_types(tmp_path: Path, array: pa.Array, type_: Any, values: list[Any], suffix: str) -> None:
    path, table = tmp_path / f"x.{suffix}", pa.table({"text": ["some words", "others", "more"], "x": array})
    if suffix == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        try:
            pq.write_table(table, path)
        except pa.ArrowNotImplementedError:
            pytest.skip("parquet has no such type")
    found = read(path)
    assert found.data.column("x").to_pylist() == values
    assert type_ is None or found.data.schema.field("x").type == type_
    assert "text" in infer(found).columns.values()
    assert [row["x"] for row in read(path, streaming=True)] == values


def test_bytes_of_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [PNG, PNG, None], "label": ["a", "b", "a"]}), tmp_path / "x.parquet")
    assert infer(read(tmp_path / "x.parquet")).modalities == {"image": "image"}


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("x.parquet", "x.arrow"):
        with pytest.raises(DataError, match="names a column twice: 'text'"):
            read(tmp_path / name)
