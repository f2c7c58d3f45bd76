"""Folders of images and WebDataset shards: classes, metadata, and what cannot be read."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest

from counterpoint.data.files import media
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError
from counterpoint.modalities import image as images

Image = pytest.importorskip("PIL.Image")


def picture(path: Path, value: int = 0, size: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (size, size, 3), dtype=np.uint8)
    noise[0, 0] = value
    Image.fromarray(noise).save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_class_folders(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png", 1)
    picture(tmp_path / "cat" / "deep" / "2.jpg", 2)
    picture(tmp_path / "ant" / "3.png", 3)
    found = read(tmp_path)
    assert found.features["label"].names == ["ant", "cat"]
    assert found["label"][:] == [0, 1, 1]
    assert found[0]["image"].getpixel((0, 0)) == (3, 3, 3)
    assert found.data.column("image")[0]["bytes"].as_py() is None  # the table holds paths, not pixels


def test_unreadable_images_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "ab"[i % 2] / f"{i}.jpg", i)
    cut(tmp_path / "a" / "0.jpg")
    (tmp_path / "b" / "text.png").write_text("no image")
    log = Log()
    assert len(read(tmp_path, log=log)) == 3
    assert sorted(n for n, _ in log.skipped) == ["a/0.jpg", "b/text.png"]
    assert any("Skipped 2: not readable as an image (a/0.jpg, b/text.png)." in line for line in log.lines())
    for path in tmp_path.rglob("*.*"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of its 5 images can be read"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_metadata_file_gives_the_columns(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "x" / "1.png", 1)
    picture(tmp_path / "2.png", 2)
    entries = [("2.png", "two"), ("gone.png", "none"), ("x/1.png", "one")]
    if name.endswith("csv"):
        (tmp_path / name).write_text("file_name,caption\n" + "".join(f"{f},{c}\n" for f, c in entries))
    else:
        lines = [json.dumps({"file_name": f, "caption": c}) for f, c in entries]
        (tmp_path / name).write_text("\n".join(lines))
    log = Log()
    found = read(tmp_path, log=log)
    assert found["caption"][:] == ["two", "one"]
    assert found[1]["image"].getpixel((0, 0)) == (1, 1, 1)
    assert log.skipped == [("gone.png", "no such image file")]
    assert infer(found).kind == "towers"


def test_metadata_without_file_names(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "metadata.csv").write_text("name,caption\n1.png,one\n")
    with pytest.raises(DataError, match="no column 'file_name', only name, caption"):
        read(tmp_path)


def test_split_folders_hold_the_classes(tmp_path: Path) -> None:
    for split, n in (("train", 2), ("test", 1)):
        for i in range(n):
            picture(tmp_path / split / "a" / f"{i}.png", i)
            picture(tmp_path / split / "b" / f"{i}.png", i)
    assert len(read(tmp_path)) == 4
    assert len(read(tmp_path, split="test")) == 2
    assert read(tmp_path).features["label"].names == ["a", "b"]
    with pytest.raises(DataError, match="has the parts"):
        read(tmp_path, split="dev")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "1.png")
    picture(tmp_path / "bus" / "1.png")
    assert read(tmp_path).features["label"].names == ["bus", "train"]


def test_images_alone_have_no_label(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "1.png")
    picture(tmp_path / "photos" / "2.png")
    assert read(tmp_path).column_names == ["image"]
    assert infer(read(tmp_path)).kind == "items"


def test_an_image_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "x.jpg", exif=exif)
    assert images.decode(str(tmp_path / "x.jpg")).size == (2, 4)


def test_images_damaged_inside_a_table_are_found_when_taken(tmp_path: Path) -> None:
    good = picture(tmp_path / "a.png", 7).read_bytes()
    found = media.dataset({"image": [good, good[: len(good) // 2], good]})
    rows = Rows(found, infer(found))
    assert [r["row"] for r in rows[[2, 1, 0]]] == [2, 0]
    assert [r["row"] for r in rows[[1, 0]]] == [0]
    assert rows.log.lines() == ["Skipped 1: image in column 'image' cannot be read (row 1)."]
    with pytest.raises(DataError, match="image of row 1"):
        rows[1]


# --- shards ----------------------------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_shards(tmp_path: Path) -> None:
    png = picture(tmp_path / "p.png", 9).read_bytes()
    for s in range(2):
        members: dict[str, bytes] = {}
        for i in range(2):
            key = f"d/{s}{i}"
            members |= {f"{key}.png": png, f"{key}.txt": f"text {s}{i}".encode(), f"{key}.cls": str(i).encode()}
            members[f"{key}.json"] = json.dumps({"width": 40}).encode()
        shard(tmp_path / f"{s}.{'tar' if s else 'tar.gz'}", members)
    found = read(str(tmp_path / "*.tar*"))
    assert isinstance(found.features["image"], datasets.Image)
    assert found["text"][:] == ["text 00", "text 01", "text 10", "text 11"]
    assert found["label"][:] == [0, 1, 0, 1]
    assert found["width"][:] == [40] * 4
    assert found[3]["image"].getpixel((0, 0)) == (9, 9, 9)
    stream = read(str(tmp_path / "*.tar*"), streaming=True)
    assert [r["text"] for r in stream] == found["text"][:]


def test_pickles_in_shards_are_never_loaded_and_damage_is_listed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was loaded",))

    png = picture(tmp_path / "p.png").read_bytes()
    members = {"0.png": png, "0.pyd": pickle.dumps(Bomb()), "1.png": png[:40], "2.png": png}
    log = Log()
    assert len(read(shard(tmp_path / "x.tar", members), log=log)) == 2
    assert ("x.tar:1.png", "not readable as an image") in log.skipped
    assert ("x.tar:*.pyd", "pickled or raw objects are never loaded") in log.skipped


def test_bad_shards(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all, really" * 50)
    with pytest.raises(DataError, match="not a whole tar"):
        read(tmp_path / "a.tar")
    with pytest.raises(DataError, match="no rows"):
        read(shard(tmp_path / "b.tar", {"0.xyz": b"1"}))
    with pytest.raises(DataError, match="member 0"):
        read(shard(tmp_path / "c.tar", {"0.json": b"{"}))
