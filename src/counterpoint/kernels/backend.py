"""What a back end is: the reductions of a pair matrix, and their gradient, each as a function of plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from counterpoint.kernels.tile import Job, Reduced, Sums

Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Of q, k, extra and bias; None where not needed."""


@dataclass(slots=True)
class Pull:
    """What one side of the pair matrix is pulled by: its reductions, and the gradients that arrived at three of them.

    sums: over and positives are set where they were asked for. They may cover more pairs than the matrix at hand: the
    rows of a matrix that is computed in blocks of columns are pulled by the logsumexps of the whole row.
    grads: over, positives and dot, ``(N,)`` or ``(M,)`` each, None where none arrived.
    """

    sums: Sums
    grads: Grads


@dataclass(slots=True)
class Grads:
    """Gradients by the reductions over, positives and dot of `Sums`; None where none arrived."""

    over: Tensor | None = None
    positives: Tensor | None = None
    dot: Tensor | None = None


class Backend(Protocol):
    """The scores are ``S = q @ [k; extra].T + bias``: q ``(N, D)``, k ``(M, D)``, extra ``(K, D)``, bias ``()``.

    All float32 or all float64, N and M at least 1. Neither function keeps an autograd graph.
    """

    def forward(
        self, q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job, /
    ) -> tuple[Sums, Sums | None, Any]:
        """Reductions by row, by candidate (where ``job.asked.both``), and what `backward` wants to know again."""
        ...

    def backward(
        self,
        q: Tensor,
        k: Tensor,
        extra: Tensor | None,
        bias: Tensor | None,
        job: Job,
        state: Any,
        rows: Pull,
        columns: Pull | None,
        needed: Sequence[bool],
        /,
    ) -> Gradients:
        """Gradients of q, k, extra and bias (``needed``: which of the four).

        job: as in the forward pass. state: what that returned for here. rows, columns: gradients by the reductions of
        both sides.
        """
        ...


FIELDS = len(Sums.__slots__)
DIFFERENTIABLE = 3
"""The first fields of `Sums`, over, positives and dot, have gradients."""


Linear: TypeAlias = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""``sum_j T S`` and ``sum_j T`` of the rows, then of the columns, found without looking at the pairs."""


def reduce(
    backend: Backend,
    q: Tensor,
    k: Tensor,
    extra: Tensor | None,
    bias: Tensor | None,
    job: Job,
    linear: Linear | None = None,
) -> Reduced:
    """The reductions as functions that autograd knows: gradients reach q, k, extra and bias.

    linear: taken as they are, with the gradient that `backward` gives them: from the pairs, together with the others.
    backend: what computes. job: what is asked, and the rules.
    """
    out = _Reduce.apply(backend, q, k, extra, bias, job, linear)  # type: ignore[no-untyped-call]
    return unflat(out)


def values(sums: Sums) -> tuple[Tensor | None, ...]:
    """The fields of the reductions ``sums``, in their order."""
    return tuple(getattr(sums, name) for name in sums.__slots__)


def flat(ctx: Any, rows: Sums, columns: Sums | None) -> tuple[Tensor | None, ...]:
    """What the forward pass of an autograd function returns for reductions: their fields, rows' then columns'.

    ctx: of the function. rows, columns: the reductions of both sides.
    """
    ctx.set_materialize_grads(False)
    out = (*values(rows), *(values(columns) if columns else ()))
    ctx.mark_non_differentiable(*(x for i, x in enumerate(out) if x is not None and i % FIELDS >= DIFFERENTIABLE))
    return out


def unflat(out: Sequence[Any]) -> Reduced:
    """The inverse of `flat`.

    out: what the function returned.
    """
    return Reduced(Sums(*out[:FIELDS]), Sums(*out[FIELDS:]) if len(out) > FIELDS else None)


class _Reduce(torch.autograd.Function):
    """The fields of `Sums` for the rows, then for the columns; None where not asked."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        q: Tensor,
        k: Tensor,
        extra: Tensor | None,
        bias: Tensor | None,
        job: Job,
        linear: Linear | None,
    ) -> Any:
        rows, columns, state = backend.forward(q, k, extra, bias, job)
        if linear is not None:
            rows.dot, rows.total = linear[:2]
            if columns:
                columns.dot, columns.total = linear[2:]
            job = replace(job, asked=replace(job.asked, dot=True))
        ctx.backend, ctx.job, ctx.state = backend, job, state
        lse = [rows.over, rows.positives, *((columns.over, columns.positives) if columns else (None, None))]
        ctx.save_for_backward(q, k, extra, bias, *lse)
        return flat(ctx, rows, columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        q, k, extra, bias, *lse = ctx.saved_tensors
        rows = Pull(Sums(lse[0], lse[1]), Grads(*grads[:DIFFERENTIABLE]))
        columns = None
        if ctx.job.asked.both:
            columns = Pull(Sums(lse[2], lse[3]), Grads(*grads[FIELDS : FIELDS + DIFFERENTIABLE]))
        needed = ctx.needs_input_grad[1:5]
        return None, *ctx.backend.backward(q, k, extra, bias, ctx.job, ctx.state, rows, columns, needed), None, None
