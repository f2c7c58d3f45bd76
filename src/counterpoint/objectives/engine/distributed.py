"""The same reductions where the rows and columns of the pair matrix lie on many processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.errors import DataError
from counterpoint.kernels import ring
from counterpoint.kernels.tile import Asked, Job, Reduced, Sums
from counterpoint.objectives.engine.byproducts import Watch, best_positives
from counterpoint.objectives.engine.reductions import How, alone, asked_of, chosen, job, length
from counterpoint.objectives.hard import HardQuantile
from counterpoint.objectives.masks import NotSelf
from counterpoint.objectives.rules import Block, Pairing
from counterpoint.processes import around, exchanged, gathered, rank, starts, transport, world

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """rows: of this process's anchors, over ``n_columns`` candidates. columns: of its candidates over all anchors."""

    rows: Sums
    columns: Sums | None
    n_columns: int
    n_rows: int


def reductions(q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, plan: Pairing, how: How) -> Found:
    """Everything the loss is made of; q is scaled."""
    if world() == 1:
        found = alone(q, k, extra, bias, plan, how)
        return Found(found.rows, found.columns, len(k) + length(extra), len(q))
    n, m = len(q), len(k)
    if n > m and any(rule.ids is None for rule in plan.of(NotSelf)):
        raise DataError(
            f"NotSelf: {n} anchors and {m} candidates on this process: row numbers do not say which anchor is which "
            "candidate among those of all processes. Give ids: NotSelf(ids, candidates)."
        )
    if extra is None:  # those of single anchors stay here
        plan = plan.of_candidates(m)
    plan = plan.explicit()
    plan.check(n, m, length(extra), how.both)
    there = Shares.of(q, k, extra, how.shared)
    # A quantile of a row is known only once all its candidates are here.
    ring_around = transport() == "ring" and plan.one(HardQuantile) is None
    found = (travelled if ring_around else collected)(q, k, extra, bias, plan, how, there)
    columns = None if found.columns is None else there.home(found.columns, asked_of(plan, how))
    return Found(found.rows, columns, sum(there.candidates) + there.all_extra, sum(there.anchors))


@dataclass(frozen=True)
class Shares:
    """Numbers of anchors, candidates and extra candidates of every process. shared: the extra ones are the same.
    wanted: whether any process wants gradients of its candidates, and of its extra ones (others may have none)."""

    anchors: list[int]
    candidates: list[int]
    extra: list[int]
    shared: bool
    wanted: tuple[bool, bool]

    @classmethod
    def of(cls, q: Tensor, k: Tensor, extra: Tensor | None, shared: bool) -> Shares:
        wanted = k.requires_grad, extra is not None and extra.requires_grad
        numbers = torch.tensor([[len(q), len(k), length(extra), *wanted]], device=q.device)
        n, m, more, of_k, of_extra = gathered(numbers, [1] * world()).T.tolist()
        return cls(n, m, more, shared, (any(of_k), any(of_extra)))

    @property
    def all_extra(self) -> int:
        """Extra candidates that every anchor sees."""
        return self.extra[rank()] if self.shared else sum(self.extra)

    def known(self, plan: Pairing) -> tuple[list[Tensor], list[list[int]]]:
        """What the rules know of this process's columns: of its candidates, then of its extra ones, rule by rule; and
        how long each is on every process. Of extra candidates that are the same everywhere nothing need travel."""
        own, tensors = self.candidates[rank()], []
        for value in plan.of_columns():
            tensors += [value[:own]] if self.shared else [value[:own], value[own:]]
        lengths = torch.tensor([[len(x) for x in tensors]], device=tensors[0].device if tensors else "cpu")
        return tensors, gathered(lengths, [1] * world()).T.tolist() if tensors else []

    def joined(self, plan: Pairing, parts: Sequence[Tensor], *, own: bool) -> list[Tensor]:
        """What `known` took apart, of columns that hold this process's own or do not, as `Pairing.on` wants it."""
        if not self.shared:
            return [torch.cat(pair) for pair in zip(parts[::2], parts[1::2])]
        if not own:
            return list(parts)
        here = self.candidates[rank()]
        return [torch.cat([part, value[here:]]) for part, value in zip(parts, plan.of_columns())]

    def whole(self) -> Block:
        """All columns, those of the candidates in the order of the processes, then those of the extra ones."""
        r = rank()
        first_extra = 0 if self.shared else starts(self.extra)[r]
        first = starts(self.candidates)[r]
        return Block(sum(self.candidates), self.all_extra, True, self.candidates[r], first, first_extra)

    def block(self, b: int) -> Block:
        """The columns of process b, and with this process's own those of the extra candidates shared by all."""
        r, first = rank(), starts(self.candidates)
        extra = (self.extra[r] if b == r else 0) if self.shared else self.extra[b]
        return Block(self.candidates[b], extra, b == r, self.candidates[r], first[r] - first[b], 0)

    def home(self, columns: Sums, asked: Asked) -> Sums:
        """Reductions of all candidates over the rows of each process, to those of this one's over all rows."""
        # Some back ends count more than was asked for; every process has to send the same.
        without = () if asked.counts else ("n_positives", "n_dropped")
        names = [name for name in Sums.__slots__ if getattr(columns, name) is not None and name not in without]
        rows = torch.stack([getattr(columns, name) for name in names], 1)
        own = self.candidates[rank()]
        parts = exchanged(rows, self.candidates, [own] * world()).view(world(), own, len(names))
        return ring.merged([Sums(**dict(zip(names, part.unbind(1)))) for part in parts.unbind(0)], asked.form)


