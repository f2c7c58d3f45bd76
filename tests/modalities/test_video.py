"""Videos from files and from folders of frames: order, rate and size, what is thinned out, what cannot be used."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.media import ARROW
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError
from counterpoint.modalities.video import ALIKE, FEWEST, MOST, SIDE, Video, damage, folders, video

Image = pytest.importorskip("PIL.Image")


def moving(n: int, seed: int = 0, size: int = 24) -> np.ndarray:
    """``(n, size, size, 3)``: a bright square that goes from left to right over a still background."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 80, (1, size, size, 3)), n, axis=0).astype(np.uint8)
    top, step = int(rng.integers(size - 8)), (size - 8) / n
    for t, frame in enumerate(frames):
        frame[top : top + 8, int(t * step) : int(t * step) + 8] = 250
    return frames


def film(path: Path, frames: np.ndarray, rate: int = 10) -> Path:
    """A file of these frames; .mkv without loss."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1" if path.suffix == ".mkv" else "mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for x in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(x, format="rgb24")))
        file.mux(stream.encode())
    return path


def pictures(folder: Path, frames: np.ndarray, name: str = "{:04}.png") -> Path:
    folder.mkdir(parents=True)
    for i, x in enumerate(frames, 1):
        Image.fromarray(x).save(folder / name.format(i))
    return folder


def grey(n: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames whose brightness is their number, twice."""
    return np.repeat(np.arange(n, dtype=np.uint8) * 2, height * width * 3).reshape(n, height, width, 3)


# --- files -------------------------------------------------------------------------------------------------------


def test_a_file_is_its_frames_in_order_at_its_rate(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", grey(20))
    found = video(str(path))
    assert (found.frames.shape, found.frames.dtype, found.rate) == ((20, 32, 48, 3), np.uint8, 10.0)
    assert np.abs(found.frames.mean((1, 2, 3)) - 2 * np.arange(20)).max() < 3
    for same in (
        path,
        path.read_bytes(),
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
    ):
        assert np.array_equal(video(same).frames, found.frames)
    assert video(found) is found
    assert damage(str(path)) is None
    assert damage({"bytes": path.read_bytes()}, whole=False) is None


@pytest.mark.parametrize("n", [MOST - 1, MOST + 1, 2 * MOST, 3 * MOST + 5])
def test_a_long_one_is_thinned_out_evenly(tmp_path: Path, n: int) -> None:
    found = video(str(film(tmp_path / "long.mkv", grey(n))))
    assert len(found) == min(n, MOST)
    seen = found.frames.mean((1, 2, 3)) / 2
    assert seen[0] < 2
    assert seen[-1] > n - 1 - 2 - n / MOST
    steps = np.diff(seen)
    assert steps.min() > 0
    assert steps.max() < 2.6 * n / len(found)
    assert found.seconds == pytest.approx(n / 10, rel=0.1)


def test_large_frames_are_made_smaller_and_keep_their_shape(tmp_path: Path) -> None:
    found = video(str(film(tmp_path / "large.mp4", grey(3, 2 * SIDE, 4 * SIDE))))
    assert found.frames.shape == (3, SIDE, 2 * SIDE, 3)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    whole = film(tmp_path / "whole.mp4", grey(20)).read_bytes()
    for name, content in {"empty": b"", "text": b"no film at all", "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
        with pytest.raises(OSError, match=r"damaged, or no video|no pictures in it, or it is cut off"):
            video(str(tmp_path / f"{name}.mp4"))
        assert str(damage(str(tmp_path / f"{name}.mp4"))).startswith("not usable as a video: ")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        sound = file.add_stream("aac", rate=8000)
        file.mux(sound.encode(None))
    for path in ("sound.mp4", "nowhere.mp4"):
        with pytest.raises(OSError):
            video(str(tmp_path / path))
    assert damage(str(tmp_path / "nowhere.mp4")) == "no such video file"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (17, "a int, not a file"),
        ({"frames": np.zeros((2, 4, 4)), "rate": 5}, r"expected frames \(T, H, W, C\) uint8"),
        ({"frames": np.zeros((0, 4, 4, 3), np.uint8)}, "one or more"),
        ({"frames": np.zeros((1, 4, 4, 3), np.uint8), "rate": 0}, "a rate of 0"),
    ],
)
def test_values_that_are_no_video(value: object, why: str) -> None:
    with pytest.raises(OSError, match=why):
        video(value)


def test_a_part_has_the_rate_of_its_steps() -> None:
    part = Video(grey(20), 10.0).part(4, 14, 3)
    assert part.frames[:, 0, 0, 0].tolist() == [8, 14, 20, 26]
    assert part.rate == pytest.approx(10 / 3)


# --- folders of frames -------------------------------------------------------------------------------------------


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "clip", grey(12), name="frame {}.png")
    (folder / "notes.txt").write_text("taken on Monday")
    found = video(str(folder))
    assert found.frames[:, 0, 0, 0].tolist() == list(range(0, 24, 2))
    assert found.rate == 25
    assert damage(str(folder)) is None
    (folder / "frame 3.png").write_bytes(b"no picture")
    assert damage(str(folder)) == "not usable as a video: frame 3.png is not readable as an image"
    with pytest.raises(OSError):
        video(str(folder))
    (folder / "frame 3.png").unlink()
    Image.fromarray(grey(1, 8, 8)[0]).save(folder / "frame 3.png")
    with pytest.raises(OSError, match="8 x 8 and 48 x 32 pixels; they must be of one size"):
        video(str(folder))


