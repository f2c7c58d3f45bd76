"""A queue of earlier vectors: negatives, or rows for a balance, from more than one batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.base import Memory, Update, checked, unit_vectors
from counterpoint.processes import gathered, sizes


class Queue(Memory):
    """First in, first out: ``size`` vectors of width ``dim``, each with its values of some fields.

    fields: name -> dtype of one value per vector (label, group, language). start: ``random`` (full of random unit
    vectors from ``seed``, as MoCo begins; their fields hold ``blank``, which must equal no real label) or ``empty``
    (`snapshot` then grows from 0 rows).

    Source: He et al. 2020 (MoCo), arXiv 1911.05722.

    >>> queue = Queue(size=4, dim=2, fields={"labels": torch.long}, start="empty")
    >>> for step in range(3):
    ...     queue.push(torch.full((2, 2), float(step)), labels=torch.tensor([step, step]))
    >>> queue.snapshot().shape, sorted(queue.snapshot("labels").tolist())  # those of step 0 are gone
    (torch.Size([4, 2]), [1, 1, 2, 2])
    """

    vectors: Tensor
    place: Tensor
    count: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        fields: Mapping[str, torch.dtype] | None = None,
        start: str = "random",
        blank: int = -1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if size < 1 or dim < 1 or start not in ("random", "empty"):
            raise ConfigError(f"Queue(size={size}, dim={dim}, start={start!r}): sizes >= 1, start random or empty.")
        full = start == "random"
        self.register_buffer("vectors", unit_vectors(size, dim, seed) if full else torch.zeros(size, dim))
        self.register_buffer("place", torch.tensor(0))  # where the next row goes: the oldest entry
        self.register_buffer("count", torch.tensor(size if full else 0))
        self.fields = tuple(fields or ())
        for name, dtype in (fields or {}).items():
            self.register_buffer(f"field_{name}", torch.full((size,), blank, dtype=dtype))

    @property
    def size(self) -> int:
        """How many entries there are, filled or not."""
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.vectors.shape[1]

    @property
    def valid(self) -> Tensor:
        """``(size,)`` bool: which slots hold an entry."""
        return torch.arange(self.size, device=self.vectors.device) < self.count

    @torch.no_grad()
    def push(self, z: Tensor, **fields: Tensor) -> None:
        """Store rows ``(N, dim)`` over the oldest ones, with every field ``(N,)``; any N will do.

        Of more rows than fit, the last ``size`` stay, as if they had come one by one. Every process stores the rows of
        all processes, those of the first one first, so that the queues stay equal.

        z: the rows, new ones last.
        """
        if set(fields) != set(self.fields):
            raise DataError(f"This queue has the fields {sorted(self.fields)}; push was given {sorted(fields)}.")
        for name, value in fields.items():
            if value.shape != (len(z),):
                raise DataError(f"Field {name!r} has shape {tuple(value.shape)} for {len(z)} rows.")
        counts = sizes(len(z), z.device)
        z = checked(gathered(z.detach(), counts), self.dim, "a queue")
        fields = {name: gathered(value.detach(), counts) for name, value in fields.items()}
        kept = min(len(z), self.size)
        step = torch.arange(len(z) - kept, len(z), device=self.vectors.device)
        slots = (self.place + step) % self.size
        self.vectors.index_copy_(0, slots, z[len(z) - kept :].to(self.vectors))
        for name, value in fields.items():
            held: Tensor = getattr(self, f"field_{name}")
            held.index_copy_(0, slots, value[len(z) - kept :].to(held))
        self.place.copy_((self.place + len(z)) % self.size)
        self.count.copy_((self.count + len(z)).clamp_max(self.size))

    def snapshot(self, field: str | None = None) -> Tensor:
        """A copy of the entries: ``(L, dim)`` vectors, or ``(L,)`` values of a field in the same order; L <= size.

        A copy, because `push` writes in place and would break a loss that still waits for its backward pass.
        """
        if field is not None and field not in self.fields:
            raise DataError(f"This queue has no field {field!r}, only {sorted(self.fields)}.")
        held: Tensor = self.vectors if field is None else getattr(self, f"field_{field}")
        return held[: int(self.count)].clone()

    @classmethod
    def example(cls, seed: int = 0) -> tuple[Queue, Update]:
        queue = cls(7, 4, fields={"label": torch.long}, seed=seed)
        return queue, lambda z: queue.push(z, label=torch.arange(len(z)))


class GroupQueues(Memory):
    """A queue for each of ``groups`` groups (languages, domains, tasks), each with ``size`` entries; see `Queue`.

    Where all entries were in one queue, a model could tell many negatives by their group, and need not look further.
    dim, fields, start, blank, seed: of each, as of `Queue`.

    dim, fields, start, blank, seed: of each queue, as there.

    Source: Wu et al. 2022 (contrastive context prediction), arXiv 2206.03281.

    >>> queues = GroupQueues(groups=2, size=4, dim=2, start="empty")
    >>> queues.of(1).push(torch.ones(3, 2))
    >>> len(queues.of(0).snapshot()), len(queues.of(1).snapshot())
    (0, 3)
    """

    def __init__(
        self,
        groups: int,
        size: int,
        dim: int,
        *,
        fields: Mapping[str, torch.dtype] | None = None,
        start: str = "random",
        blank: int = -1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if groups < 1:
            raise ConfigError(f"GroupQueues(groups={groups}): there is at least one group.")
        self.queues = nn.ModuleList(
            Queue(size, dim, fields=fields, start=start, blank=blank, seed=seed + g) for g in range(groups)
        )

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.of(0).dim

    def of(self, group: int) -> Queue:
        """The queue of a group; over many processes all of them push to the same one."""
        if not 0 <= group < len(self.queues):
            raise DataError(f"There is no group {group}; there are {len(self.queues)}, numbered from 0.")
        queue = self.queues[group]
        assert isinstance(queue, Queue)
        return queue

    @classmethod
    def example(cls, seed: int = 0) -> tuple[GroupQueues, Update]:
        queues = cls(2, 7, 4, fields={"label": torch.long}, seed=seed)
        return queues, lambda z: queues.of(1).push(z, label=torch.arange(len(z)))
