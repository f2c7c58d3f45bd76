"""What the losses of a step leave for after it: keys for a queue, features for a running moment."""

from __future__ import annotations

from typing import Generic, TypeVar

from counterpoint.data.batch import Batch

T = TypeVar("T")


class Pending(Generic[T]):
    """A value for each batch of a step, put by `Method.losses` and taken by `Method.after_step`.

    Where a loss is computed again for the same batch (an optimiser replays it), its last value counts, once.

    >>> import torch
    >>> pending = Pending[int]()
    >>> batch = Batch((), torch.arange(2))
    >>> pending.put(batch, 1), pending.put(batch, 2)
    (None, None)
    >>> [value for _, value in pending.take()], pending.take()
    ([2], [])
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[Batch, T]] = {}

    def put(self, batch: Batch, value: T) -> None:
        """Keep the value of a batch; that of the same batch from before is forgotten."""
        self._held[id(batch)] = batch, value  # the batch too: while it is held, no other one has its id

    def take(self) -> list[tuple[Batch, T]]:
        """Every batch with its value, in the order in which they first came; afterwards there is none."""
        found = list(self._held.values())
        self._held.clear()
        return found
