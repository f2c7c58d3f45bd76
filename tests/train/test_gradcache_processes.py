"""Gradient caching in two processes: one reduction per step, and the gradient of one process."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from counterpoint import processes
from counterpoint.errors import ConfigError
from counterpoint.train.budget import Budget
from counterpoint.train.gradcache import embed
from tests.processes import spread


class Step(nn.Module):
    """A batch to its loss: two views of one encoder, every row against the rows of all processes."""

    def __init__(self, encoder: nn.Module, micro: Any, statistics: Any = "refuse") -> None:
        super().__init__()
        self.encoder, self.micro, self.statistics = encoder, micro, statistics

    def forward(self, x: Tensor) -> Tensor:
        views = (embed(self.encoder, v, self.micro, statistics=self.statistics) for v in (x, x.roll(1, -1)))
        a, b = (F.normalize(processes.gathered(v), dim=-1) for v in views)
        return F.cross_entropy(5 * a @ b.T, torch.arange(len(a)))


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.0), nn.Linear(8, 4)).double()


def convolution() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten()
    ).double()


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def check(found: nn.Module, expected: nn.Module, *, averaged: bool) -> None:
    """Gradients of this process, averaged over processes here or already, against those of one process."""
    for p, q in zip(found.parameters(), expected.parameters()):
        assert p.grad is not None
        grad = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
        grad = grad if averaged else processes.total(grad) / processes.world()
        torch.testing.assert_close(grad, q.grad, atol=1e-9, rtol=1e-9)


def reductions(rank: int, world: int) -> None:
    shares = [11, 4]
    x = rows(sum(shares), 6)
    mine = x.split(shares)[rank]
    counts: dict[Any, Counter[str]] = {}
    for micro in (None, 5, 3, 1):
        ddp = DistributedDataParallel(Step(plain(), micro))
        seen: Counter[str] = Counter()

        def hook(state, bucket, seen=seen):  # type: ignore[no-untyped-def]  # torch wants its own annotations or none
            seen["buckets"] += 1
            return allreduce_hook(state, bucket)

        ddp.register_comm_hook(None, hook)
        loss = ddp(mine)
        loss.backward()
        counts[micro] = seen
        with processes.alone():
            one = Step(plain(), None)
            one(x).backward()
        check(ddp, one, averaged=True)
    assert counts[None]["buckets"] >= 1
    assert counts[1] == counts[3] == counts[5] == counts[None], "as many as without caching, however many passes"


def unequal_shards(rank: int, world: int) -> None:
    """One reduction per bucket and step is for DDP; shards are fetched in each pass, so all need equally many: 4."""
    shares = [8, 3]
    x = rows(sum(shares), 6)
    step = Step(plain(), 2)
    mesh = init_device_mesh("cpu", (world,))
    for layer in (step.encoder[0], step.encoder[3], step):
        fully_shard(layer, mesh=mesh)
    calls: list[int] = []
    step.encoder.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    step(x.split(shares)[rank]).backward()
    assert calls == [[2] * 16, [1] * 16][rank], "4 passes of 2 views, each once more; the last of rank 1 is a spare one"
    with processes.alone():
        one = Step(plain(), None)
        one(x).backward()
    check(step, one, averaged=True)
    with pytest.raises(ConfigError, match="Give micro_batch instead"):
        embed(step.encoder, x, Budget(1 << 20, step))


def synced(rank: int, world: int) -> None:
    """Statistics of a pass are those of its rows on all processes, of which one has none in the last pass."""
    shares = [7, 2]
    x = rows(sum(shares), 2, 4, 4)
    step = Step(convolution(), 3, "synced")
    step(x.split(shares)[rank]).backward()

    reference = convolution()
    passes = [torch.tensor(p) for p in ([0, 1, 2, 7], [3, 4, 5, 8], [6])]
    place = torch.cat(passes).argsort()
    views = (torch.cat([reference(v[p]) for p in passes])[place] for v in (x, x.roll(1, -1)))
    a, b = (F.normalize(v, dim=-1) for v in views)
    F.cross_entropy(5 * a @ b.T, torch.arange(len(a))).backward()
    check(step, reference, averaged=False)
    for buffer, other in zip(step.buffers(), reference.buffers()):
        torch.testing.assert_close(buffer, other)


def budgets(rank: int, world: int) -> None:
    """A measurement is each process's own affair: one may need it, and the other have no row at all."""
    x = rows(40, 6)
    net = plain()
    mine = x if rank == 0 else x[:0]
    calls: list[int] = []
    net.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    assert embed(net, mine, Budget(18_000, net)).shape == (len(mine), 4)
    assert rank == 1 or sum(calls[-2:]) < len(mine), "three passes or more, after the measurement"


def together(rank: int, world: int) -> None:
    for claim in (reductions, unequal_shards, synced, budgets):
        claim(rank, world)


def test_two_processes() -> None:
    """All claims of this file, in one pair of processes: starting them is what takes the time."""
    spread(together, 2)
