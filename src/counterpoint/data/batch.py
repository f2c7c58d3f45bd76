"""Views and batches: what flows from rows to objectives.

A batch is a set of typed views of N rows. A view says which *stream* it is (a modality or a column), which *role* it
plays (anchor, positive, negative, context), which rows have it at all (*mask*), and, where a row may have several or
none of it (hard negatives, bags, captions), which row owns each item (*owner*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.text import TEXT

Data = Tensor | Mapping[str, Tensor]
"""What an encoder eats: a tensor, or a mapping of tensors (``input_ids``, ``attention_mask``), first axis = items."""


class Whole(dict[str, Tensor]):
    """Tensors of which no part can be taken, since each item is computed from others: a graph. The first entry has the
    items as its first axis; the others have what shape they need."""


def size(data: Data) -> int:
    """Number of items, M.

    data: what an encoder's `collate` gives.
    """
    return len(data) if isinstance(data, Tensor) else len(next(iter(data.values())))


def take(data: Data, index: Tensor | slice) -> Data:
    """The items at ``index`` (M',) long, (M,) bool, or a slice.

    data: what an encoder's `collate` gives.
    """
    if isinstance(data, Whole):
        raise ConfigError(
            "A graph cannot be cut into parts, as each node is computed from its neighbours. Leave micro_batch and "
            "memory unset."
        )
    return data[index] if isinstance(data, Tensor) else {k: v[index] for k, v in data.items()}


def joined(parts: Sequence[Data], *, fill: Mapping[str, int] = MappingProxyType({})) -> Data:
    """The items of all parts, in order, as one. fill: name of a tensor -> what its second axis is padded with (0) where
    the parts' are not equally long."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, Whole) for part in parts):
        raise ConfigError("Graphs cannot be joined: each is computed as a whole.")
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat(list(parts))  # type: ignore[arg-type]
    names = list(parts[0])  # type: ignore[arg-type]
    return {name: _stacked([part[name] for part in parts], fill.get(name, 0)) for name in names}  # type: ignore[index]


def _stacked(tensors: list[Tensor], value: int) -> Tensor:
    if tensors[0].dim() > 1:
        longest = max(t.shape[1] for t in tensors)
        after = [0, 0] * (tensors[0].dim() - 2)
        tensors = [F.pad(t, [*after, 0, longest - t.shape[1]], value=value) for t in tensors]
    return torch.cat(tensors)


def padded(lists: Sequence[Sequence[int]], *, value: int = 0, least: int = 0) -> Tensor:
    """Lists of numbers as ``(N, L)`` long, each filled up with ``value`` to the longest, or to ``least``.

    lists: N of them.

    >>> padded([[1, 2], [3]]).tolist()
    [[1, 2], [3, 0]]
    """
    out = torch.full((len(lists), max(map(len, lists), default=least)), value, dtype=torch.long)
    for row, numbers in zip(out, lists):
        row[: len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    return out


def move(data: Data, device: torch.device | str) -> Data:
    """The same data on a device; from pinned memory without waiting for it."""
    if isinstance(data, Tensor):
        return data.to(device, non_blocking=True)
    moved = {k: v.to(device, non_blocking=True) for k, v in data.items()}
    return Whole(moved) if isinstance(data, Whole) else moved


@dataclass(frozen=True, slots=True)
class View:
    """One view of the rows of a batch.

    data: (M, ...) what an encoder eats. stream: modality or column. role: anchor, positive, negative, context, ...
    mask: (M,) bool, False where the row does not have this view (its data is a placeholder); None: all present.
    owner: (M,) long, the batch row item i belongs to; None: item i belongs to row i, so M = N.

    >>> view = View(torch.zeros(3, 4), "text", "negative", owner=torch.tensor([0, 0, 2]))  # row 1 has none
    >>> len(view), len(view.take(torch.tensor([0])))
    (3, 1)
    """

    data: Data
    stream: str = TEXT
    role: str = "anchor"
    mask: Tensor | None = None
    owner: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("mask", "owner"):
            value = getattr(self, name)
            if value is not None and value.shape != (len(self),):
                raise DataError(
                    f"View {self.role}/{self.stream}: {name} has shape {tuple(value.shape)}, expected ({len(self)},)."
                )

    def __len__(self) -> int:
        return size(self.data)

    def take(self, index: Tensor | slice) -> View:
        """The view restricted to some of its items.

        index: as of `take`.
        """
        return replace(
            self,
            data=take(self.data, index),
            mask=None if self.mask is None else self.mask[index],
            owner=None if self.owner is None else self.owner[index],
        )

    def to(self, device: torch.device | str) -> View:
        """The same view on a device."""
        return replace(
            self,
            data=move(self.data, device),
            mask=None if self.mask is None else self.mask.to(device),
            owner=None if self.owner is None else self.owner.to(device),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Typed views of N rows, with their row numbers in the data set and what is known about them.

    rows: (N,) long. labels: name -> (N, ...) tensors, e.g. ``label`` (N,) long, ``score`` (N,) float.

    >>> views = tuple(View(torch.zeros(2, 4), "text", role) for role in ("anchor", "positive"))
    >>> batch = Batch(views, torch.tensor([7, 8]))
    >>> len(batch), batch.one("positive").role
    (2, 'positive')
    """

    views: tuple[View, ...]
    rows: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", self.rows.long())  # of no rows torch makes floats
        for view in self.views:
            if view.owner is None and len(view) != len(self):
                raise DataError(
                    f"View {view.role}/{view.stream} has {len(view)} items for a batch of {len(self)} rows; "
                    "give it an `owner` (the row of each item) or one item per row."
                )
        for name, value in self.labels.items():
            if len(value) != len(self):
                raise DataError(f"Label {name!r} has {len(value)} entries for a batch of {len(self)} rows.")

    def __len__(self) -> int:
        return len(self.rows)

    def all(self, role: str | None = None, stream: str | None = None) -> tuple[View, ...]:
        """Every view of this role and stream (None: any), in the order given."""
        return tuple(
            v for v in self.views if (role is None or v.role == role) and (stream is None or v.stream == stream)
        )

    def one(self, role: str | None = None, stream: str | None = None) -> View:
        """The only view of this role and stream; an error names what the batch holds otherwise."""
        found = self.all(role, stream)
        if len(found) != 1:
            held = ", ".join(f"{v.role}/{v.stream}" for v in self.views) or "nothing"
            asked = f"{role or 'any'}/{stream or 'any'}"
            raise DataError(f"Expected exactly one view {asked}, found {len(found)}; the batch holds {held}.")
        return found[0]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(
            tuple(v.to(device) for v in self.views),
            self.rows.to(device),
            {k: v.to(device) for k, v in self.labels.items()},
        )


def one_after_another(first: Batch, then: Batch) -> Batch:
    """One batch of the rows of two, each view owned by its rows; labels that the first has none of are 0 there.

    first, then: batches of different rows."""
    n = len(first)
    owners = [torch.arange(len(v)) if v.owner is None else v.owner for b in (first, then) for v in b.views]
    starts = [0] * len(first.views) + [n] * len(then.views)
    views = tuple(replace(v, owner=o + start) for v, o, start in zip((*first.views, *then.views), owners, starts))
    labels = {k: torch.cat([v.new_zeros((n, *v.shape[1:])), v]) for k, v in then.labels.items()}
    return Batch(views, torch.cat([first.rows, then.rows]), labels)
