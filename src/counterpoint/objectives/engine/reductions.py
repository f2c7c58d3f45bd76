"""From embeddings and a pairing to the reductions of the pair matrix, all of it on one process."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.kernels import reference, ring, sizes, tiled, triton
from counterpoint.kernels.backend import Backend, reduce
from counterpoint.kernels.tile import Asked, Form, Job, Reduced, Watcher
from counterpoint.objectives.engine import forms
from counterpoint.objectives.engine.byproducts import Stats, best_positives
from counterpoint.objectives.engine.checks import Backend as BackendName
from counterpoint.objectives.engine.checks import Precision
from counterpoint.objectives.engine.shortcuts import linear_terms
from counterpoint.objectives.hard import settled
from counterpoint.objectives.rules import Pairing

log = logging.getLogger(__name__)

DENSE = 256 * 256
"""Pairs up to which the whole matrix is cheaper than tiles."""

BACK_ENDS: dict[str, Backend] = {"reference": reference, "tiled": tiled, "triton": triton}


@dataclass(frozen=True, kw_only=True)
class How:
    """What `contrast` was asked for. limit: a bound on the absolute scores. shared: extra is the same everywhere."""

    form: Form
    both: bool
    backend: BackendName
    tile: int | None
    budget: int | None
    precision: Precision
    limit: float
    stats: Stats | None
    shared: bool


def alone(
    q: Tensor,
    k: Tensor,
    extra: Tensor | None,
    bias: Tensor | None,
    plan: Pairing,
    how: How,
) -> Reduced:
    """The reductions of a matrix all of whose rows and columns are here."""
    if not len(q):
        return none(q, k, extra, bias, plan, how)
    plan = settled(plan, q, k, extra, limit=how.limit, precision=how.precision)
    back_end, name, side = chosen(how, plan, q, len(k), len(k) + length(extra))
    half = how.precision == "bfloat16"
    linear = None  # the reference takes no short cut
    if how.form != "marginal" and back_end is not reference:
        with torch.set_grad_enabled(not half and torch.is_grad_enabled()):
            linear = linear_terms(plan, q, k, extra, bias, how.both)
    log.debug(
        "contrast: %s back end, %s x %s, tile %s, %s precision, %s",
        name, len(q), len(k) + length(extra), side, how.precision, plan,
    )  # fmt: skip
    watcher = None
    if how.stats is not None:
        watcher = how.stats.watch(q, best_positives(plan, q, k, extra, side)).over(k, extra)
    work = job(plan, how, side, watcher, linear=linear is not None)
    if back_end is reference:
        # Differentiated by torch itself: the check of every other back end's backward pass.
        return reference.reduce(q, k, extra, bias, work)
    # The gradient of a score, p - T, is rounded for bfloat16 products. Where p comes near T the two have to be
    # subtracted before that, so T is left to the tiles.
    found = reduce(back_end, q, k, extra, bias, work, linear if half else None)
    if linear is not None and not half:
        found.rows.dot, found.rows.total = linear[:2]
        if found.columns is not None:
            found.columns.dot, found.columns.total = linear[2:]
    return found


def none(q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, plan: Pairing, how: How) -> Reduced:
    """The reductions of a process without anchors; still functions of everything, so that its backward pass meets
    those of the others."""
    asked = asked_of(plan, how)
    zero = sum(x.sum() * 0 for x in (q, k, extra, bias) if x is not None)
    if how.stats is not None:
        how.stats.watch(q, q.new_zeros(0))
    found = [ring.nothing(n, q, asked) for n in (0, len(k))]
    for sums in found:
        sums.over = sums.over + zero
    return Reduced(found[0], found[1] if how.both else None)


def chosen(how: How, plan: Pairing, q: Tensor, m: int, columns: int) -> tuple[Backend, str, int]:
    """The back end, its name and the side of its tiles, for these rows and so many columns, M of them candidates."""
    name = how.backend
    if name == "auto":
        name = "reference" if len(q) * columns <= DENSE else "triton" if q.is_cuda else "tiled"
    if name == "triton":
        watched = None if how.stats is None else "By-products are read off tiles, which the kernels do not write."
        reason = watched or triton.unsupported(q, plan, m)
        if reason and how.backend == "triton" and not watched:
            raise ConfigError(f"backend='triton': {reason} Type backend='auto', or 'tiled', which takes any pairing.")
        if reason:
            name = "tiled"
            log.debug("contrast: tiled, not triton. %s", reason)
    side = sizes.side(q.device, q.dtype, how.tile, how.budget, square=name == "triton")
    return BACK_ENDS[name], name, side


def asked_of(plan: Pairing, how: How, *, linear: bool = False) -> Asked:
    return forms.asked(plan, how.form, both=how.both, linear=linear, watched=how.stats is not None)


def job(plan: Pairing, how: How, side: int, watcher: Watcher | None, *, linear: bool) -> Job:
    asked = asked_of(plan, how, linear=linear)
    return Job(rules=plan, asked=asked, limit=how.limit, tile=side, precision=how.precision, watcher=watcher)


def length(x: Tensor | None) -> int:
    return 0 if x is None else len(x)