def test_many_frames_are_thinned_out(tmp_path: Path) -> None:
    found = video(str(pictures(tmp_path / "clip", grey(3 * MOST, 4, 4))))
    assert len(found) == MOST
    assert (found.frames[0, 0, 0, 0], found.frames[-1, 0, 0, 0]) == (0, 2 * (3 * MOST - 1))
    assert found.seconds == pytest.approx(3 * MOST / 25)


def test_folders_of_frames_are_told_from_pictures_of_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    films = [pictures(tmp_path / "films" / kind / f"{i}", moving(12, i)) for i in range(3) for kind in "ab"]
    assert sorted(folders(tmp_path / "films")) == sorted(films)

    face = rng.integers(0, 256, (24, 24, 3))
    unordered = {
        "noise": rng.integers(0, 256, (12, 24, 24, 3)).astype(np.uint8),
        "alike": (face + rng.integers(-20, 20, (12, 24, 24, 3))).clip(0, 255).astype(np.uint8),
        "shuffled": moving(12)[rng.permutation(12)],
        "still": np.repeat(moving(1), 12, axis=0),
        "few": moving(FEWEST - 1),
    }
    for name, frames in unordered.items():
        for kind in ("a", "b"):
            pictures(tmp_path / name / kind, frames)
        assert folders(tmp_path / name) == [], name
    gap = pictures(tmp_path / "gap" / "a", moving(12))
    (gap / "0005.png").rename(gap / "0099.png")
    assert folders(tmp_path / "gap") == []
    assert folders(pictures(tmp_path / "one", moving(12))) == []  # pictures in the folder itself
    named = pictures(tmp_path / "named" / "x.frames", unordered["noise"])
    assert folders(tmp_path / "named") == [named]
    assert 0 < ALIKE < 1


# --- rows --------------------------------------------------------------------------------------------------------


def test_a_folder_of_folders_of_frames_is_a_data_set(tmp_path: Path) -> None:
    for kind in ("left", "right"):
        for i in range(2):
            pictures(tmp_path / kind / f"clip {i}", moving(12, i)[:: 1 if kind == "right" else -1])
    log = Log()
    found = read(tmp_path, log=log)
    schema = infer(found)
    assert (schema.kind, schema.modalities, schema.labels) == ("labelled", {"video": "video"}, ("left", "right"))
    assert any(line.startswith("4 folders in ") and "read as videos" in line for line in log.lines())
    row = Rows(found, schema)[3]
    assert (row["video"].frames.shape, row["label"]) == ((12, 24, 24, 3), 1)
    assert np.array_equal(row["video"].frames, moving(12, 1))

    (tmp_path / "metadata.csv").write_text("file_name,note\nleft/clip 0/0001.png,a\nright/clip 0/0002.png,b\n")
    assert infer(read(tmp_path)).modalities["image"] == "image"
    (tmp_path / "metadata.csv").write_text("file_name,weight\nleft/clip 0,1.5\nright/clip 1,2.5\n")
    assert read(tmp_path).column_names == ["video", "weight"]


def test_files_in_folders_shards_and_columns_are_videos(tmp_path: Path) -> None:
    good = film(tmp_path / "films" / "a" / "x.mp4", moving(10)).read_bytes()
    film(tmp_path / "films" / "b" / "y.mkv", moving(6))
    (tmp_path / "films" / "b" / "z.mp4").write_bytes(good[:100])
    log = Log()
    found = read(tmp_path / "films", log=log)
    rows = Rows(found, infer(found))
    assert [(len(r["video"]), r["label"]) for r in rows] == [(10, 0), (6, 1)]
    assert any("b/z.mp4" in line and "not usable as a video" in line for line in log.lines())

    pq.write_table(pa.table({"it": pa.array([{"bytes": good, "path": None}] * 2, ARROW)}), tmp_path / "x.parquet")
    for source in (read(tmp_path / "x.parquet"), read(tmp_path / "x.parquet", streaming=True)):
        assert infer(source).columns == {"video": "it"}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(2):
            member = tarfile.TarInfo(f"{i}.mp4")
            member.size = len(good)
            tar.addfile(member, io.BytesIO(good))
    shard = read(tmp_path / "x.tar")
    assert len(Rows(shard, infer(shard))[1]["video"]) == 10


def test_a_damaged_video_is_skipped_and_listed() -> None:
    from datasets import Dataset

    table = pa.table({"video": pa.array([{"bytes": b"\0\0\0\x1cftypisom", "path": None}] * 2, ARROW)})
    rows = Rows(Dataset(table), infer(Dataset(table)))
    assert rows[:] == []
    assert "video in column 'video' cannot be used: damaged, or no video" in rows.log.lines()[0]
    with pytest.raises(DataError, match="video of row 0 cannot be read"):
        rows[0]
