"""One process among several: what the library needs of torch.distributed, and nothing where there is only one.

Every process computes the loss of the *whole* batch from its own share of it, and gradients of parameters are then
averaged over the processes, as torch's DDP and FSDP do. So the gradient of a sum over processes is itself summed: the
average of the parameters' gradients is the gradient of one process that holds the whole batch, and what reaches the
embeddings of a process is `world` times the gradient of that one.

All functions here are collective: every process calls them, in the same order, even with an empty share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

Transport: TypeAlias = Literal["gather", "ring"]
"""How the candidates of the other processes come here. gather: all at once. ring: one block after the other."""

# torch 2.13 gave the first of these names to what it called by the second before.
_GATHER = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"

_alone: ContextVar[bool] = ContextVar("alone", default=False)
_transport: ContextVar[Transport] = ContextVar("transport", default="gather")


def world() -> int:
    """Number of processes that share a batch; 1 without torch.distributed, and inside `alone`."""
    if _alone.get() or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works for itself: an evaluation, a loss of its own share. No collective is called."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


@contextmanager
def transported(how: Transport) -> Iterator[None]:
    """Inside, losses that compare with the rows of other processes fetch them in this way.

    how: ``gather`` or ``ring``.
    """
    token = _transport.set(how)
    try:
        yield
    finally:
        _transport.reset(token)


def transport() -> Transport:
    """The way chosen by `transported`; without one, ``gather``."""
    return _transport.get()


# --- what is put together ----------------------------------------------------------------------------------------


def total(x: Tensor, op: Literal["sum", "max"] = "sum", /) -> Tensor:
    """``x`` summed over all processes, with gradient; or its largest element by element, without. The same everywhere.

    ``x`` itself where there is one process.

    op: ``sum`` or ``max``.
    """
    if world() == 1:
        return x
    if op == "sum":
        summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
        return summed
    x = x.detach().clone()
    dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def sizes(n: int, device: torch.device | str = "cpu") -> list[int]:
    """The number ``n`` of every process, in order.

    device: of the collective.
    """
    found: list[int] = gathered(torch.tensor([n], device=device), [1] * world()).tolist()
    return found


def gathered(x: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """The rows ``(N_r, ...)`` of every process, in order: ``(sum N_r, ...)``. With gradient, where x requires one.

    counts: N of every process where it is known (saves a collective); N may differ between processes and be 0.
    """
    if world() == 1:
        return x
    out: Tensor = _Gather.apply(x, tuple(counts or sizes(len(x), x.device)))  # type: ignore[no-untyped-call]
    return out


def exchanged(x: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
    """Rows for every process, ``send[r]`` of them for process r, against those of every process for this one.

    x ``(sum send, ...)`` to ``(sum receive, ...)``, in the order of the processes. With gradient.
    """
    if world() == 1:
        return x
    out: Tensor = _Exchange.apply(x, tuple(send), tuple(receive))  # type: ignore[no-untyped-call]
    return out


def fetched(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` ``(P,)`` long of all processes, by their numbers among those of all: ``(N_r, ...)`` to
    ``(P, ...)``. With gradient.

    Only the rows that were asked for travel. P may differ between processes and be 0; a row may be asked for often.

    x: this process's rows.
    """
    if world() == 1:
        return x[index]
    first = torch.tensor(starts(sizes(len(x), x.device)), device=x.device)
    holder = torch.searchsorted(first, index, right=True) - 1
    order = holder.argsort(stable=True)
    asked = torch.bincount(holder, minlength=world())
    of_all = gathered(asked[None], [1] * world())
    receive, send = asked.tolist(), of_all[:, rank()].tolist()
    wanted = exchanged((index - first[holder])[order], receive, send)
    return exchanged(x[wanted], send, receive)[order.argsort()]


