"""JSON: the same rows on one line and on many, no number and no letter lost, and no stack that runs out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from counterpoint.data.files.formats import tables
from counterpoint.data.files.read import read
from counterpoint.data.log import Log
from counterpoint.errors import DataError

ROWS = [{"text": f"words {i}", "n": i} for i in range(5)]


def rows(path: Path, content: str) -> tuple[list[dict[str, Any]], str]:
    path.write_text(content)
    log = Log()
    table = pa.concat_tables(list(tables(path, log=log)), promote_options="permissive")
    return table.to_pylist(), " ".join(log.lines())


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("value", "expected", "says"),
    [
        (ROWS, ROWS, ""),
        ({"version": "1", "data": ROWS}, ROWS, "are the 5 objects in 'data'; version beside them are not read"),
        ({"train": ROWS[:2], "test": ROWS[2:3]}, [{**r, "split": "test" if i > 1 else "train"} for i, r in
         enumerate(ROWS[:3])], "holds the splits train, test"),
        ({"text": ["a", "b"], "n": [1, 2]}, [{"text": "a", "n": 1}, {"text": "b", "n": 2}], "holds columns"),
        ({"text": {"0": "a", "1": "b"}, "n": {"0": 1, "1": 2}},
         [{"text": "a", "n": 1}, {"text": "b", "n": 2}], "columns"),
        ({"x": {"text": "a"}, "y": {"text": "b"}},
         [{"key": "x", "text": "a"}, {"key": "y", "text": "b"}], "its name in"),
        ([["q", "p"], ["r", "s"]], [{"anchor": "q", "positive": "p"}, {"anchor": "r", "positive": "s"}], ""),
        ({"messages": [{"role": "user", "content": "hi"}]}, [{"messages": [{"role": "user", "content": "hi"}]}], ""),
    ],
)  # fmt: skip
def test_a_document_means_the_same_on_one_line_and_on_many(
    tmp_path: Path, value: Any, expected: list[dict[str, Any]], says: str, indent: int | None
) -> None:
    found, said = rows(tmp_path / "x.json", json.dumps(value, indent=indent))
    assert found == expected
    assert says in said


def test_several_lists_that_may_be_the_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"several lists of objects \(a, b\)"):
        rows(tmp_path / "x.json", json.dumps({"a": ROWS, "b": ROWS}))
    assert len(rows(tmp_path / "y.json", json.dumps({"authors": [{"name": "x"}], "rows": ROWS}))[0]) == 5


def test_lists_as_lines(tmp_path: Path) -> None:
    assert rows(tmp_path / "x.jsonl", '["q", "p", "n"]\n["r", "s", "t"]\n')[0][1] == {
        "anchor": "r", "positive": "s", "negative": "t",
    }  # fmt: skip


@pytest.mark.parametrize("levels", [60, 1_000, 20_000])
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json"])
def test_nesting_that_no_stack_holds(tmp_path: Path, levels: int, name: str) -> None:
    deep = '{"text": "a", "x": ' + '{"y": [], "x": ' * levels + "1" + "}" * levels + "}"
    text = "".join(json.dumps(r) + "\n" for r in ROWS) + deep + "\n" if "l" in Path(name).suffixes[0] else f"[{deep}]"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    with pytest.raises(DataError, match="levels deep; at most 50 are read"):
        list(tables(path))
    if "l" in Path(name).suffixes[0]:
        with pytest.raises(DataError, match="line 6"):
            list(tables(path))
        assert len([r for r in read(path, streaming=True) if r]) == 5


def test_brackets_within_texts_do_not_nest(tmp_path: Path) -> None:
    text = {"text": '[["{' * 200, "n": [[1]] * 100}
    assert rows(tmp_path / "x.jsonl", json.dumps(text) + "\n")[0] == [text]


def test_half_of_a_character(tmp_path: Path) -> None:
    lines = [json.dumps(r) for r in ROWS]
    lines += ['{"text": "bad \\ud83d tail", "n": 5}', '{"text": "good \\ud83d\\ude00", "n": 6}']
    found, said = rows(tmp_path / "x.jsonl", "\n".join(lines))
    assert [found[5]["text"], found[6]["text"]] == ["bad \ufffd tail", "good \U0001f600"]
    assert "1 rows of" in said
    assert "first: row 5" in said
    assert [r["text"] for r in read(tmp_path / "x.jsonl", streaming=True)][5] == "bad \ufffd tail"


@pytest.mark.parametrize("first", [2**53, 2**63, 10**19, 2**64, 10**30, 10**80])
def test_long_numbers_stay_apart(tmp_path: Path, first: int) -> None:
    numbers = [first + i for i in range(5)]
    values = [*numbers[:-1], None, numbers[-1]]
    lines = "".join(json.dumps({"text": "a", "label": n, "list": [n]}) + "\n" for n in values)
    found, _ = rows(tmp_path / "x.jsonl", lines)
    assert [str(r["label"]) for r in found if r["label"] is not None] == [str(n) for n in numbers]
