"""Samplers: pure functions of (seed, epoch), each row as often as promised, no batch that breaks its rule."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data.sampler import Homogeneous, InTurn, LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled
from counterpoint.errors import ConfigError, DataError

N, B = 103, 10
RNG = np.random.default_rng(0)


def make(name: str, *, drop_last: bool = True, seed: int = 0) -> Sampler:
    match name:
        case "shuffled":
            return Shuffled(N, B, seed=seed, drop_last=drop_last)
        case "bucketed":
            return LengthBucketed(np.arange(N) % 17, B, seed=seed, drop_last=drop_last, pool=3)
        case "distinct":
            return NoDuplicates(np.arange(N) % 60, B, seed=seed, drop_last=drop_last)
        case "homogeneous":
            return Homogeneous(np.arange(N) % 3, B, seed=seed, drop_last=drop_last)
        case _:
            return PxK(np.arange(N) % 7, B, per_class=2, seed=seed)


NAMES = ["shuffled", "bucketed", "distinct", "homogeneous", "pxk"]


@pytest.mark.parametrize("name", NAMES)
def test_a_pure_function_of_seed_and_epoch(name: str) -> None:
    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [b.tolist() for b in make(name, seed=seed).batches(epoch)]

    assert plan(3, 5) == plan(3, 5)
    assert plan(3, 5) != plan(3, 6)
    assert plan(3, 5) != plan(4, 5)


@pytest.mark.parametrize("name", NAMES)
def test_length_is_the_number_of_batches(name: str) -> None:
    for drop_last in (True, False):
        sampler = make(name, drop_last=drop_last)
        assert len(sampler) == sum(1 for _ in sampler.batches(0))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "pxk"])
def test_each_row_once_per_epoch(name: str) -> None:
    every = np.concatenate(list(make(name, drop_last=False).batches(2)))
    assert sorted(every.tolist()) == list(range(N))
    whole = list(make(name).batches(2))
    assert {len(b) for b in whole} == {B}
    taken = np.concatenate(whole)
    assert len(set(taken.tolist())) == len(taken)


@pytest.mark.parametrize("name", ["shuffled", "bucketed"])
def test_other_rows_are_left_out_in_other_epochs(name: str) -> None:
    sampler = make(name)
    left = [set(range(N)) - set(np.concatenate(list(sampler.batches(e))).tolist()) for e in range(2)]
    assert {len(s) for s in left} == {N % B}
    assert left[0] != left[1]


def test_bucketed_batches_hold_like_lengths() -> None:
    lengths = RNG.integers(1, 200, 2_000)
    padded = {}
    for sampler in (Shuffled(2_000, 50), LengthBucketed(lengths, 50, pool=20)):
        padded[type(sampler)] = sum(len(b) * lengths[b].max() for b in sampler.batches(0))
    assert padded[LengthBucketed] < 1.1 * lengths.sum()
    assert padded[Shuffled] > 1.8 * lengths.sum()


def test_bucketed_batches_come_in_no_order_of_length() -> None:
    lengths = RNG.integers(1, 200, 2_000)
    means = [lengths[b].mean() for b in LengthBucketed(lengths, 50, pool=40).batches(0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_bucketed_does_not_always_drop_the_longest() -> None:
    lengths = np.arange(15)
    sampler = LengthBucketed(lengths, 10)
    dropped = Counter(i for e in range(200) for i in set(range(15)) - set(next(sampler.batches(e)).tolist()))
    assert min(dropped[i] for i in range(15)) > 30  # 200 · 5 / 15 ≈ 67 expected of each


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-1, 12), st.integers(-1, 12)), min_size=1, max_size=60),
    st.integers(1, 8),
    st.booleans(),
)
@pytest.mark.filterwarnings("ignore:There are")
def test_no_two_rows_of_a_batch_share_a_key(keys: list[tuple[int, int]], batch: int, drop_last: bool) -> None:
    sampler = NoDuplicates(np.array(keys), batch, drop_last=drop_last)
    batches = list(sampler.batches(0))
    for found in batches:
        shared = Counter(k for i in found for k in set(keys[i]) if k >= 0)
        assert not shared or max(shared.values()) == 1
    rows = [int(i) for b in batches for i in b]
    assert len(set(rows)) == len(rows)
    if drop_last:
        assert all(len(b) == sampler.batch for b in batches)
    else:
        assert sorted(rows) == list(range(len(keys)))


def test_rows_that_did_not_fit_come_in_the_next_batch() -> None:
    keys = np.array([0, 0, 1, 2, 3, 4])
    sampler = NoDuplicates(keys, 3, drop_last=False)
    for epoch in range(20):
        order = [int(i) for i in sampler.rng(epoch).permutation(6)]
        first, second, *_ = (b.tolist() for b in sampler.batches(epoch))
        twins = [i for i in order if i in (0, 1)]
        if order.index(twins[1]) < 3:
            assert first == [i for i in order[:4] if i != twins[1]]
            assert second[0] == twins[1]
        else:
            assert first == order[:3]


def test_a_batch_without_repeats_that_cannot_be_made() -> None:
    sampler = NoDuplicates(np.zeros(10, dtype=int), 4)
    with pytest.raises(DataError, match="No batch of 4 rows can be made in which no text occurs twice"):
        len(sampler)


def test_pxk_batches() -> None:
    labels = np.repeat(np.arange(8), 12)
    sampler = PxK(labels, 32, per_class=4)
    assert (sampler.classes, sampler.per_class, sampler.batch, len(sampler)) == (8, 4, 32, 3)
    for epoch in range(3):
        batches = list(sampler.batches(epoch))
        assert all(Counter(labels[b]) == dict.fromkeys(range(8), 4) for b in batches)
        assert sorted(np.concatenate(batches).tolist()) == list(range(96))  # balanced: each row once


def test_pxk_with_few_classes_keeps_the_batch() -> None:
    sampler = PxK(np.arange(100) % 2, 32)
    assert (sampler.classes, sampler.per_class) == (2, 16)


def test_pxk_with_small_classes_repeats_their_rows_only() -> None:
    labels = np.array([0] * 40 + [1] * 2)
    sampler = PxK(labels, 8, per_class=4)
    seen = Counter(int(i) for e in range(20) for b in sampler.batches(e) for i in b)
    assert set(seen) == set(range(42))
    assert min(seen[40], seen[41]) > 2 * max(seen[i] for i in range(40))
    for b in sampler.batches(0):
        assert Counter(labels[b]) == {0: 4, 1: 4}
        assert len({i for i in b if i < 40}) == 4


def test_pxk_needs_classes() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        PxK(np.zeros(10), 4, per_class=2)
    with pytest.raises(ConfigError, match=r"cannot hold two classes with 2 rows each.* a larger one: --batch 8"):
        PxK(np.arange(10) % 2, 3, per_class=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no advice to set the batch to 3 before the error says that 3 are too few
        with pytest.raises(ConfigError, match=r"A batch of 3 rows cannot hold .* Give more labelled rows"):
            PxK(np.array([0, 0, 1]), 8)


def test_homogeneous_batches() -> None:
    sources = np.array([0] * 25 + [1] * 12 + [2] * 3)
    with pytest.warns(UserWarning, match=r"1 of 3 sources have fewer rows.*\(3 rows\)"):
        sampler = Homogeneous(sources, 10)
    batches = list(sampler.batches(0))
    assert [len({*sources[b]}) for b in batches] == [1] * 3
    orders = {tuple(int(sources[b[0]]) for b in sampler.batches(e)) for e in range(20)}
    assert len(orders) == 3  # 0 0 1 in every order
    with pytest.raises(DataError, match="No source has the 30 rows"):
        Homogeneous(sources, 30)


def test_fewer_rows_than_the_batch() -> None:
    with pytest.warns(UserWarning, match="There are 3 rows, fewer than the batch of 8"):
        sampler = Shuffled(3, 8)
    assert (sampler.batch, len(sampler)) == (3, 1)
    assert sorted(next(sampler.batches(0)).tolist()) == [0, 1, 2]
    with pytest.raises(DataError, match="no rows"):
        Shuffled(0, 8)
    with pytest.raises(ConfigError, match="smallest is 1"):
        Shuffled(3, 0)


def test_tasks_in_turn_each_row_once_a_pass():
    labels = np.array([0, 1, 2, 3] * 6)
    tasks = np.where(labels < 2, 3, 8)  # 12 rows each
    sampler = InTurn(labels, tasks, 4, epochs=2)
    assert len(sampler) == 6
    given = [b for epoch in range(2) for b in sampler.batches(epoch)]
    assert [set(tasks[b]) for b in given] == [{3}] * 6 + [{8}] * 6
    for start in range(0, 12, 3):
        assert sorted(np.concatenate(given[start : start + 3])) == sorted(np.flatnonzero(tasks == (3, 8)[start // 6]))
    assert not np.array_equal(given[0], given[3])
    assert [sampler.task_at(s) for s in (0, 5, 6, 11, 12)] == [0, 0, 1, 1, 1]
    again = [b for epoch in range(2) for b in InTurn(labels, tasks, 4, steps=12).batches(epoch)]
    assert all(np.array_equal(a, b) for a, b in zip(given, again, strict=True))


def test_tasks_share_the_steps_by_their_size_and_small_ones_come_whole():
    tasks = np.array([0] * 30 + [1] * 3 + [2] * 20)
    sampler = InTurn(tasks, tasks, 10, epochs=3)
    given = [b for epoch in range(3) for b in sampler.batches(epoch)]
    assert [int(tasks[b[0]]) for b in given] == [0] * 9 + [1] * 3 + [2] * 6
    assert [len(b) for b in given[9:12]] == [3, 3, 3]


def test_a_class_of_two_tasks_is_refused():
    with pytest.raises(DataError, match="Class 1 comes in task 0 and again in task 2"):
        InTurn(np.array([0, 1, 1, 2]), np.array([0, 0, 2, 2]), 2)
    with pytest.raises(DataError, match="Class b comes"):
        InTurn(np.array([0, 1, 1, 2]), np.array([0, 0, 2, 2]), 2, classes=("a", "b", "c"))


def test_rows_of_an_epoch_where_many_share_texts() -> None:
    keys = np.array([[i % 4, 10 + i] for i in range(30)])  # of every batch of more than four rows, two share a text
    assert NoDuplicates(keys, 4).rows_of_epoch >= 24
    assert NoDuplicates(keys, 5).rows_of_epoch == 0
    assert NoDuplicates(np.arange(30), 8).rows_of_epoch == 24
