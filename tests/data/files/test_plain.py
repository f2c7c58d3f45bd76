"""Rows of plain columns are looked at as those of `datasets` are, whatever their layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.plain import Plain, is_plain, is_stream
from counterpoint.data.files.read import read, read_plain
from counterpoint.data.inspect import inspect
from counterpoint.data.log import Log

TEXTS = [f"a river of {i} stones" for i in range(12)]
LAYOUTS: dict[str, dict[str, list[Any]]] = {
    "texts": {"text": TEXTS},
    "labelled": {"text": TEXTS, "label": ["calm", "wild", None] * 4},
    "scored": {"a": TEXTS, "b": TEXTS[::-1], "score": [i / 4 for i in range(12)]},
    "lists": {"query": TEXTS, "pos": [[t, t + " there"] for t in TEXTS], "neg": [["no"]] * 12},
    "entailment": {"premise": TEXTS, "hypothesis": TEXTS[::-1], "label": [0, 1, 2] * 4},
    "table": {
        "height": [0.5 * i for i in range(12)],
        "wide": [i % 2 == 0 for i in range(12)],
        "species": ["a", "b"] * 6,
    },
    "parts": {"anchor": TEXTS, "positive": TEXTS[::-1], "split": ["train", "test"] * 6},
    "undecided": {"one": TEXTS, "two": TEXTS, "three": TEXTS},
    "numbers as texts": {"anchor": list(range(12)), "positive": TEXTS},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_inspection_is_the_same(name: str, tmp_path: Path) -> None:
    columns = LAYOUTS[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(dict(zip(columns, row))) + "\n" for row in zip(*columns.values())))
    assert read_plain(path, log=Log()) is not None
    found, whole = inspect(path), inspect(read(path, split="all"))
    assert found.notes[0] == f"Read {path}."
    assert [n for n in found.notes if not n.startswith("Read ")] == list(whole.notes)
    assert (found.rows, found.columns, found.plays) == (whole.rows, whole.columns, whole.plays)
    assert (found.duplicates, found.leakage) == (whole.duplicates, whole.leakage)


def test_what_is_not_plain_is_left_to_datasets(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "pictures.csv").write_text("image,caption\na.png,a dot\n")
    (tmp_path / "note.md").write_text("words\n")
    when = pa.table({"when": pa.array([0], pa.timestamp("s")), "text": ["a"]})
    pq.write_table(when, tmp_path / "when.parquet")
    said = pa.table({"text": ["a"]}).replace_schema_metadata({b"huggingface": b"{}"})
    pq.write_table(said, tmp_path / "said.parquet")
    for source in ("pictures.csv", "note.md", "when.parquet", "said.parquet", "none.csv"):
        log = Log()
        assert read_plain(tmp_path / source, log=log) is None
        assert log.lines() == []
    for other in ([str(tmp_path / "note.md")], "https://example.org/rows.csv", {"text": ["a"]}, tmp_path):
        assert read_plain(other, log=Log()) is None


def test_rows_are_taken_by_number_and_columns_by_name() -> None:
    rows = Plain(pa.table({"text": ["a", "b", "a"], "n": [3, 4, 5]}))
    assert rows.select(np.array([2, 1]))["n"].to_pylist() == [5, 4]
    assert rows.remove_columns("n").column_names == ["text"]
    assert rows.unique("text") == ["a", "b"]
    assert is_plain(rows.data.schema)
    assert not is_stream(rows)
