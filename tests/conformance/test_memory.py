"""Every memory passes these checks; a memory is found by its base class and shows itself with `example`."""

from __future__ import annotations

import pytest
import torch

import counterpoint.memory as package
from counterpoint.errors import CounterpointError
from counterpoint.memory.base import Memory
from tests.conformance.discovery import subclasses

MEMORIES = subclasses(package, Memory)
HOLDS_ROWS = {k: v for k, v in MEMORIES.items() if hasattr(v.example(0)[0], "dim")}  # a teacher holds none
holding_rows = pytest.mark.parametrize("cls", HOLDS_ROWS.values(), ids=HOLDS_ROWS)
every = pytest.mark.parametrize("cls", MEMORIES.values(), ids=MEMORIES)


def rows(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def width(memory: Memory) -> int:
    return int(getattr(memory, "dim", 4))


def test_there_are_memories() -> None:
    assert {"Queue", "Bank", "Prototypes", "RunningMoment", "Teacher", "Codebook"} <= set(MEMORIES)


@every
def test_same_seed_same_state(cls: type[Memory]) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        memory, update = cls.example(3)
        update(rows(5, width(memory)))
        states.append(memory.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@holding_rows
def test_state_survives_saving_and_loading_and_goes_on_alike(cls: type[Memory]) -> None:
    torch.manual_seed(0)
    memory, update = cls.example(0)
    update(rows(5, width(memory)))
    torch.manual_seed(0)
    other, other_update = cls.example(1)
    other.load_state_dict(memory.state_dict())
    torch.manual_seed(1)
    update(rows(3, width(memory), seed=1))
    torch.manual_seed(1)
    other_update(rows(3, width(memory), seed=1))
    for key, value in memory.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@every
def test_an_update_builds_no_graph(cls: type[Memory]) -> None:
    memory, update = cls.example(0)
    z = rows(4, width(memory)).requires_grad_()
    update(z)
    assert all(not b.requires_grad for b in memory.buffers())


@every
def test_a_batch_of_one(cls: type[Memory]) -> None:
    memory, update = cls.example(0)
    update(rows(1, width(memory)))
    assert all(torch.isfinite(b).all() for b in memory.buffers() if b.is_floating_point())


@holding_rows
def test_nan_is_refused_and_the_state_is_untouched(cls: type[Memory]) -> None:
    memory, update = cls.example(0)
    before = {k: v.clone() for k, v in memory.state_dict().items()}
    z = rows(4, width(memory))
    z[2, 0] = torch.nan
    with pytest.raises(CounterpointError, match="Row 2"):
        update(z)
    assert all(torch.equal(before[k], v) for k, v in memory.state_dict().items())
