"""Real processes for tests: `spread` runs a function in several of them at once and raises what any of them raised."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def spread(function: Callable[..., None], world: int, *args: Any, seconds: int = 60, start: str = "spawn") -> None:
    """``function(rank, world, *args)`` in ``world`` processes joined by gloo; an error of one ends all.

    function: of a module, so that it can be sent. seconds: how long a process waits for the others. start: ``spawn``, or
    ``forkserver``: all are forked from one process that has imported the function's module, which saves them seconds.
    """
    multiprocessing.set_forkserver_preload([function.__module__])
    with tempfile.TemporaryDirectory() as folder:
        given = world, f"file://{folder}/meet", function, seconds, args
        mp.start_processes(_begin, args=given, nprocs=world, start_method=start)


def _begin(rank: int, world: int, address: str, function: Callable[..., None], seconds: int, args: Any) -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world, timeout=timedelta(seconds=seconds)
    )
    try:
        function(rank, world, *args)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # An interpreter that ends takes down what threads of torch still use, and sometimes aborts in it ("terminate called
    # without an active exception"). All claims held, so this process ends here, without taking anything down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
