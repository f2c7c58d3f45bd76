"""Pictures and recordings that a table names: those beside it are read, and no others of this machine."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError
from counterpoint.modalities.image import encode_png


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full((8, 8, 3), value, np.uint8)))
    return path


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    for i in range(3):
        picture(tmp_path / "set" / "pics" / f"{i}.png", i)
    return tmp_path / "set"


def test_paths_are_read_relative_to_the_table(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"pics/{i}.png,a caption {i}" for i in range(4)]
    (beside / "captions.csv").write_text("\n".join(["image,caption", *lines]))
    monkeypatch.chdir("/")
    for source in (beside / "captions.csv", beside):
        log = Log()
        raw = read(source, log=log)
        schema = infer(raw)
        assert (schema.kind, schema.columns) == ("towers", {"image": "image", "text": "caption"})
        rows = Rows(raw, schema)
        assert [np.asarray(r["image"])[0, 0, 0] for r in rows if r["image"] is not None] == [0, 1, 2]
        assert rows[3]["image"] is None
        assert "names images below" in " ".join(log.lines())
        assert "1 of 4 are not there" in " ".join(log.lines())


def test_names_of_pictures_that_are_not_there_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("image,caption\n" + "".join(f"{i}.png,words {i}\n" for i in range(9)))
    with pytest.raises(DataError, match=r"names images \('0.png'\), and none of them is there.*text=caption"):
        infer(read(tmp_path / "x.csv"))
    assert infer(read(tmp_path / "x.csv"), columns={"text": "caption"}).kind == "texts"
    (tmp_path / "y.csv").write_text("source,text\n" + "".join(f"{i}.png,words {i}\n" for i in range(9)))
    assert infer(read(tmp_path / "y.csv"))  # a column that is not called so may be text


def outside(folder: Path, name: str, how: str) -> Path:
    path = folder / f"x.{how}"
    if how == "csv":
        path.write_text(f"image,caption\n{name},x\n")
    elif how == "jsonl":
        path.write_text(json.dumps({"image": {"bytes": None, "path": name}, "caption": "x"}) + "\n")
    else:
        type_ = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        pq.write_table(pa.table({"image": pa.array([{"bytes": None, "path": name}], type_), "caption": ["x"]}), path)
    return path


@pytest.mark.parametrize("how", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_table_names_no_files_elsewhere(beside: Path, tmp_path: Path, how: str, absolute: bool) -> None:
    secret = picture(tmp_path / "secret.png", 7)
    table = outside(beside, str(secret) if absolute else "../secret.png", how)
    with pytest.raises(DataError, match=r"in row 0, which lies outside of .*--files-anywhere"):
        read(table)
    raw = read(table, reading={"anywhere": True})
    assert np.asarray(Rows(raw, infer(raw))[0]["image"])[0, 0, 0] == 7
    table = outside(beside, "pics/1.png", how)
    raw = read(table)
    assert np.asarray(Rows(raw, infer(raw))[0]["image"])[0, 0, 0] == 1


def test_a_metadata_file_names_no_files_elsewhere(beside: Path, tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    (beside / "metadata.csv").write_text("file_name,text\npics/0.png,a\n../secret.png,b\n")
    with pytest.raises(DataError, match=r"metadata.csv names '\.\./secret.png', which lies outside of"):
        read(beside)


@pytest.mark.timeout(20)
def test_pipes_and_sockets_are_passed_over(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(beside / "pics" / "pipe.png")
    monkeypatch.chdir(beside / "pics")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as open_:
        open_.bind("socket.png")
    log = Log()
    assert len(read(beside, log=log)) == 3
    assert "Skipped 2: no file: a folder, a pipe, a socket or a device (pics/pipe.png, pics/socket.png)." in log.lines()
    os.mkfifo(beside / "rows.jsonl")
    with pytest.raises(DataError, match="is a pipe, a socket or a device, not a file"):
        read(beside / "rows.jsonl")
