"""Endless batches: the position after any batch continues with exactly the batches that would have followed."""

from __future__ import annotations

import itertools
import json
from typing import Any

import datasets
import numpy as np
import pytest

from counterpoint.data.files import media
from counterpoint.data.infer import infer
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled
from counterpoint.errors import DataError
from counterpoint.modalities import image as images

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


def joined(parts: Any) -> list[int]:
    return list(itertools.chain.from_iterable(parts))


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


@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_share_a_batch(world: int) -> None:
    whole = numbers(Loader(ROWS, Shuffled(N, B)), 8)
    parts = [numbers(Loader(ROWS, Shuffled(N, B), rank=r, world=world), 8) for r in range(world)]
    assert [sorted(joined(shares)) for shares in zip(*parts)] == [sorted(w) for w in whole]
    assert all(len(share) <= -(-B // world) for shares in parts for share in shares)


def test_a_share_may_be_empty_but_no_process_runs_ahead() -> None:
    pytest.importorskip("PIL")
    data = media.dataset({"image": [b"broken", images.encode_png(np.zeros((4, 4, 3), np.uint8))]})
    parts = [numbers(Loader(Rows(data, infer(data)), Shuffled(2, 2), rank=r, world=3), 4) for r in range(3)]
    assert [sorted(joined(shares)) for shares in zip(*parts)] == [[1]] * 4


def test_damaged_images_shrink_a_batch_and_nothing_else() -> None:
    pytest.importorskip("PIL")
    png = images.encode_png(np.zeros((4, 4, 3), np.uint8))
    data = media.dataset({"image": [png, b"broken", png, png]})
    rows = Rows(data, infer(data))
    loader = Loader(rows, Shuffled(4, 2))
    found = numbers(loader, 4)
    assert flat(found[:2]) == [0, 2, 3]
    assert len(rows.log.skipped) == 1
    only = Loader(rows.subset([0, 1]), Shuffled(2, 1))
    assert numbers(only, 3) == [[0]] * 3  # an empty batch is passed over
