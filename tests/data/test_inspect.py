"""What a look into a source finds, counted by hand; and leakage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from rich.console import Console

from counterpoint.data.inspect import inspect, leakage, normalise
from counterpoint.errors import DataError


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_leakage_counts_texts_whatever_their_case_and_punctuation() -> None:
    train = ["A man, playing.", "Zwölf", "!!!", "ﬁne"]
    assert leakage(train, ["a MAN playing", "zwölf", "zwölf", "new", "!!!", "???", "fine"]) == 5
    assert leakage([], ["x"]) == leakage(["x"], []) == 0
    assert normalise("  It's—ﬁne! ") == "it s fine"


def test_columns_are_counted(tmp_path: Path) -> None:
    rows = [{"text": t, "label": y, "score": s} for t, y, s in (
        ("one two", "a", 1.0), ("one two", "a", 3.0), ("x", "b", None), ("", "b", float("nan")), (None, None, 2.0),
    )]  # fmt: skip
    found = inspect(jsonl(tmp_path / "x.jsonl", rows))
    columns = {c.name: c for c in found.columns}
    assert found.rows == 5
    text = columns["text"]
    assert (text.type, text.missing, text.distinct) == ("text", 2, 2)
    assert (text.characters[0], text.characters[2], text.characters[-1]) == (1, 7, 7)
    assert (text.words[0], text.words[-1]) == (1, 2)
    assert columns["label"].distinct == 2
    assert columns["score"].range == (1.0, 3.0)
    assert (columns["score"].nan, columns["score"].missing) == (1, 1)
    assert found.duplicates == 1
    assert found.plays.startswith("labelled: ")


def test_classes_are_counted() -> None:
    data = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(30)], "label": [0] * 20 + [1] * 9 + [-1]})
    data = data.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    label = inspect(data).columns[1]
    assert label.classes == (("no", 20), ("yes", 9), ("none", 1))


def test_leakage_between_files_and_splits(tmp_path: Path) -> None:
    a = jsonl(tmp_path / "a.jsonl", [{"text": "One."}, {"text": "two"}])
    b = jsonl(tmp_path / "b.jsonl", [{"text": "one"}, {"text": "ONE"}, {"text": "three"}])
    found = inspect([a, b])
    assert found.rows == 5
    assert found.leakage == {(str(a), str(b)): 2}
    assert f"2 texts of {b} are also in {a}." in found.lines()
    one = jsonl(
        tmp_path / "c.jsonl", [{"split": s, "text": t} for s, t in (("train", "x"), ("test", "X"), ("test", "y"))]
    )
    assert inspect(one).leakage == {("train", "test"): 1}


def test_streams_are_looked_at_in_part() -> None:
    data = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(30)]}).to_iterable_dataset()
    assert inspect(data, limit=7).rows == 7


def test_it_is_shown_as_text_and_as_a_table(tmp_path: Path) -> None:
    found = inspect(jsonl(tmp_path / "x.jsonl", [{"[b]text": "[red]one[/red]"}, {"[b]text": "two"}]))
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found)
    for shown in (console.export_text(), str(found)):
        assert "2 rows" in shown
        assert "[b]text" in shown
        assert "texts: one column of text ([b]text)" in shown


def test_columns_that_cannot_be_decided_are_said_not_raised() -> None:
    data = datasets.Dataset.from_dict({"n": [1, 2]})
    assert "No column holds text, " in inspect(data).plays
    with pytest.raises(DataError, match="There is no file"):
        inspect("nothing-here.jsonl")


def test_what_columns_are_taken_for_and_what_is_not_used(tmp_path: Path) -> None:
    rows = [{"text": f"words {i}", "label": "x" if i % 2 else None, "score": i} for i in range(30)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = inspect(tmp_path / "x.jsonl")
    assert {c.name: c.part for c in found.columns} == {"text": "text", "label": "label", "score": ""}
    assert any("Column 'score' (number) is not used" in line for line in found.lines())
    assert "score: number, not used" in str(found)
    (tmp_path / "y.csv").write_text("premise;hypothesis;label\n" + "".join(f"p {i};h {i};{i % 3}\n" for i in range(30)))
    found = inspect(tmp_path / "y.csv")
    assert {c.name: c.part for c in found.columns} == {"premise": "anchor", "hypothesis": "positive", "label": "pairs"}
    said = " ".join(found.lines())
    assert "separated by semicolons" in said
    assert "10 rows of entailment are pairs" in said


def test_long_numbers_are_counted_apart() -> None:
    numbers = [10**17 + i % 3 for i in range(30)]
    (column,) = inspect(datasets.Dataset.from_dict({"label": numbers})).columns
    assert column.distinct == 3
