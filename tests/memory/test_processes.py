"""Memories take in the rows of all processes: equal on each, and those of one process that has all rows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from counterpoint.errors import DataError
from counterpoint.memory.bank import Bank
from counterpoint.memory.codebook import Codebook
from counterpoint.memory.prototypes import MeanPrototypes
from counterpoint.memory.queue import Queue
from counterpoint.memory.statistics import RunningMoment, RunningVariance
from counterpoint.memory.teacher import Teacher
from tests.processes import spread

WORLD, ROWS = 3, 11


def updated(part: slice) -> dict[str, dict[str, torch.Tensor]]:
    """Every memory after three updates with a part of the rows; they are float64, so that sums have no order."""
    torch.manual_seed(0)
    student = nn.Linear(4, 4).double()
    queue = Queue(2 * ROWS, 4, fields={"label": torch.long}).double()
    bank, codebook = Bank(ROWS, 4).double(), Codebook(5, 4, decay=0.5).double()
    prototypes, moment, variance = MeanPrototypes(5, 4).double(), RunningMoment(4, 0.3).double(), RunningVariance(4)
    variance.double()
    teacher = Teacher(student, momentum=0.5)
    for step in range(3):
        z = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(step)).double()[part]
        numbers = torch.arange(ROWS)[part]
        queue.push(z, label=numbers)
        bank.update(numbers, z)
        codebook.update(z)
        prototypes.update(z, numbers % 5)
        moment.update(z)
        variance.update(z)
        with torch.no_grad():
            student.weight.add_(1)
        teacher.update(student)
    last = codebook(z)
    codebook.register_buffer("read", torch.stack([last.commitment, codebook.perplexity(last.codes)]))
    every = (queue, bank, codebook, prototypes, moment, variance, teacher)
    return {type(m).__name__: m.state_dict() for m in every}


def share(rank: int, world: int) -> slice:
    """Blocks of unequal length, the second one empty: in order, they are the rows of one process."""
    return [slice(0, 7), slice(7, 7), slice(7, ROWS)][rank]


def work(rank: int, world: int, folder: Path) -> None:
    torch.save(updated(share(rank, world)), folder / f"{rank}.pt")
    queue = Queue(4, 2)
    bad = torch.full((1, 2), torch.nan) if rank == 2 else torch.ones(1, 2)
    try:
        queue.push(bad)
    except DataError as error:
        torch.save(str(error), folder / f"said-{rank}.pt")


def test_many_processes_remember_what_one_does_and_refuse_together(tmp_path: Path) -> None:
    spread(work, WORLD, tmp_path)
    expected = updated(slice(None))
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for state in states:
        assert state.keys() == expected.keys()
        for name, memory in expected.items():
            for key, value in memory.items():
                torch.testing.assert_close(state[name][key], value, atol=1e-12, rtol=1e-12)
                assert torch.equal(state[name][key], states[0][name][key]), f"{name}.{key}"
    said = [torch.load(tmp_path / f"said-{rank}.pt", weights_only=True) for rank in range(WORLD)]
    assert said[0] == said[1] == said[2]
    assert said[0].startswith("Row 2 of 3 given to a queue is not finite")
