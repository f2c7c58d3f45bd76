"""A rehearsal memory: a few examples of every class that was learned, kept for when others are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.base import Memory, Update, checked
from counterpoint.processes import drawing_alike, gathered, rank, sizes, total, world

Choice: TypeAlias = Literal["random", "herding"]
"""random: every row of a class is as likely to be kept. herding: those nearest to the running mean of their class."""


class Rehearsed(NamedTuple):
    """data: what was kept of some rows, by field. labels, rows: ``(R,)`` long."""

    data: dict[str, Tensor]
    labels: Tensor
    rows: Tensor


class Rehearsal(Memory):
    """``size`` examples at most, shared equally by the classes learned so far: ``size // classes`` of each.

    classes: how many there are to be. dim: width of the vectors that `offer` is given. fields: what is kept of a row,
    name -> a tensor without rows (or any) that says type and shape; along its second axis rows may differ in length and
    are filled with zeros. choice: which rows; see `Choice`. momentum: of the running means of the classes.

    While a task is learned its rows are offered, as often as they come; `close` ends it: what is kept of the classes
    of before makes room, and what was chosen of the new ones can be drawn from then on. Until then at most as many
    again are held. Random choice is by a hash of ``seed`` and the row's number, so that it is the same however often
    and in whatever order rows come. Every process takes in the rows of all, so that the memories stay equal.

    Sources: Rebuffi et al. 2017 (iCaRL: equal shares, nearness to the mean), arXiv 1611.07725.

    >>> memory = Rehearsal(size=4, classes=3, dim=2, fields={"x": torch.zeros(0, 1)})
    >>> memory.offer(torch.randn(6, 2), torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 1]), {"x": torch.zeros(6, 1)})
    >>> memory.close()  # of the first task
    >>> sorted(memory.draw(10).labels.tolist())
    [0, 0, 1, 1]
    """

    rows: Tensor
    labels: Tensor
    vectors: Tensor
    fresh: Tensor
    means: Tensor
    met: Tensor
    learned: Tensor

    def __init__(
        self,
        size: int,
        classes: int,
        dim: int,
        *,
        fields: Mapping[str, Tensor] | None = None,
        choice: Choice = "random",
        momentum: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if classes < 1 or dim < 1 or not 0 <= momentum < 1:
            raise ConfigError(
                f"classes={classes}, dim={dim}, momentum={momentum}: expected >= 1, >= 1, from 0 below 1."
            )
        if choice not in get_args(Choice):
            raise ConfigError(f"choice={choice!r}: type {' or '.join(get_args(Choice))}.")
        if size < classes:
            raise ConfigError(
                f"A memory of {size} examples cannot hold one of each of {classes} classes. Give it at least {classes}."
            )
        self.size, self.dim, self.choice, self.momentum, self.seed = size, dim, choice, momentum, seed
        self.register_buffer("rows", torch.zeros(0, dtype=torch.long))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))
        self.register_buffer("vectors", torch.zeros(0, dim))
        self.register_buffer("fresh", torch.zeros(0, dtype=torch.bool))  # of the task that is not over
        self.register_buffer("means", torch.zeros(classes, dim))
        self.register_buffer("met", torch.zeros(classes, dtype=torch.bool))  # any row of the class was offered
        self.register_buffer("learned", torch.zeros(classes, dtype=torch.bool))  # its task is over
        self.fields = tuple(fields or ())
        for name, like in (fields or {}).items():
            self.register_buffer(f"field_{name}", like[:0].clone())

    def __len__(self) -> int:
        """How many examples there are to rehearse with."""
        return int((~self.fresh).sum())

    @torch.no_grad()
    def offer(self, z: Tensor, rows: Tensor, labels: Tensor, data: Mapping[str, Tensor] | None = None) -> None:
        """Rows of the task that is being learned: vectors ``(N, dim)``, numbers and labels ``(N,)`` long, and the
        fields ``(N, ...)``. Raises `DataError` for a class of a task that is over.

        z: the vectors. rows: their numbers in the data. labels: their classes. data: name -> values of each of the
        fields.
        """
        data = data or {}
        if set(data) != set(self.fields):
            raise DataError(f"This memory keeps the fields {sorted(self.fields)}; offered were {sorted(data)}.")
        if wrong := [n for n, x in {"rows": rows, "labels": labels, **data}.items() if len(x) != len(z)]:
            raise DataError(f"{wrong[0]} has another number of entries than the {len(z)} vectors.")
        if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < len(self.met)):
            raise DataError(f"Labels {int(labels.min())} to {int(labels.max())} do not fit {len(self.met)} classes.")
        counts = sizes(len(z), z.device)
        z = gathered(checked(z, self.dim, "a rehearsal memory"), counts).to(self.vectors)
        rows, labels = (gathered(x.to(self.rows), counts) for x in (rows, labels))
        if self.learned[labels].any():
            again = sorted(set(labels[self.learned[labels]].tolist()))
            raise DataError(f"A task repeats classes of an earlier one ({again[:5]}): each class belongs to one task.")
        given = {n: self._of_all(x, counts).to(self._field(n)) for n, x in data.items()}
        self._move_means(z, labels)
        kept = ~torch.isin(self.rows, rows)  # a row that comes again is held as it is now
        first = _first(rows)
        self._hold(kept, z[first], rows[first], labels[first], {n: x[first] for n, x in given.items()})
        self._share_out(self.fresh)

    @torch.no_grad()
    def close(self) -> None:
        """The task is over: equal shares for all classes, and the new ones can be drawn."""
        self._share_out(torch.ones_like(self.fresh))
        self.fresh.fill_(False)
        self.learned |= self.met

    @torch.no_grad()
    def draw(self, count: int) -> Rehearsed:
        """At most ``count`` examples of tasks that are over, each once, by torch's own random numbers. Over many
        processes it is the number of all together, of which each gets its part."""
        old = (~self.fresh).nonzero().squeeze(1)
        with drawing_alike(old.device):
            at = old[torch.randperm(len(old))[: max(0, count)].to(old.device)]
        at = at[len(at) * rank() // world() : len(at) * (rank() + 1) // world()]
        return Rehearsed({n: self._field(n)[at] for n in self.fields}, self.labels[at], self.rows[at])

    # --- what is held ------------------------------------------------------------------------------------------------

    def _field(self, name: str) -> Tensor:
        held: Tensor = getattr(self, f"field_{name}")
        return held

    @staticmethod
    def _of_all(x: Tensor, counts: list[int]) -> Tensor:
        longest = total(torch.tensor(x.shape[1] if x.ndim > 1 else 0, device=x.device), "max")
        return gathered(_long(x.byte() if x.dtype == torch.bool else x, int(longest)), counts)

    def _move_means(self, z: Tensor, labels: Tensor) -> None:
        """The running mean of every class in the batch, by the mean of its rows there."""
        keys, inverse, times = torch.unique(labels, return_inverse=True, return_counts=True)
        new = z.new_zeros(len(keys), self.dim).index_add_(0, inverse, z) / times[:, None]
        keep = self.momentum * self.met[keys].to(z)[:, None]
        self.means[keys] = keep * self.means[keys] + (1 - keep) * new
        self.met[keys] = True

    def _hold(self, kept: Tensor, z: Tensor, rows: Tensor, labels: Tensor, data: Mapping[str, Tensor]) -> None:
        new = {"vectors": z, "rows": rows, "labels": labels, "fresh": torch.ones_like(rows, dtype=torch.bool)}
        new |= {f"field_{n}": x for n, x in data.items()}
        for name, x in new.items():
            setattr(self, name, joined(getattr(self, name)[kept], x))

    def _share_out(self, which: Tensor) -> None:
        """Of the examples ``which``, the best of each class, as many as its share."""
        share = self.size // max(1, int(self.met.sum()))
        order = self._badness().argsort(stable=True)
        order = order[self.labels[order].argsort(stable=True)]
        order = order[which[order]]
        y = self.labels[order]
        place = torch.arange(len(y), device=y.device) - torch.searchsorted(y, y)
        keep = ~which
        keep[order[place < share]] = True
        for name in ("rows", "labels", "vectors", "fresh", *(f"field_{n}" for n in self.fields)):
            setattr(self, name, getattr(self, name)[keep])

    def _badness(self) -> Tensor:
        """``(L,)``: the smallest of a class are kept."""
        if self.choice == "herding":
            return (self.vectors - self.means[self.labels]).square().sum(1)
        x = self.rows * 0x9E3779B1 + self.seed * 0x85EBCA6B + 0x165667B1  # wraps around, as hashes do
        for shift in (29, 32):
            x = (x ^ (x >> shift)) * 0x2545F4914F6CDD1D
        return x ^ (x >> 31)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, held in self._buffers.items():  # as long as they are there
            if held is not None and (saved := state.get(prefix + name)) is not None and saved.shape != held.shape:
                setattr(self, name, held.new_zeros(saved.shape))
        super()._load_from_state_dict(state, prefix, *args)

    @classmethod
    def example(cls, seed: int = 0) -> tuple[Rehearsal, Update]:
        memory = cls(7, 3, 4, fields={"x": torch.zeros(0, 1)}, choice="herding", seed=seed)

        def update(z: Tensor) -> None:
            n = torch.arange(len(z))
            memory.offer(z, n, n % 3, {"x": z[:, :2]})

        return memory, update


def joined(a: Tensor, b: Tensor) -> Tensor:
    """``(N, T, ...)`` and ``(M, S, ...)`` as ``(N + M, max(T, S), ...)``, the shorter ones filled with zeros.

    a, b: of one dtype.

    >>> joined(torch.ones(1, 2), torch.ones(1, 3)).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    longest = max(a.shape[1], b.shape[1]) if a.ndim > 1 else 0
    return torch.cat((_long(a, longest), _long(b, longest)))


def _long(x: Tensor, length: int) -> Tensor:
    if x.ndim < 2 or x.shape[1] == length:
        return x
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, length - x.shape[1]))


def _first(rows: Tensor) -> Tensor:
    """Positions of the first of each number."""
    found, inverse = torch.unique(rows, return_inverse=True)
    first = torch.full_like(found, len(rows))
    return first.scatter_reduce_(0, inverse, torch.arange(len(rows), device=rows.device), "amin").sort().values
