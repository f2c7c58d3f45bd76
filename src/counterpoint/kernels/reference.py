"""The plain way: the pair matrix whole, torch's own operations and autograd. Every other back end is held to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from counterpoint.kernels.backend import Gradients, Pull
from counterpoint.kernels.tile import Asked, Form, Job, Reduced, Scratch, Sums, Tile


def reduce(q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job) -> Reduced:
    """Reductions of ``S = q @ [k; extra].T + bias``; q ``(N, D)``, k ``(M, D)``, extra ``(K, D)``, bias ``()``."""
    blocks = [block(q, k, bias, 0, len(k), job)]
    if extra is not None:
        blocks.append(block(q, extra, bias, len(k), len(k), job))
    rows = sums([torch.cat(parts, 1) for parts in zip(*blocks)], job.asked)
    if not job.asked.both:
        return Reduced(rows)
    return Reduced(rows, sums([part.T for part in blocks[0]], job.asked))


def forward(
    q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job
) -> tuple[Sums, Sums | None, None]:
    """See `kernels.backend.Backend`."""
    with torch.no_grad():
        found = reduce(q, k, extra, bias, job)
    return found.rows, found.columns, None


def backward(
    q: Tensor,
    k: Tensor,
    extra: Tensor | None,
    bias: Tensor | None,
    job: Job,
    state: None,
    rows: Pull,
    columns: Pull | None,
    needed: Sequence[bool],
) -> Gradients:
    """See `kernels.backend.Backend`; everything is computed again, by autograd."""
    given = [x if x is None else x.detach().requires_grad_(need) for x, need in zip((q, k, extra, bias), needed)]
    with torch.enable_grad():
        assert given[0] is not None
        assert given[1] is not None
        found = reduce(given[0], given[1], given[2], given[3], replace(job, watcher=None))
        loss = q.new_zeros(())
        for pull, sums in ((rows, found.rows), (columns, found.columns)):
            if pull is not None and sums is not None:
                loss = loss + pulled(pull, sums, job.asked.form)
    leaves = [x for x in given if x is not None and x.requires_grad]
    grads = iter(torch.autograd.grad(loss, leaves, allow_unused=True))
    return tuple(next(grads) if x is not None and x.requires_grad else None for x in given)  # type: ignore[return-value]


def pulled(pull: Pull, sums: Sums, form: Form) -> Tensor:
    """A number whose gradient is what the gradients that arrived make of these reductions, ``()``.

    A logsumexp over more pairs than these has them as a share: ``d total / d part = exp(part - total)``.
    """
    out = sums.over.new_zeros(())
    for name in ("over", "positives", "dot"):
        part, grad, whole = getattr(sums, name), getattr(pull.grads, name), getattr(pull.sums, name)
        if part is None or grad is None:
            continue
        if name == "positives" or (name == "over" and form != "sigmoid"):
            grad = grad * (part.detach() - whole).exp().nan_to_num(0.0)
            part = part.masked_fill(part == -torch.inf, 0)
        out = out + (grad * part).sum()
    return out


def block(q: Tensor, k: Tensor, bias: Tensor | None, start: int, m: int, job: Job) -> tuple[Tensor, ...]:
    """Scores, targets, positives, dropped, log-weights of all rows and the columns from ``start``; ``(N, M)`` each."""
    s = q @ k.T if bias is None else q @ k.T + bias
    tile = Tile(slice(0, len(q)), slice(start, start + len(k)), m, Scratch(q.device), s.detach())
    cell = job.rules.cell(tile, job.asked, s.dtype)
    if cell.offset is not None:
        s = s - cell.offset
    if job.watcher is not None:
        job.watcher(tile, s.detach(), cell)
    zeros, false = torch.zeros_like(s), torch.zeros_like(s, dtype=torch.bool)
    dropped = torch.ones_like(false) if job.rules.empty(tile) else _or(cell.dropped, false)
    return s, _or(cell.targets, zeros), _or(cell.positives, false), dropped, _or(cell.log_weights, zeros)


def _or(given: Tensor | None, otherwise: Tensor) -> Tensor:
    return otherwise if given is None else given.expand_as(otherwise)


def sums(parts: list[Tensor], asked: Asked) -> Sums:
    """Everything asked, over the second axis of what `block` gave."""
    s, t, positive, dropped, w = parts
    t = t.masked_fill(dropped, 0)
    excluded = dropped | positive if asked.negatives else dropped
    if asked.form == "sigmoid":
        pairs = softplus(s, threshold=20 if s.dtype == torch.float32 else 40) * w.exp()
        over = pairs.masked_fill(excluded, 0).sum(1)
    else:
        over = lse((s + w).masked_fill(excluded, -torch.inf))
    out = Sums(over)
    if asked.dot:
        out.dot, out.total = (t * s).sum(1), t.sum(1)
    if asked.positives:
        out.positives = lse(s.masked_fill(~positive | dropped, -torch.inf))
    if asked.counts:
        out.n_positives, out.n_dropped = positive.sum(1).to(s), dropped.sum(1).to(s)
    if asked.weights:
        out.weights = lse(w.masked_fill(dropped | positive, -torch.inf))
    return out


def lse(x: Tensor) -> Tensor:
    """logsumexp over the second axis; -inf with a zero gradient (not NaN) where a row holds nothing but -inf."""
    largest = x.detach().amax(1)
    nothing = largest == -torch.inf
    shift = largest.masked_fill(nothing, 0)
    total = (x - shift[:, None]).exp().sum(1).masked_fill(nothing, 1)
    return (total.log() + shift).masked_fill(nothing, -torch.inf)
