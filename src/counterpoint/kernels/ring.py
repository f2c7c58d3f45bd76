"""Many processes, none of which holds more than two blocks of the others' candidates: a ring, around any back end.

Every process keeps its anchors. The candidates travel: each process reduces its rows against the block it has, while
the next one is on its way, so that after as many steps as there are processes each row has seen every candidate. Sums
of rows are put together as blocks come; sums of columns stay with the process that made them, ``(M,)`` numbers, for the
caller to put together. Backward goes around once more, and the gradient of a block travels with it, home in the end.
Together the processes do the matrix products of one process, and each of them sends about three times the bytes of all
candidates: once forward, and with their gradients backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from counterpoint.kernels import tiled
from counterpoint.kernels.backend import DIFFERENTIABLE, FIELDS, Backend, Grads, Pull, flat, unflat, values
from counterpoint.kernels.reference import lse
from counterpoint.kernels.tile import Asked, Form, Job, Reduced, Sums
from counterpoint.processes import around, passing, rank, world


@dataclass(frozen=True)
class Ring:
    """What travels beside the embeddings, and what to do where it arrives.

    candidates, extra: numbers on every process; travels: whether extra candidates go around (or are the same
    everywhere, and are looked at by each process with its own block). wanted: whether a process wants gradients of its
    candidates, and of its extra ones, so that all have to find them. known: what the pairing knows of the columns of
    this process; counts: their lengths on every process. job: the work on the block of a process: of its number, its
    candidates, the extra ones looked at with it, and what is known of both.
    """

    candidates: Sequence[int]
    extra: Sequence[int]
    travels: bool
    wanted: tuple[bool, bool]
    known: Sequence[Tensor]
    counts: Sequence[Sequence[int]]
    asked: Asked
    job: Callable[[int, Tensor, Tensor | None, Sequence[Tensor]], Job]

    def travellers(self, k: Tensor, extra: Tensor | None) -> tuple[list[Tensor], list[Sequence[int]]]:
        """Candidates, extra ones and what is known of both, as they go around; and their lengths on every process."""
        more = k[:0] if extra is None or not self.travels else extra
        counts = self.extra if self.travels else [0] * world()
        return [k, more, *self.known], [self.candidates, counts, *self.counts]

    def looked_at(self, b: int, travelling: Tensor, extra: Tensor | None) -> Tensor | None:
        """The extra candidates that go with the block of process b."""
        if not self.travels:
            return extra if b == rank() else None
        return travelling if len(travelling) else None


def reduce(backend: Backend, q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, ring: Ring) -> Reduced:
    """Reductions of the rows of this process over all candidates, and of all candidates over the rows of this process.

    The columns come in the order of the processes, ``(sum M,)``. Gradients reach q, k, extra and bias.
    """
    out = _Ring.apply(backend, q, k, extra, bias, ring)  # type: ignore[no-untyped-call]
    return unflat(out)


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, backend: Backend, q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, ring: Ring
    ) -> Any:
        ctx.backend, ctx.ring, ctx.states = backend, ring, {}
        rows = nothing(len(q), q, ring.asked)
        columns = [nothing(n, q, ring.asked) for n in ring.candidates]
        for b, (here, travelling, *known) in around(*ring.travellers(k, extra)):
            more = ring.looked_at(b, travelling, extra)
            if not len(q) or not (len(here) or more is not None):
                continue
            job = ring.job(b, here, more, known)
            found, of_columns, ctx.states[b] = _for(here, backend).forward(q, here, more, bias, job)
            rows = merged([rows, found], ring.asked.form)
            columns[b] = of_columns or columns[b]
        parts: list[Any] = [None if None in of else torch.cat(of) for of in zip(*map(values, columns))]
        whole = Sums(*parts)
        ctx.save_for_backward(q, k, extra, bias, rows.over, rows.positives, whole.over, whole.positives)
        return flat(ctx, rows, whole if ring.asked.both else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        q, k, extra, bias, *lse = ctx.saved_tensors
        ring, own = ctx.ring, ctx.needs_input_grad[1:5]
        needed = (own[0], ring.wanted[0], ring.wanted[1] if ring.travels else own[2], own[3])
        rows = Pull(Sums(lse[0], lse[1]), Grads(*grads[:DIFFERENTIABLE]))
        columns = _by_block(lse[2:], grads[FIELDS : FIELDS + DIFFERENTIABLE], ring)
        of_q, of_bias, of_shared = (None if x is None else torch.zeros_like(x) for x in (q, bias, extra))
        tensors, counts = ring.travellers(k, extra)
        with_them = [torch.zeros_like(x) for x in tensors[:2]]  # gradients of the block at hand, which travel with it
        arriving: Callable[[], list[Tensor]] | None = None
        for b, (here, travelling, *known) in around(tensors, counts):
            with_them = arriving() if arriving else with_them
            more = ring.looked_at(b, travelling, extra)
            if b in ctx.states:
                job = ring.job(b, here, more, known)
                back_end = _for(here, ctx.backend)
                found = back_end.backward(q, here, more, bias, job, ctx.states[b], rows, columns[b], needed)
                for to, grad in zip((of_q, with_them[0], with_them[1] if ring.travels else of_shared, of_bias), found):
                    if to is not None and grad is not None:
                        to += grad
            following = (b - 1) % world()
            arriving = passing(with_them, [counts[0][following], counts[1][following]])
        assert arriving is not None
        of_k, of_extra = arriving()
        found = (of_q, of_k, of_extra if ring.travels else of_shared, of_bias)
        return None, *(x if need else None for x, need in zip(found, own)), None


def _for(candidates: Tensor, backend: Backend) -> Backend:
    """Back ends need not know of a block without candidates (but with extra ones); tiles do."""
    return backend if len(candidates) else tiled


def _by_block(lse: Sequence[Tensor | None], grads: Sequence[Tensor | None], ring: Ring) -> list[Pull | None]:
    """What the columns of every block are pulled by."""
    if not ring.asked.both:
        return [None] * len(ring.candidates)
    none = [None] * len(ring.candidates)
    parts = [none if x is None else torch.split(x, list(ring.candidates)) for x in (*lse, *grads)]
    return [Pull(Sums(over, positives), Grads(*rest)) for over, positives, *rest in zip(*parts)]


def nothing(n: int, like: Tensor, asked: Asked) -> Sums:
    """The reductions of no pair at all, for n rows or columns."""

    def full(wanted: bool, value: float = 0.0) -> Tensor | None:
        return like.new_full((n,), value) if wanted else None

    return Sums(
        like.new_full((n,), 0.0 if asked.form == "sigmoid" else -torch.inf),
        full(asked.positives, -torch.inf),
        full(asked.dot),
        full(asked.dot),
        full(asked.counts or asked.positives),
        full(asked.counts),
        full(asked.weights, -torch.inf),
    )


LOGS = ("positives", "weights")


def merged(parts: Sequence[Sums], form: Form) -> Sums:
    """The reductions over the pairs of all parts, from those over each; differentiable."""
    found: dict[str, Any] = {}
    for name in Sums.__slots__:
        of = [x for x in (getattr(part, name) for part in parts) if x is not None]
        if not of:
            found[name] = None
        elif name in LOGS or (name == "over" and form != "sigmoid"):
            found[name] = lse(torch.stack(of, 1))
        else:
            found[name] = torch.stack(of, 1).sum(1)
    return Sums(**found)