def around(tensors: Sequence[Tensor], counts: Sequence[Sequence[int]]) -> Iterator[tuple[int, list[Tensor]]]:
    """The tensors of every process, one process after the other: (its number, its tensors), first those of this one.

    A ring: each process passes on what it has got, so that it never holds more than two blocks of others, of which one
    is on its way while the other is worked on. counts[i]: length of tensor i on every process. No gradient.
    """
    w, r = world(), rank()
    held = [x.detach() for x in tensors]
    for step in range(w):
        b, following = (r - step) % w, (r - step - 1) % w
        arriving = passing(held, [n[following] for n in counts]) if step < w - 1 else list
        yield b, held
        held = arriving()


def passing(tensors: Sequence[Tensor], lengths: Sequence[int]) -> Callable[[], list[Tensor]]:
    """Send tensors to the next process of the ring. The function returned waits for those of the previous one, which
    are so long.

    tensors: that leave this process. lengths: rows of what comes.
    """
    w, r = world(), rank()
    out = [x.new_empty(n, *x.shape[1:]) for x, n in zip(tensors, lengths)]
    pairs = [(x.contiguous(), y) for x, y in zip(tensors, out)]
    jobs = [dist.P2POp(dist.isend, x, (r + 1) % w) for x, _ in pairs if x.numel()]
    jobs += [dist.P2POp(dist.irecv, y, (r - 1) % w) for _, y in pairs if y.numel()]
    works = dist.batch_isend_irecv(jobs) if jobs else []

    def arrived() -> list[Tensor]:
        for work in works:
            work.wait()
        return out

    return arrived


def starts(counts: Sequence[int]) -> list[int]:
    """Where the rows of every process begin among those of all: ``[0, N_0, N_0 + N_1, ...]``, without the end.

    counts: rows of each process.
    """
    return [0, *accumulate(counts)][:-1]


# --- random numbers ----------------------------------------------------------------------------------------------


@contextmanager
def drawing_alike(device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, every process draws the random numbers that the first one does, by torch, on the CPU and on ``device``.

    Afterwards the other processes go on with their own ones (dropout), as if they had drawn nothing. With one process
    this changes nothing.
    """
    if world() == 1:
        yield
        return
    device = torch.device(device)
    gpus = [device] if device.type == "cuda" else []
    own = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, gpus)]
    sent = torch.cat(own).to(device)
    dist.broadcast(sent, 0)
    if rank() == 0:
        yield
        return
    with torch.random.fork_rng(gpus):
        cpu, *others = sent.cpu().split([len(state) for state in own])
        torch.set_rng_state(cpu)
        for gpu, state in zip(gpus, others):
            torch.cuda.set_rng_state(state, gpu)
        yield


def drawn(draw: Callable[[int], Tensor], n: int, device: torch.device | str = "cpu") -> Tensor:
    """What one process that holds the rows of all would draw for the ``n`` rows of this one: ``(n, ...)``.

    draw: from a number of rows to random numbers for each, ``(N, ...)``, by torch on the CPU or on ``device``. Every
    process draws for all rows, as the numbers of a row depend on those drawn before.
    """
    if world() == 1:
        return draw(n)
    counts = sizes(n, device)
    first = starts(counts)[rank()]
    with drawing_alike(device):
        return draw(sum(counts))[first : first + n]


# --- their gradients ---------------------------------------------------------------------------------------------


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: tuple[int, ...]) -> Tensor:
        ctx.counts = counts
        largest = max(counts)
        padded = x.new_zeros(largest, *x.shape[1:])
        padded[: len(x)] = x
        out = x.new_empty(len(counts) * largest, *x.shape[1:])
        getattr(dist, _GATHER)(out, padded)
        if min(counts) == largest:
            return out
        return torch.cat([part[:n] for part, n in zip(torch.split(out, largest), counts)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        own = ctx.counts[dist.get_rank()]
        parts = _swap(grad, ctx.counts, (own,) * len(ctx.counts))
        return parts.view(len(ctx.counts), own, *grad.shape[1:]).sum(0), None


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, send: tuple[int, ...], receive: tuple[int, ...]) -> Tensor:
        ctx.counts = send, receive
        return _swap(x, send, receive)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        send, receive = ctx.counts
        return _swap(grad, receive, send), None, None


def _swap(x: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
    out = x.new_empty(sum(receive), *x.shape[1:])
    dist.all_to_all_single(out, x.contiguous(), list(receive), list(send))
    return out
