"""Streams: every row once in an epoch, the same batches for any number of processes, and a position that is exact."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data import sharding, stream
from counterpoint.data.files import formats, offsets, tables
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.loader import StreamLoader
from counterpoint.data.stream import Stream
from counterpoint.errors import DataError

LENGTHS = (40, 0, 1, 130, 29, 50)
"""Rows of the shards: of very different length, one of them empty."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Pieces of a few rows, so that small shards have several."""
    monkeypatch.setattr(offsets, "PIECE", 100)
    monkeypatch.setattr(offsets, "BLOCK", 50)
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(folder: Path, layout: str, lengths: tuple[int, ...] = LENGTHS) -> str:
    """Shards with the texts SHARD-ROW; the pattern that means them."""
    folder.mkdir(exist_ok=True)
    for s, n in enumerate(lengths):
        path, texts = folder / f"{s:02d}.{layout}", [f"{s}-{i}" for i in range(n)]
        data = "".join(json.dumps({"text": t, "extra": None}) + "\n" for t in texts).encode()
        if layout == "parquet":
            pq.write_table(pa.table({"text": pa.array(texts, pa.string()), "n": range(n)}), path, row_group_size=7)
        elif layout == "arrow":
            table = pa.table({"text": pa.array(texts, pa.string())})
            with pa.ipc.new_file(str(path), table.schema) as out:
                out.write_table(table, max_chunksize=7)
        elif layout.startswith("tar"):
            with tarfile.open(path, "w:gz" if layout.endswith("gz") else "w") as tar:
                for i, text in enumerate(texts):
                    member = tarfile.TarInfo(f"{i:04d}.txt")
                    member.size = len(text)
                    tar.addfile(member, io.BytesIO(text.encode()))
        elif layout == "csv":
            path.write_text("text,n\n" + "".join(f"{t},1\n" for t in texts) if n else "")
        else:
            path.write_bytes(gzip.compress(data) if layout.endswith("gz") else data)
    return str(folder / f"*.{layout}")


def loader(source: Any, batch: int = 16, *, rank: int = 0, world: int = 1, seed: int = 0) -> StreamLoader:
    data = read(source, streaming=True)
    assert isinstance(data, datasets.IterableDataset)
    return StreamLoader(Stream(data, infer(data), buffer=40, seed=seed), batch, rank=rank, world=world)


def group(source: Any, world: int, **settings: Any) -> list[StreamLoader]:
    return [loader(source, rank=rank, world=world, **settings) for rank in range(world)]


def take(loaders: list[StreamLoader], steps: int) -> list[list[str]]:
    """The texts of the next batches, over all processes, sorted."""
    parts = [[[row["text"] for row in next(one)] for _ in range(steps)] for one in loaders]
    return [sorted(joined(shares)) for shares in zip(*parts)]


