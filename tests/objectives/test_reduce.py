"""Means and sums over one process or many, and memories that are the same on all of them."""

import pytest
import torch

from counterpoint.errors import DataError
from counterpoint.memory.prototypes import MeanPrototypes
from counterpoint.memory.statistics import RunningMoment, RunningVariance
from counterpoint.objectives.reduce import batch_size, reduced
from counterpoint.processes import alone, total
from tests.processes import spread


def memories(rank, world):
    z, assignment = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3
    mine = slice(0, 2) if rank == 0 else slice(2, None)
    for build in (lambda: RunningMoment(4, 0.3), lambda: RunningVariance(4, 0.3)):
        one, many = build(), build()
        for scale in (1, 2):
            with alone():
                one.update(scale * z)
            many.update(scale * z[mine])
        torch.testing.assert_close(many.state_dict(), one.state_dict())
    one, many = (MeanPrototypes(3, 4) for _ in range(2))
    with alone():
        one.update(z, assignment)
    many.update(z[mine], assignment[mine])
    torch.testing.assert_close(many.weight, one.weight)
    # An empty share is ordinary.
    assert batch_size(z[:0] if rank else z) == 9
    assert reduced(z[:0, 0] if rank else z[:, 0], "mean") == z[:, 0].mean()


def test_memories_and_sizes_of_two_processes():
    spread(memories, 2)


def test_one_process_is_itself():
    x = torch.ones(3, requires_grad=True)
    assert total(x) is x
    assert total(x, "max") is x
    assert reduced(x[:0], "mean") == 0
    with pytest.raises(DataError, match="at least 2 rows; 1 were given"):
        batch_size(torch.ones(1, 2))