def collected(
    q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, plan: Pairing, how: How, there: Shares
) -> Reduced:
    """All candidates are fetched; memory O(M), one collective each for embeddings and for what the rules know."""
    known, counts = there.known(plan)
    parts = [gathered(x, n) for x, n in zip(known, counts)]
    columns = there.joined(plan, parts, own=True)
    everywhere = extra
    if not there.shared and there.all_extra:
        none = k[:0] if there.wanted[1] else k[:0].detach()  # backward too, all processes meet or none does
        everywhere = gathered(none if extra is None else extra, there.extra)
    k = gathered(k, there.candidates)
    return alone(q, k, everywhere, bias, plan.on(there.whole(), columns), how)


def travelled(
    q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, plan: Pairing, how: How, there: Shares
) -> Reduced:
    """Blocks of candidates come around; memory O(two blocks). See `kernels.ring`."""
    known, counts = there.known(plan)
    back_end, name, side = chosen(how, plan, q, len(k), sum(there.candidates) + there.all_extra)
    log.debug("contrast: ring of %s, %s back end, %s rows, tile %s, %s", world(), name, len(q), side, plan)

    def rules(b: int, parts: Sequence[Tensor]) -> Pairing:
        return plan.on(there.block(b), there.joined(plan, parts, own=b == rank()))

    watch: Watch | None = None

    def work(b: int, here: Tensor, more: Tensor | None, parts: Sequence[Tensor]) -> Job:
        return job(rules(b, parts), how, side, None if watch is None else watch.over(here, more), linear=False)

    travels, asked = not there.shared, asked_of(plan, how)
    loop = ring.Ring(there.candidates, there.extra, travels, there.wanted, known, counts, asked, work)
    if how.stats is not None:
        # What a positive scores has to be known before the first negative is looked at.
        best = q.new_full((len(q),), -torch.inf)
        for b, (here, travelling, *parts) in around(*loop.travellers(k, extra)):
            more = loop.looked_at(b, travelling, extra)
            best = torch.maximum(best, best_positives(rules(b, parts), q.detach(), here, more, side))
        watch = how.stats.watch(q, best)
    return ring.reduce(back_end, q, k, extra, bias, loop)
