"""Real processes for tests: `spread` runs a function in several of them at once and raises what any of them raised."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from multiprocessing import forkserver
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def spread(
    function: Callable[..., None], world: int, *args: Any, seconds: int = 60, forked: tuple[str, ...] = ()
) -> None:
    """``function(rank, world, *args)`` in ``world`` processes joined by gloo; an error of one ends all.

    function: of a module, so that it can be sent. seconds: how long a process waits for the others. forked: modules
    that take long to import: one process does it, once for all calls, and the others are forked from it.
    """
    if forked:
        _import_once(forked)
    with tempfile.TemporaryDirectory() as folder:
        given = world, f"file://{folder}/meet", function, seconds, args
        mp.start_processes(_begin, args=given, nprocs=world, start_method="forkserver" if forked else "spawn")


@cache
def _import_once(modules: tuple[str, ...]) -> None:
    """Start the process that others are forked from. It finds modules by PYTHONPATH alone (Python 3.11 and 3.12)."""
    held = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        multiprocessing.set_forkserver_preload(list(modules))
        forkserver.ensure_running()
    finally:
        if held is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = held


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
