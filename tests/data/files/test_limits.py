"""What small files become: no more than is allowed, and the way to allow more is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files import options
from counterpoint.data.files.formats import tables
from counterpoint.data.files.read import read
from counterpoint.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "SMALL", 2**20)
    monkeypatch.setenv(options.EXPANSION, "20")
    monkeypatch.setenv(options.ROW, str(2**16))


def count(path: Path) -> int:
    return sum(map(len, tables(path)))


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.txt.gz", "x.parquet", "x.arrow"])
def test_a_file_that_becomes_much_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path, text, n = tmp_path / name, "word " * 200, 3_000
    table = pa.table({"text": pa.array([text] * n)})
    if name == "x.parquet":
        pq.write_table(table, path)
    elif name == "x.arrow":
        with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
    else:
        lines = {"x.jsonl.gz": json.dumps({"text": text}), "x.csv.gz": text, "x.txt.gz": text}[name]
        path.write_bytes(gzip.compress(("text\n" * ("csv" in name) + f"{lines}\n" * n).encode()))
    with pytest.raises(DataError, match=f"becomes more than 1,048,576 when it is unpacked.*{options.EXPANSION}"):
        count(path)
    with pytest.raises(DataError, match=options.EXPANSION):
        list(read(path, streaming=True))
    monkeypatch.setenv(options.EXPANSION, "100000")
    assert count(path) == n


def test_a_dictionary_written_out(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), pa.array(["word " * 200]))
    pq.write_table(pa.table({"text": column}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=options.EXPANSION):
        count(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.parquet"])
def test_a_row_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path, texts = tmp_path / name, ["short", "x" * 2**17, "short"]
    if name == "x.parquet":
        pq.write_table(pa.table({"text": texts}), path)
    else:
        path.write_text("".join((t if name == "x.txt" else json.dumps({"text": t})) + "\n" for t in texts))
    monkeypatch.setattr("counterpoint.data.files.textfile.CHUNK", 2**15)
    with pytest.raises(DataError, match=f"more than 65,536 bytes, the most that one row may have.*{options.ROW}"):
        count(path)
    monkeypatch.setenv(options.ROW, str(2**20))
    assert count(path) == 3


def test_limits_that_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("none", "0", "-1"):
        monkeypatch.setenv(options.ROW, wrong)
        with pytest.raises(ConfigError, match="whole number above 0"):
            options.most_row_bytes()
