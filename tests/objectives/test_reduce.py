"""Two processes equal one: every statistic of the whole batch, loss and gradient, over real processes."""

import importlib
import pkgutil

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import counterpoint.objectives as package
from counterpoint.errors import DataError
from counterpoint.memory.prototypes import MeanPrototypes
from counterpoint.memory.statistics import RunningMoment, RunningVariance
from counterpoint.objectives.base import is_objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import batch_size
from counterpoint.processes import total


def alone(x, op="sum"):
    return x


def global_statistics():
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        for value in vars(importlib.import_module(info.name)).values():
            if is_objective(value) and value.rank is RankBehaviour.GLOBAL_STATISTIC:
                yield value


def process(rank, address):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    objectives = list(global_statistics())
    assert len(objectives) >= 4
    for objective in objectives:
        whole, settings = objective.example(0)
        cut = len(whole[0]) // 3  # processes of different size
        mine = slice(0, cut) if rank == 0 else slice(cut, None)
        whole = [x.requires_grad_() for x in whole]
        loss = objective(*whole, **settings, reduce=alone)
        grads = torch.autograd.grad(loss, whole)
        part = [x.detach()[mine].requires_grad_() for x in whole]
        part_loss = objective(*part, **settings)
        torch.testing.assert_close(part_loss, loss, rtol=1e-10, atol=1e-12)
        for found, expected in zip(torch.autograd.grad(part_loss, part), grads):
            # Averaged over the two processes, as DDP does with gradients.
            torch.testing.assert_close(found / 2, expected[mine], rtol=1e-8, atol=1e-10)

    z, assignment = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3
    mine = slice(0, 2) if rank == 0 else slice(2, None)
    for build in (lambda: RunningMoment(4, 0.3), lambda: RunningVariance(4, 0.3)):
        one, spread = build(), build()
        for scale in (1, 2):
            one.update(scale * z, reduce=alone)
            spread.update(scale * z[mine])
        torch.testing.assert_close(spread.state_dict(), one.state_dict())
    one, spread = (MeanPrototypes(3, 4) for _ in range(2))
    one.update(z, assignment, reduce=alone)
    spread.update(z[mine], assignment[mine])
    torch.testing.assert_close(spread.weight, one.weight)

    # An empty share is ordinary.
    assert batch_size(z[:0] if rank else z, total) == 9
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this build of torch has no torch.distributed")
def test_two_processes_give_the_loss_and_the_gradient_of_one(tmp_path):
    mp.spawn(process, args=(f"file://{tmp_path}/meet",), nprocs=2)


def test_one_process_is_itself():
    x = torch.ones(3, requires_grad=True)
    assert total(x) is x
    assert total(x, "max") is x
    with pytest.raises(DataError, match="at least 2 rows; 1 were given"):
        batch_size(torch.ones(1, 2), total)
