"""Batches of several sources: how often each comes, of what they are made, and that they are continued exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from counterpoint.data.loader import Loader
from counterpoint.data.mixture import Mixture, tempered
from counterpoint.data.rowset import Made
from counterpoint.data.sampler import NoDuplicates, Sampler, Shuffled
from counterpoint.errors import ConfigError, DataError

SIZES = (900, 100, 25)
SOURCE = np.repeat([0, 1, 2], SIZES)


def mixture(alpha: float, *, batches: tuple[int, ...] = (5, 5, 5), seed: int = 0) -> Mixture:
    members = [np.flatnonzero(s == SOURCE) for s in range(3)]
    samplers: list[Sampler] = [Shuffled(n, b, seed=seed) for n, b in zip(SIZES, batches)]
    return Mixture(samplers, members, alpha=alpha, seed=seed, names=("a", "b", "c"))


def test_shares_are_the_tempered_sizes_to_the_nearest_batch() -> None:
    # 180, 20 and 5 batches; of 205: by size; by roots 13.42, 4.47, 2.24 of 20.12; equally.
    assert tempered(np.array([180, 20, 5]), 1.0).tolist() == [180, 20, 5]
    assert tempered(np.array([180, 20, 5]), 0.5).tolist() == [137, 45, 23]
    assert tempered(np.array([180, 20, 5]), 0.0).tolist() == [69, 68, 68]
    assert tempered(np.array([10_000, 1]), 1.0).tolist() == [10_000, 1]
    assert tempered(np.array([1000, 1, 1]), 0.9).tolist() == [998, 2, 2]
    for alpha, expected in ((1.0, [180, 20, 5]), (0.5, [137, 45, 23]), (0.0, [69, 68, 68])):
        sampler = mixture(alpha)
        for epoch in range(2):
            given = [SOURCE[batch[0]] for batch in sampler.batches(epoch)]
            assert np.bincount(given).tolist() == expected
        assert len(sampler) == 205


def test_each_batch_is_of_one_source_and_of_its_size() -> None:
    for batch in mixture(0.5, batches=(50, 20, 5)).batches(0):
        [source] = set(SOURCE[batch])
        assert len(set(batch)) == len(batch) == (50, 20, 5)[source]


def test_by_size_each_row_comes_once_an_epoch_and_else_small_sources_come_again() -> None:
    for epoch in range(2):
        assert sorted(np.concatenate(list(mixture(1.0).batches(epoch)))) == list(range(1025))
    times = np.bincount(np.concatenate(list(mixture(0.0).batches(3))), minlength=1025)
    assert times[SOURCE == 0].max() == 1  # 345 of 900 rows
    assert set(times[SOURCE == 1]) == {3, 4}  # 340 of 100: three passes and a part of the fourth
    assert set(times[SOURCE == 2]) == {13, 14}


def test_a_large_source_is_seen_in_other_parts_every_epoch() -> None:
    seen = [set(np.concatenate(list(mixture(0.0).batches(epoch)))) & set(range(900)) for epoch in range(12)]
    assert seen[0] != seen[1]
    assert len(set.union(*seen)) > 880  # each of 345 rows, drawn anew


def test_the_same_seed_gives_the_same_batches_and_another_others() -> None:
    one, two, other = (list(mixture(0.5, seed=s).batches(1)) for s in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    order = [SOURCE[b[0]] for b in one]
    assert order != sorted(order)  # sources take turns


def test_a_position_is_continued_exactly_and_not_in_another_mixture() -> None:
    rows = Made([{"source": int(s)} for s in SOURCE])
    loader = Loader(rows, mixture(0.5))
    given = [[r["row"] for r in batch] for batch in itertools.islice(loader, 230)]
    half = Loader(rows, mixture(0.5))
    for _ in range(215):
        next(half)
    again = Loader(rows, mixture(0.5))
    again.load_state_dict(half.state_dict())
    assert [[r["row"] for r in batch] for batch in itertools.islice(again, 15)] == given[215:]
    for other in (mixture(0.4), mixture(0.5, batches=(5, 4, 5))):
        with pytest.raises(DataError, match="saved for other batches"):
            Loader(rows, other).load_state_dict(half.state_dict())


def test_processes_share_each_batch_of_one_source() -> None:
    rows = Made([{"source": int(s)} for s in SOURCE])
    whole, *shares = (Loader(rows, mixture(0.5), rank=r, world=w) for r, w in ((0, 1), (0, 2), (1, 2)))
    for _ in range(40):
        batch, parts = next(whole), [next(share) for share in shares]
        assert len({r["source"] for part in parts for r in part}) == 1
        assert sorted(r["row"] for part in parts for r in part) == sorted(r["row"] for r in batch)


def test_sources_keep_what_their_own_batches_promise() -> None:
    keys = np.arange(100) // 2  # every text twice
    sampler = Mixture([Shuffled(900, 5), NoDuplicates(keys, 5)], [np.arange(900), np.arange(900, 1000)], alpha=0.0)
    for batch in (b for b in sampler.batches(0) if b[0] >= 900):
        assert len(set(keys[batch - 900])) == 5


def test_what_cannot_be_mixed() -> None:
    with pytest.raises(ConfigError, match=r"mix=1\.5"):
        mixture(1.5)
    lone = NoDuplicates(np.zeros(9), 1)
    lone._length, lone._plain = 0, False  # as of a source whose rows make no batch
    with pytest.raises(DataError, match="Source small has 9 rows, which make no batch of 1"):
        Mixture([Shuffled(9, 3), lone], [np.arange(9), np.arange(9, 18)], names=("large", "small"))
