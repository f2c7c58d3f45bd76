"""Every text and table format, round trip; every damaged file, a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files import formats, textfile
from counterpoint.data.files.formats import tables
from counterpoint.errors import DataError

ROWS = [{"text": 'a, "quoted"\nline', "n": 1}, {"text": "zwölf 日本", "n": 2}, {"text": "c", "n": 3}]


def rows(path: Path) -> list[dict[str, Any]]:
    return pa.concat_tables(list(tables(path)), promote_options="permissive").to_pylist()


def write(path: Path) -> Path:
    table = pa.Table.from_pylist(ROWS)
    match formats.suffix(path):
        case ".jsonl":
            text = "\n".join(json.dumps(r) for r in ROWS).encode()
        case ".json":
            text = json.dumps(ROWS, indent=1).encode()
        case ".csv" | ".tsv":
            sep = "\t" if formats.suffix(path) == ".tsv" else ","
            cells = [[f'"{r["text"]}"'.replace('"quoted"', '""quoted""'), str(r["n"])] for r in ROWS]
            text = "\n".join(sep.join(c) for c in [["text", "n"], *cells]).encode()
        case ".parquet":
            pq.write_table(table, path)
            return path
        case ".arrow":
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
            return path
        case other:
            raise AssertionError(other)
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.jsonl.gz", "x.json", "x.csv", "x.csv.gz", "x.tsv", "x.tsv.gz", "x.parquet", "x.arrow"]
)
def test_round_trip(tmp_path: Path, name: str) -> None:
    assert rows(write(tmp_path / name)) == ROWS


def test_plain_text_keeps_blank_lines_and_drops_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("\ufeffone\r\n\r\ndrei ß\r\n".encode())
    assert rows(tmp_path / "x.txt") == [{"text": "one"}, {"text": ""}, {"text": "drei ß"}]


@pytest.mark.parametrize("chunk", [1, 20, 64])
def test_chunks_lose_nothing_and_widen_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(textfile, "CHUNK", chunk)
    values = [{"t": None, "n": 1}, {"t": "x", "n": 2.5}, {"t": "y" * 100, "n": 3}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))
    assert rows(tmp_path / "x.jsonl") == values
    (tmp_path / "x.txt").write_text("a\nbb\n\nc")
    assert [r["text"] for r in rows(tmp_path / "x.txt")] == ["a", "bb", "", "c"]


def test_json_dates_stay_text_and_nan_stays_nan(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"t": "2020-01-01", "s": NaN}\n{"t": "2020-01-02", "s": 1.0}\n')
    found = rows(tmp_path / "x.jsonl")
    assert [r["t"] for r in found] == ["2020-01-01", "2020-01-02"]
    assert found[0]["s"] != found[0]["s"]


def test_csv_dates_stay_text_and_a_late_word_makes_a_column_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("day,n\n2020-01-01,1\n2020-01-02,two\n")
    assert rows(tmp_path / "x.csv") == [{"day": "2020-01-01", "n": "1"}, {"day": "2020-01-02", "n": "two"}]


def test_a_json_document_that_wraps_its_rows(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"version": 1, "data": ROWS}, indent=2))
    assert rows(tmp_path / "x.json") == ROWS


def test_pandas_categories_and_index_are_undone(tmp_path: Path) -> None:
    table = pa.table({"c": pa.array(["a", "b", "a"]).dictionary_encode(), "__index_level_0__": [0, 1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert rows(tmp_path / "x.parquet") == [{"c": "a"}, {"c": "b"}, {"c": "a"}]


BAD: list[tuple[str, bytes, str]] = [
    ("empty.jsonl", b"", "is empty"),
    ("blank.jsonl", b"\n\n", "no rows"),
    ("header.csv", b"a,b\n", "no rows"),
    ("broken.jsonl", b'{"a": 1}\n{"a": 1\n', "line 2: not JSON"),
    ("list.jsonl", b'{"a": 1}\n[1, 2]\n', "line 2: expected an object"),
    ("mixed.jsonl", b'{"a": 1}\n{"a": "x"}\n', "column 'a' mixes int and str"),
    ("scalar.json", b"[1, 2]", "not a list of objects"),
    ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "row 3 has 3 fields where the header has 2"),
    ("twice.csv", b"a,a\n1,2\n", "names a column twice"),
    ("wrong.jsonl", b"PAR1xxxx", "holds parquet"),
    ("wrong.parquet", b'{"a": 1}\n' * 9, "truncated or damaged"),
    ("wrong.csv", b"PK\x03\x04....", "holds zip"),
    ("plain.jsonl.gz", b'{"a": 1}', "not compressed"),
    ("cut.jsonl.gz", gzip.compress(json.dumps({"a": "x" * 9}).encode())[:-9], "truncated or damaged"),
    ("cut.arrow", b"ARROW1\0\0abcdef", "truncated or damaged"),
    ("model.pkl", b"\x80\x04abc", "never loaded"),
    ("data.docx", b"PK\x03\x04", "Give one of"),
    ("data.xlsx", b"PK\x03\x04", "cannot be read as a workbook"),
]


@pytest.mark.parametrize(("name", "content", "says"), BAD, ids=[b[0] for b in BAD])
def test_bad_files_get_a_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        rows(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_parquet(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": list(range(10_000))}), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match="truncated or damaged"):
        rows(path)