def joined(parts: Iterable[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(parts))


def everything(lengths: tuple[int, ...] = LENGTHS) -> Counter[str]:
    return Counter(f"{s}-{i}" for s, n in enumerate(lengths) for i in range(n))


LAYOUTS = ["parquet", "arrow", "jsonl", "jsonl.gz", "tar", "tar.gz", "csv"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_epoch_holds_every_row_once_and_no_order_twice(tmp_path: Path, layout: str) -> None:
    source = write(tmp_path, layout)
    steps = loader(source).steps_per_epoch
    assert steps == 16  # 250 rows in batches of 16
    first = take(group(source, 1), 2 * steps)
    for epoch in (first[:steps], first[steps:]):
        assert Counter(joined(epoch)) == everything()
    assert [len(b) for b in first[:steps]] == [16] * 14 + [13, 13]
    assert first[:steps] != first[steps:]
    assert take(group(source, 1, seed=1), steps) != first[:steps]
    one = loader(source)
    assert all(row["row"] == sum(LENGTHS[: int(s)]) + int(i) for row in next(one) for s, i in [row["text"].split("-")])


@pytest.mark.parametrize("layout", ["parquet", "jsonl", "tar", "jsonl.gz"])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_batches_do_not_depend_on_the_number_of_processes(tmp_path: Path, layout: str, world: int) -> None:
    source = write(tmp_path, layout)
    processes = group(source, world)
    assert take(processes, 20) == take(group(source, 1), 20)
    assert processes[0].state_dict() == processes[-1].state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_two_processes_resume_on_any_number(tmp_path: Path, layout: str, world: int) -> None:
    """In the middle of an epoch: with what was given before, each row once, in the batches that would have followed."""
    source = write(tmp_path, layout)
    expected = take(group(source, 1), 40)
    before = group(source, 2)
    assert take(before, 9) == expected[:9]
    state = json.loads(json.dumps(before[0].state_dict()))
    take(before, 2)  # what was read ahead, or trained on after the snapshot, does not matter
    after = group(source, world)
    take(after, 3)
    for one in after:
        one.load_state_dict(state)
        assert one.state_dict() == state
    assert take(after, 31) == expected[9:]


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 200), batch=st.integers(1, 50), pieces=st.sampled_from([1, 5, 30, 300]), world=st.integers(1, 9)
)
def test_any_batch_and_any_number_of_processes_share_out_all_rows(
    rows: int, batch: int, pieces: int, world: int
) -> None:
    cut, count = sharding.Cut(rows, batch), sharding.lanes_for(pieces, world)
    ends = [cut(i) for i in range(cut.steps + 1)]
    sizes = [b - a for a, b in itertools.pairwise(ends)]
    assert ends[0] == 0
    assert ends[-1] == rows
    assert max(sizes) <= batch
    assert min(sizes) >= min(rows, batch) // 2
    for n in range(rows):
        lane, index = n % count, n // count
        deals = [sharding.Deal(count, rank, world) for rank in range(world)]
        assert sum(lane in d.mine and d.owns(lane, index) for d in deals) == 1


def test_lanes_are_divided_well() -> None:
    assert [sharding.lanes_for(n, 1) for n in (1, 8, 50, 10**6)] == [1, 2, 12, 48]
    assert [sharding.lanes_for(10**6, w) for w in (2, 48, 64)] == [48, 48, 64]
    assert sharding.lanes_for(20, 64) == 4
    for world in (1, 2, 3, 4, 6, 8, 12, 16, 24, 48):
        assert [len(sharding.Deal(48, r, world).mine) for r in range(world)] == [48 // world] * world


def test_a_resume_opens_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, "parquet", (70,) * 40)
    one = loader(source, 64)
    take([one], 40)
    state = one.state_dict()
    opened: list[tuple[str, int]] = []
    true = offsets.rows_from

    def spy(file: Path, at: int, skip: int, **rest: Any) -> Any:
        opened.append((file.name, at))
        return true(file, at, skip, **rest)

    monkeypatch.setattr("counterpoint.data.files.pieces.rows_from", spy)
    again = loader(source, 64)
    again.load_state_dict(state)
    next(again)
    assert 0 < len(opened) < 40 * 10 * 0.4  # of ten row groups in each of forty shards; nothing that is past


def test_more_processes_than_rows(tmp_path: Path) -> None:
    source = write(tmp_path, "jsonl", (2, 1))
    processes = group(source, 5)
    for epoch in range(3):
        assert Counter(joined(take(processes, 1))) == everything((2, 1)), epoch
    assert [len(next(p)) for p in processes] == [1, 1, 1, 0, 0]


def test_damaged_rows_are_left_out_and_shrink_a_batch_for_everybody(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"0-{i}"}) for i in range(30)]
    lines[7], lines[11], lines[13] = '{"text": "cut', "[1]", json.dumps({"text": " "})
    (tmp_path / "00.jsonl").write_bytes("\n".join(lines[:20]).encode() + b'\n\n{"text": "\xff"}\n')
    (tmp_path / "01.jsonl").write_text("\n".join(lines[20:]))
    source = str(tmp_path / "*.jsonl")
    one = loader(source, 8)
    assert one.steps_per_epoch == 4  # 31 rows, readable or not
    found = take([one], 4)
    assert Counter(joined(found)) == Counter(f"0-{i}" for i in range(30) if i not in (7, 11, 13))
    assert take(group(source, 3, batch=8), 4) == found
    said = " ".join(one.stream.log.lines())
    assert "not JSON (row 7 in 00.jsonl)" in said
    assert "expected an object like" in said
    assert "not UTF-8" in said
    assert "nothing in column 'text' (row 13)" in said


