"""The processes of one run, and how they agree: one of them leads, the others follow what it decides.

Everything here travels on the host, apart from the tensors of the training, in a group of its own with a long timeout:
the others may wait for an hour while the leader evaluates. What travels is JSON and plain tensors, never a pickle.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint import errors, processes
from counterpoint.errors import CounterpointError
from counterpoint.train.rendezvous import attempt

T = TypeVar("T")
Groups = dict[str, dict[str, Tensor]]
"""Group -> name -> tensor, as a checkpoint holds them."""

WAIT = timedelta(days=1)
"""How long a process waits for the leader. A leader that has failed is noticed at once."""


class Failed(CounterpointError, RuntimeError):
    """Another process of the run failed, with something that is no error of this library."""


def launched() -> tuple[int, int]:
    """(rank, world) of this process: of its group, else as `torchrun` says in the environment, else (0, 1)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def started(device: str = "auto") -> Iterator[None]:
    """Inside, the processes that `torchrun` started are a group. Nothing happens for one process, or in a group.

    device: ``auto`` or ``cuda``: nccl between GPUs where there are any, else gloo.
    """
    if launched()[1] == 1 or dist.is_initialized():
        yield
        return
    cuda = device.startswith(("auto", "cuda")) and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if restarts():
        store, rank, world = next(dist.rendezvous("env://"))
        store = dist.PrefixStore(attempt(store, rank, world), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    else:
        dist.init_process_group(backend)
    failed = True
    try:
        yield
        failed = False
    finally:
        # After an error, nccl would wait for what the others never do; they notice when this process has ended. Threads
        # of gloo, left alone, sometimes abort a process that ends.
        if not (failed and cuda):
            gc.collect()  # wrapped models, which hold a group, lie in cycles
            dist.destroy_process_group()


def local_rank() -> int:
    """Number of this process on its machine, as `torchrun` says; else from the number of GPUs there."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    return launched()[0] % max(1, torch.cuda.device_count())


def restarts() -> bool:
    """Whether a launcher starts the processes anew when one of them dies (``torchrun --max-restarts 3``)."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


@contextmanager
def noticing() -> Iterator[None]:
    """Inside, the end of another process is told in a sentence."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or any(x in str(error) for x in ("closed by peer", "reset by peer"))
        if not lost or isinstance(error, CounterpointError):
            raise
        raise Failed("Another process of this run has ended, so this one cannot go on.") from error


class Team:
    """All processes of the group; made by all of them at the same time. A team of one decides for itself."""

    def __init__(self) -> None:
        grouped = dist.is_available() and dist.is_initialized()
        self.rank, self.world = launched() if grouped else (0, 1)
        self.leads = self.rank == 0
        self._group = dist.new_group(backend="gloo", timeout=WAIT) if self.world > 1 else None

    # --- the leader's word -----------------------------------------------------------------------------------------

    def first(self, work: Callable[[], T]) -> T:
        """What the leader's ``work`` gives, which must be JSON, on every process. Its error is raised on all.

        The leader works alone (see `counterpoint.processes.alone`), as the others only wait.
        """
        if not self.leads:
            return self._heard()  # type: ignore[no-any-return]
        try:
            with processes.alone():
                value = work()
        except BaseException as error:
            self._say({"error": type(error).__name__, "said": str(error)})
            raise
        self._say({"value": value})
        return value

    def in_turn(self, lead: Callable[[], T], follow: Callable[[], T] | None = None) -> T:
        """The leader does its part; where that went well, the others then do theirs (None: the same part).

        lead: the leader's part. follow: the others' (None: the same).
        """
        done: list[T] = []
        self.first(lambda: done.append(lead()))
        with processes.alone():
            return done[0] if self.leads else (follow or lead)()

    def _say(self, message: Mapping[str, Any]) -> None:
        if self.world > 1:
            text = _bytes(json.dumps(message).encode())
            dist.broadcast(torch.tensor([len(text)]), 0, group=self._group)
            dist.broadcast(text, 0, group=self._group)

    def _heard(self) -> Any:
        length = torch.zeros(1, dtype=torch.long)
        dist.broadcast(length, 0, group=self._group)
        text = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(text, 0, group=self._group)
        message = json.loads(text.numpy().tobytes())
        if "error" not in message:
            return message["value"]
        kind = getattr(errors, message["error"], None)
        error: Any = (
            kind(message["said"]) if kind else Failed(f"Process 0 failed: {message['error']}: {message['said']}")
        )
        error.told = True  # by process 0
        raise error

    # --- tensors and numbers ---------------------------------------------------------------------------------------

    def spread(self, make: Callable[[], Groups]) -> Groups:
        """The tensors that ``make`` gives on the leader, where alone it is called, on the CPU of every process."""
        if self.world == 1:
            return make()
        made: list[Groups] = []

        def describe() -> list[tuple[str, str, str, list[int]]]:
            made.append(make())
            every = [(group, name, x) for group, tensors in made[0].items() for name, x in tensors.items()]
            return [(group, name, str(x.dtype).removeprefix("torch."), list(x.shape)) for group, name, x in every]

        out: dict[str, dict[str, Tensor]] = {}
        for group, name, dtype, shape in self.first(describe):
            x = torch.empty(shape, dtype=getattr(torch, dtype))
            if made:
                x.copy_(made[0][group][name])
            if x.numel():
                dist.broadcast(x.reshape(-1).view(torch.uint8), 0, group=self._group)
            out.setdefault(group, {})[name] = x
        return out

    def collected(self, x: Tensor) -> list[Tensor]:
        """The tensor of every process, on the CPU; they have one shape.

        x: this process's.
        """
        if self.world == 1:
            return [x]
        out = [torch.empty_like(x, device="cpu") for _ in range(self.world)]
        dist.all_gather(out, x.cpu(), group=self._group)
        return out

    def summed(self, *numbers: float) -> list[float]:
        """Each number summed over the processes."""
        if self.world == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(found, group=self._group)
        return found.tolist()  # type: ignore[no-any-return]

    def averaged(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The figures that the leader has, each the mean over the processes that have it."""
        if self.world == 1:
            return dict(figures)
        names = self.first(lambda: sorted(figures))
        sums = self.summed(*(figures.get(n, 0.0) for n in names), *(float(n in figures) for n in names))
        return {n: x / times for n, x, times in zip(names, sums, sums[len(names) :])}

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Path]:
        """The leader's folder: itself there, a copy elsewhere, so that machines need not share a disk."""
        if self.world == 1:
            yield folder
            return

        def read() -> Groups:
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            return {"files": {str(p.relative_to(folder)): _bytes(p.read_bytes()) for p in files}}

        found = self.spread(read).get("files", {})
        if self.leads:
            yield folder
            return
        with tempfile.TemporaryDirectory() as name:
            for path, content in found.items():
                file = Path(name) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.numpy().tobytes())
            yield Path(name)


def _bytes(content: bytes) -> Tensor:
    return (
        torch.tensor([], dtype=torch.uint8) if not content else torch.frombuffer(bytearray(content), dtype=torch.uint8)
    )
