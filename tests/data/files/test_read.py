"""Which files a source stands for, and what they become."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files import read as reading
from counterpoint.data.files import tables
from counterpoint.data.files.read import read, train_part
from counterpoint.data.log import Log
from counterpoint.errors import DataError


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return (
        jsonl(tmp_path / "a.jsonl", [{"text": "a", "n": None}, {"text": "b", "n": None}]),
        jsonl(tmp_path / "b.jsonl", [{"text": "c", "n": 2.5}]),
    )


def test_one_path_several_a_glob_and_a_folder(two: tuple[Path, Path]) -> None:
    a, b = two
    assert read(a)["text"][:] == ["a", "b"]
    for source in ([a, b], [str(a), str(b)], str(a.parent / "*.jsonl"), a.parent, [a.parent]):
        found = read(source)
        assert found["text"][:] == ["a", "b", "c"]
        assert found["n"][:] == [None, None, 2.5]


def test_a_mapped_file_equals_the_table_and_is_made_once(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    plain = read(list(two))
    monkeypatch.setattr(tables, "MAP_ABOVE", 1)
    mapped = read(list(two))
    assert type(mapped.data).__name__ == "MemoryMappedTable"
    assert mapped.to_list() == plain.to_list()
    assert mapped.features == plain.features
    (file,) = (tmp_path / "cache" / "arrow").iterdir()
    first = file.stat().st_mtime_ns
    read(list(two))
    assert file.stat().st_mtime_ns == first
    jsonl(two[1], [{"text": "other", "n": 1.0}])
    assert read(list(two))["text"][:] == ["a", "b", "other"]


def test_a_full_cache_disk_is_said(two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "MAP_ABOVE", 1)
    monkeypatch.setattr(tables.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match="COUNTERPOINT_CACHE"):
        read(list(two))


def test_streaming_gives_the_same_rows_and_continues_exactly(two: tuple[Path, Path]) -> None:
    stream = read(list(two), streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert [r["text"] for r in stream] == ["a", "b", "c"]
    iterator = iter(stream)
    next(iterator), next(iterator)
    state = stream.state_dict()
    stream.load_state_dict(state)
    assert [r["text"] for r in stream] == ["c"]


def test_large_sources_stream_by_themselves(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "STREAM_ABOVE", 1)
    assert isinstance(read(list(two)), datasets.IterableDataset)
    assert isinstance(read(list(two), streaming=False), datasets.Dataset)


def test_a_split_is_a_file_or_a_column(tmp_path: Path) -> None:
    for name, text in (("train", "a"), ("valid", "b"), ("test-0", "c")):
        jsonl(tmp_path / "f" / f"{name}.jsonl", [{"text": text}])
    log = Log()
    assert read(tmp_path / "f", log=log)["text"][:] == ["a"]
    assert any("train is used" in line for line in log.lines())
    assert read(tmp_path / "f", split="dev")["text"][:] == ["b"]
    assert read(tmp_path / "f", split="test")["text"][:] == ["c"]
    assert sorted(read(tmp_path / "f", split="all")["text"][:]) == ["a", "b", "c"]
    one = jsonl(tmp_path / "g.jsonl", [{"text": "a", "split": "train"}, {"text": "b", "split": "validation"}])
    assert read(one)["text"][:] == ["a", "b"]
    assert read(one, split="dev")["text"][:] == ["b"]
    assert [r["text"] for r in read(one, split="dev", streaming=True)] == ["b"]
    log = Log()
    assert train_part(read(one), log)["text"][:] == ["a"]
    assert "train are used" in log.lines()[0]
    with pytest.raises(DataError, match="train, validation, not 'test'"):
        read(one, split="test")
    with pytest.raises(DataError, match="Leave --split out"):
        read(jsonl(tmp_path / "h.jsonl", [{"text": "a"}]), split="test")


def test_saved_folders(tmp_path: Path) -> None:
    one = datasets.Dataset.from_dict({"text": ["a", "b"]})
    one.save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one")["text"][:] == ["a", "b"]
    datasets.DatasetDict(train=one, test=one.select([1])).save_to_disk(tmp_path / "parts")
    assert read(tmp_path / "parts")["text"][:] == ["a", "b"]
    assert read(tmp_path / "parts", split="test")["text"][:] == ["b"]
    assert len(read(tmp_path / "parts", split="all")) == 3
    with pytest.raises(DataError, match="parts train, test, not 'dev'"):
        read(tmp_path / "parts", split="dev")
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(DataError, match="not a whole folder"):
        read(tmp_path / "one")


def test_features_survive_parquet(tmp_path: Path) -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    datasets.Dataset.from_dict({"text": ["a"], "label": [1]}, features=features).to_parquet(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").features["label"].names == ["no", "yes"]


@pytest.mark.parametrize("map_above", [1, 2**40])
def test_files_that_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, map_above: int) -> None:
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "MAP_ABOVE", map_above)
    a = jsonl(tmp_path / "a.jsonl", [{"text": "a", "n": 1}])
    with pytest.raises(DataError, match=r"same columns.*text, n.*body"):
        read([a, jsonl(tmp_path / "b.jsonl", [{"body": "a"}])])
    with pytest.raises(DataError, match="'n' is int64 in some rows and string in others"):
        read([a, jsonl(tmp_path / "c.jsonl", [{"text": "a", "n": "x"}])])
    assert not list(tmp_path.glob("cache/arrow/*.part"))


def test_sources_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for source in ("none.jsonl", "data/none", "data/none.csv", tmp_path / "x" / "y", "some-name"):
        with pytest.raises(DataError, match="There is no file or folder"):
            read(source)
    with pytest.raises(DataError, match="No file matches"):
        read("data/*.jsonl")
    with pytest.raises(DataError, match="holds nothing that can be read"):
        read("data")
    with pytest.raises(DataError, match="No source"):
        read([])


def test_folders_that_need_a_word(tmp_path: Path) -> None:
    jsonl(tmp_path / "m" / "a.jsonl", [{"text": "a"}])
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "m" / "b.parquet")
    with pytest.raises(DataError, match="several formats"):
        read(tmp_path / "m")
    jsonl(tmp_path / "r" / "corpus.jsonl", [{"_id": "1", "text": "a"}])
    jsonl(tmp_path / "r" / "queries.jsonl", [{"_id": "1", "text": "a"}])
    with pytest.raises(DataError, match="counterpoint eval"):
        read(tmp_path / "r")


@pytest.mark.parametrize("inside", ["checkpoints", "model.safetensors", "modules.json"])
def test_a_folder_of_a_run_or_a_model(tmp_path: Path, inside: str) -> None:
    (tmp_path / "run" / inside).mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"run is the folder of a run or of a model, not rows.* encode .*run ROWS"):
        read(tmp_path / "run")
