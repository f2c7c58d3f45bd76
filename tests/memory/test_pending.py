"""What a step leaves for after it."""

import gc

import torch

from counterpoint.data.batch import Batch
from counterpoint.memory.pending import Pending


def batch(n=2):
    return Batch((), torch.arange(n))


def test_a_batch_that_is_replayed_counts_once_with_its_last_value():
    pending, one, two = Pending(), batch(), batch()
    pending.put(one, "a")
    pending.put(two, "b")
    pending.put(one, "c")
    assert [(b is one, value) for b, value in pending.take()] == [(True, "c"), (False, "b")]
    assert pending.take() == []


def test_batches_that_nobody_else_holds_are_not_taken_for_one_another():
    pending = Pending()
    for i in range(100):  # memory that was freed would be given to the next batch, and with it its id
        pending.put(batch(), i)
        gc.collect(0)
    assert [value for _, value in pending.take()] == list(range(100))
