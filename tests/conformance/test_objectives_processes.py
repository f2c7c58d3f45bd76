"""Many processes equal one: for every objective, by what it declares, its loss and its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.processes import alone
from tests.conformance.test_objectives import OBJECTIVES, floats, total
from tests.processes import spread

SHARES = {2: (1 / 3, 2 / 3), 3: (1 / 2, 0.0, 1 / 2)}


def cut(value: Any, n: int, rows: slice) -> Any:
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == n else value


def equal_one(rank: int, world: int) -> None:
    seen = set()
    for name, objective in OBJECTIVES.items():
        args, kwargs = objective.example(0)  # type: ignore[attr-defined]
        n = max(len(v) for v in [*args, *kwargs.values()] if isinstance(v, Tensor) and v.ndim)
        ends = [round(n * sum(SHARES[world][:r])) for r in range(world + 1)]
        rows = slice(ends[rank], ends[rank + 1])
        part = [cut(v, n, rows) for v in args], {k: cut(v, n, rows) for k, v in kwargs.items()}
        whole, mine = ([t.detach().requires_grad_() for t in floats(*given)] for given in ((args, kwargs), part))
        with alone():
            loss = total(objective(*swap(args, whole), **kwargs))
        here = total(objective(*swap(part[0], mine), **part[1]))
        torch.testing.assert_close(here, loss, rtol=1e-9, atol=1e-11, msg=lambda text: f"{name}: {text}")  # noqa: B023
        seen.add(objective.rank)  # type: ignore[attr-defined]
        if not loss.requires_grad:
            continue
        count = len([v for v in args if isinstance(v, Tensor) and v.is_floating_point()])
        with alone():
            expected = torch.autograd.grad(loss, whole[:count], allow_unused=True)
        found = torch.autograd.grad(here, mine[:count], allow_unused=True)
        for a, b in zip(found, expected):
            if b is not None:
                a = torch.zeros_like(cut(b, n, rows)) if a is None else a
                torch.testing.assert_close(
                    a / world,
                    cut(b, n, rows),
                    rtol=1e-8,
                    atol=1e-10,
                    msg=lambda text: f"{name}: {text}",  # noqa: B023
                )
    assert seen == set(RankBehaviour)


def swap(args: Any, leaves: list[Tensor]) -> list[Any]:
    """The arguments with their floating point tensors replaced by leaves, in order."""
    given = iter(leaves)
    return [next(given) if isinstance(v, Tensor) and v.is_floating_point() else v for v in args]


@pytest.mark.parametrize("world", [2, 3])
def test_every_objective_of_many_processes_is_that_of_one(world: int) -> None:
    spread(equal_one, world)