def test_damaged_images_in_shards(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    import numpy as np

    from counterpoint.modalities import image as images

    png = images.encode_png(np.zeros((4, 4, 3), np.uint8))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(9):
            data = b"broken" if i == 4 else png
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    one = loader(tmp_path / "a.tar", 4)
    assert sorted(row["row"] for _ in range(3) for row in next(one)) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert len(one.stream.log.skipped) == 1


def test_a_stream_without_usable_rows_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "  "}) + "\n" + json.dumps({"text": ""}))
    with pytest.raises(DataError, match=r"no usable row.*nothing in column 'text'"):
        next(loader(tmp_path / "x.jsonl", 1))


def test_shards_that_vanish_shrink_or_differ_are_named(tmp_path: Path) -> None:
    source = write(tmp_path, "jsonl", (30, 30, 30))
    gone = loader(source)
    take([gone], 1)
    state = gone.state_dict()
    kept = (tmp_path / "01.jsonl").read_bytes()
    (tmp_path / "01.jsonl").unlink()
    with pytest.raises(DataError, match=r"01\.jsonl is not there any more.*--resume"):
        take([gone], 100)
    other = loader(source)
    with pytest.raises(DataError, match=r"rows was 90, is 60.*Resume with the same data"):
        other.load_state_dict(state)
    (tmp_path / "01.jsonl").write_bytes(kept)
    shrunk = loader(source)
    assert shrunk.steps_per_epoch
    for name in ("00", "01", "02"):
        (tmp_path / f"{name}.jsonl").write_bytes(kept[:200])
    with pytest.raises(DataError, match="holds fewer rows than it did"):
        take([shrunk], 100)


def test_shards_with_other_columns_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["a", "b"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"same columns.*b\.parquet has body, not 'text'"):
        take([loader(str(tmp_path / "*.parquet"), 2)], 4)


def test_a_damaged_shard_is_named_before_training(tmp_path: Path) -> None:
    source = write(tmp_path, "parquet", (50, 50))
    whole = (tmp_path / "01.parquet").read_bytes()
    (tmp_path / "01.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"01\.parquet cannot be read: it is truncated"):
        loader(source)


def test_only_empty_shards(tmp_path: Path) -> None:
    for layout in ("parquet", "jsonl", "tar"):
        with pytest.raises(DataError, match="holds no rows"):
            loader(write(tmp_path / layout, layout, (0, 0)))


def test_text_files_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, "jsonl.gz")
    expected = take([loader(source)], 3)
    monkeypatch.setattr(
        "counterpoint.data.files.pieces.places", lambda file, *_: pytest.fail(f"{file} was counted again")
    )
    assert take([loader(source)], 3) == expected
    (tmp_path / "00.jsonl.gz").write_bytes(gzip.compress(b'{"text": "new"}'))
    with pytest.raises(pytest.fail.Exception, match=r"00\.jsonl\.gz was counted again"):
        loader(source)


def test_looking_at_texts_does_not_move_the_stream(tmp_path: Path) -> None:
    source = write(tmp_path, "jsonl")
    expected = take([loader(source)], 8)
    one = loader(source)
    found = take([one], 2)
    assert list(one.stream.texts(3)) == ["0-0", "0-1", "0-2"]
    assert found + take([one], 6) == expected


def test_plain_text_and_byte_order_marks(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("\ufeffone\r\ntwo\r\n\r\ndrei ß".encode())
    one = loader(tmp_path / "x.txt", 4)
    assert sorted(row["text"] for row in next(one)) == ["drei ß", "one", "two"]
    assert formats.kind(tmp_path / "x.txt") == "txt"


def test_a_large_batch_is_read_many_blocks_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, "parquet", (70,) * 10)
    assert Counter(take([loader(source, 700)], 1)[0]) == everything((70,) * 10)


RUN = """
import json, sys
from counterpoint.data.files import offsets
offsets.PIECE, offsets.BLOCK = 100, 50
from tests.data.test_stream import group
source, out = sys.argv[1:]
loaders = group(source, 2)
try:
    state = [json.loads(line) for line in open(out)][-1]["state"]
    for one in loaders: one.load_state_dict(state)
except FileNotFoundError:
    pass
with open(out, "a") as file:
    while True:
        texts = sorted(row["text"] for one in loaders for row in next(one))
        print(json.dumps({"texts": texts, "state": loaders[1].state_dict()}), file=file, flush=True)
        print("step", flush=True)
"""


