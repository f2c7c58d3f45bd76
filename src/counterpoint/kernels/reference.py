"""The plain way: the pair matrix whole, torch's own operations and autograd. Every other back end is held to it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from counterpoint.kernels.tile import Asked, Job, Reduced, Scratch, Sums, Tile


def reduce(q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job) -> Reduced:
    """Reductions of ``S = q @ [k; extra].T + bias``; q ``(N, D)``, k ``(M, D)``, extra ``(K, D)``, bias ``()``."""
    blocks = [block(q, k, bias, 0, len(k), job)]
    if extra is not None:
        blocks.append(block(q, extra, bias, len(k), len(k), job))
    rows = sums([torch.cat(parts, 1) for parts in zip(*blocks)], job.asked)
    if not job.asked.both:
        return Reduced(rows)
    return Reduced(rows, sums([part.T for part in blocks[0]], job.asked))


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
