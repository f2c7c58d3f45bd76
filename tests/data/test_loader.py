"""Endless batches: the position after any batch continues with exactly the batches that would have followed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data import images
from counterpoint.data.infer import infer
from counterpoint.data.loader import Loader, StreamLoader
from counterpoint.data.read import read
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError, DataError

N, B = 23, 5
DATA = datasets.Dataset.from_dict(
    {"text": [f"text {i % 19} {'x' * (i % 7)}" for i in range(N)], "label": [0, 1] * 11 + [1]}
)
ROWS = Rows(DATA, infer(DATA))


def sampler(name: str, seed: int = 0) -> Sampler:
    return {
        "shuffled": lambda: Shuffled(N, B, seed=seed),
        "bucketed": lambda: LengthBucketed(ROWS.lengths(), B, seed=seed),
        "distinct": lambda: NoDuplicates(ROWS.keys(), B, seed=seed, drop_last=False),
        "pxk": lambda: PxK(ROWS.labels(), B, per_class=2, seed=seed),
    }[name]()


def numbers(batches: Any, n: int) -> list[list[int]]:
    return [[r["row"] for r in b] for b in itertools.islice(batches, n)]


def flat(batches: list[list[int]]) -> list[int]:
    return sorted(i for b in batches for i in b)


@pytest.mark.parametrize("name", ["shuffled", "bucketed", "distinct", "pxk"])
@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 9, 13])
def test_resume_is_exact(name: str, stop: int) -> None:
    loader = Loader(ROWS, sampler(name))
    expected = numbers(loader, stop + 12)
    loader = Loader(ROWS, sampler(name))
    numbers(loader, stop)
    state = json.loads(json.dumps(loader.state_dict()))
    numbers(loader, 3)  # what was prefetched after the snapshot does not matter
    other = Loader(ROWS, sampler(name))
    numbers(other, 2)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert numbers(other, 12) == expected[stop:]


def test_epochs_follow_each_other() -> None:
    loader = Loader(ROWS, Shuffled(N, B, drop_last=False))
    assert loader.steps_per_epoch == 5
    found = numbers(loader, 10)
    assert flat(found[:5]) == flat(found[5:]) == list(range(N))
    assert found[:5] != found[5:]
    assert loader.epoch == 1


def test_a_position_in_other_batches_is_refused() -> None:
    state = Loader(ROWS, Shuffled(N, B)).state_dict()
    with pytest.raises(DataError, match="batch was 5, is 4"):
        Loader(ROWS, Shuffled(N, 4)).load_state_dict(state)
    with pytest.raises(DataError, match="seed was 0, is 1"):
        Loader(ROWS, Shuffled(N, B, seed=1)).load_state_dict(state)
    with pytest.raises(DataError, match="Resume with the same data"):
        Loader(ROWS.subset(np.arange(N)[::-1]), Shuffled(N, B)).load_state_dict(state)


def test_processes_share_a_batch() -> None:
    whole = numbers(Loader(ROWS, Shuffled(N, 6)), 3)
    parts = [numbers(Loader(ROWS, Shuffled(N, 6), rank=r, world=2), 3) for r in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts)] == [sorted(w) for w in whole]
    with pytest.raises(ConfigError, match="5 rows cannot be shared evenly by 2"):
        Loader(ROWS, Shuffled(N, 5), rank=0, world=2)


def test_damaged_images_shrink_a_batch_and_nothing_else() -> None:
    pytest.importorskip("PIL")
    png = images.encode_png(np.zeros((4, 4, 3), np.uint8))
    data = images.dataset({"image": [png, b"broken", png, png]})
    rows = Rows(data, infer(data))
    loader = Loader(rows, Shuffled(4, 2))
    found = numbers(loader, 4)
    assert flat(found[:2]) == [0, 2, 3]
    assert len(rows.log.skipped) == 1
    only = Loader(rows.subset([0, 1]), Shuffled(2, 1))
    assert numbers(only, 3) == [[0]] * 3  # an empty batch is passed over


# --- streams ---------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for s in range(3):
        lines = [json.dumps({"text": "" if i == 3 else f"{s}-{i}"}) for i in range(7)]
        (tmp_path / f"{s}.jsonl").write_text("\n".join(lines))
    return sorted(tmp_path.glob("*.jsonl"))


def stream(files: list[Path], **settings: Any) -> Stream:
    data = read(files, streaming=True)
    assert isinstance(data, datasets.IterableDataset)
    return Stream(data, infer(data), **settings)


def test_a_stream_gives_every_usable_row_once_per_epoch(files: list[Path]) -> None:
    s = stream(files, buffer=5)
    first, second = ([r["text"] for r in s.rows(e)] for e in range(2))
    assert sorted(first) == sorted(second) == [f"{s}-{i}" for s in range(3) for i in range(7) if i != 3]
    assert first != second
    assert len(s.log.skipped) == 3
    assert all(r["text"] == f"{r['row'] // 7}-{r['row'] % 7}" for r in s.rows(0))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 14), st.sampled_from([1, 4, 100]), st.integers(1, 5))
def test_a_stream_resumes_exactly(stop: int, buffer: int, batch: int) -> None:
    data = DATA.select_columns("text").to_iterable_dataset(num_shards=3)
    schema = infer(data)
    expected = numbers(StreamLoader(Stream(data, schema, buffer=buffer), batch), stop + 10)
    loader = StreamLoader(Stream(data, schema, buffer=buffer), batch)
    numbers(loader, stop)
    state = json.loads(json.dumps(loader.state_dict()))
    numbers(loader, 2)
    again = StreamLoader(
        Stream(DATA.select_columns("text").to_iterable_dataset(num_shards=3), schema, buffer=buffer), batch
    )
    again.load_state_dict(state)
    assert numbers(again, 10) == expected[stop:]


def test_a_file_stream_resumes_exactly(files: list[Path]) -> None:
    expected = numbers(StreamLoader(stream(files, buffer=4, seed=2), 4), 12)
    loader = StreamLoader(stream(files, buffer=4, seed=2), 4)
    numbers(loader, 6)
    again = StreamLoader(stream(files, buffer=4, seed=2), 4)
    again.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert numbers(again, 6) == expected[6:]
    assert loader.steps_per_epoch is None


def test_looking_at_texts_does_not_move_the_stream(files: list[Path]) -> None:
    expected = numbers(StreamLoader(stream(files, buffer=4), 4), 8)
    s = stream(files, buffer=4)
    loader = StreamLoader(s, 4)
    found = numbers(loader, 2)
    assert list(s.texts(4)) == ["0-0", "0-1", "0-2", "0-4"]
    assert found + numbers(loader, 6) == expected


def test_a_short_stream_gives_all_it_has(files: list[Path]) -> None:
    found = numbers(StreamLoader(stream(files), 100), 2)
    assert [len(b) for b in found] == [18, 18]


def test_streams_that_cannot_be_used() -> None:
    empty = datasets.Dataset.from_dict({"text": ["", " "]}).to_iterable_dataset()
    with pytest.raises(DataError, match=r"no usable row.*nothing in column 'text'"):
        next(StreamLoader(Stream(empty, infer(empty)), 2))
    scored = datasets.Dataset.from_dict({"a": ["x", "y"], "b": ["u", "v"], "score": [1.0, float("nan")]})
    s = Stream(scored.to_iterable_dataset(), infer(scored))
    with pytest.raises(DataError, match="NaN or infinite in row 1"):
        list(s.rows(0))
    with pytest.raises(DataError, match="no column 'a'"):
        list(Stream(DATA.to_iterable_dataset(), infer(scored)).rows(0))