def test_killed_and_resumed_gives_the_rows_that_would_have_come(tmp_path: Path) -> None:
    """kill -9 between any two instructions, twice; what was written with each batch is where it goes on."""
    source, out = write(tmp_path / "data", "jsonl"), tmp_path / "seen.jsonl"
    for steps in (5, 8):
        with subprocess.Popen([sys.executable, "-c", RUN, source, str(out)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                for _ in range(steps):
                    assert process.stdout.readline() == b"step\n"
            finally:
                os.kill(process.pid, signal.SIGKILL)
        lines = out.read_bytes()
        out.write_bytes(lines[: lines.rfind(b"\n") + 1])  # the kill may have cut the last line
    seen = [json.loads(line)["texts"] for line in out.read_text().splitlines()]
    assert len(seen) >= 13
    assert seen == take(group(source, 1), len(seen))


# --- what another library streams --------------------------------------------------------------------------------

DATA = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(23)]})


def plain(batch: int, buffer: int = 5, *, rank: int = 0, world: int = 1) -> StreamLoader:
    data = DATA.to_iterable_dataset(num_shards=3)
    return StreamLoader(Stream(data, infer(data), buffer=buffer), batch, rank=rank, world=world)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 14), st.sampled_from([1, 4, 100]), st.integers(1, 5), st.integers(1, 3))
def test_a_source_without_places_resumes_exactly(stop: int, buffer: int, batch: int, world: int) -> None:
    expected = take([plain(batch, buffer)], stop + 10)
    before = [plain(batch, buffer, rank=r, world=2) for r in range(2)]
    take(before, stop)
    state = json.loads(json.dumps(before[0].state_dict()))
    assert before[1].state_dict() == state
    take(before, 2)
    after = [plain(batch, buffer, rank=r, world=world) for r in range(world)]
    for one in after:
        one.load_state_dict(state)
    assert take(after, 10) == expected[stop:]


def test_a_source_without_places_has_no_known_length() -> None:
    one = plain(5, world=2)
    assert one.steps_per_epoch is None
    assert "each of the 2 processes reads all of it" in one.stream.log.lines()[0]
    assert len(set(joined(take([plain(5)], 4)))) == 20
    assert [len(b) for b in take([plain(100)], 2)] == [23, 23]


def test_a_position_in_another_source_is_refused() -> None:
    one = plain(5)
    take([one], 1)
    with pytest.raises(DataError, match="buffer was 5, is 4"):
        plain(5, 4).load_state_dict(one.state_dict())


def test_streams_that_cannot_be_used() -> None:
    empty = datasets.Dataset.from_dict({"text": ["", " "]}).to_iterable_dataset()
    with pytest.raises(DataError, match=r"no usable row.*nothing in column 'text'"):
        next(StreamLoader(Stream(empty, infer(empty)), 2))
    scored = datasets.Dataset.from_dict({"a": ["x", "y"], "b": ["u", "v"], "score": [1.0, float("nan")]})
    with pytest.raises(DataError, match="NaN or infinite in row 1"):
        next(StreamLoader(Stream(scored.to_iterable_dataset(), infer(scored)), 2))
    scored = datasets.Dataset.from_dict({"a": ["x", "y"], "b": ["u", "v"], "score": [1.0, 3.0]})
    with pytest.raises(DataError, match=r"'score' is 3 in row 1 of the stream, outside 0 to 2\."):
        next(StreamLoader(Stream(scored.to_iterable_dataset(), infer(scored, columns={"range": "0..2"})), 2))
    with pytest.raises(DataError, match="no column 'a'"):
        next(StreamLoader(Stream(DATA.to_iterable_dataset(), infer(scored)), 2))


def test_a_copy_shares_what_knows_the_files(tmp_path: Path) -> None:
    data = tables.stream(
        [Path(p) for p in [write(tmp_path, "jsonl", (3,)).replace("*", "00")]],
        Stream(DATA.to_iterable_dataset(), infer(DATA)).log,
    )
    assert vars(stream.twin(data))["_pieces"] is vars(data)["_pieces"]
