"""Which rows go together in a batch. Each sampler is a pure function of (seed, epoch): its only state is a position."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from counterpoint.errors import ConfigError, DataError


class Sampler(ABC):
    """Batches of row positions, the same for the same (seed, epoch).

    rows: how many there are. batch: rows per batch; shrunk, with a warning, where there are fewer rows. drop_last:
    leave out what does not fill a batch (other rows every epoch), so that all batches have the same size.
    """

    def __init__(self, rows: int, batch: int, *, seed: int = 0, drop_last: bool = True) -> None:
        if rows < 1:
            raise DataError("There are no rows to take batches from.")
        if batch < 1:
            raise ConfigError(f"A batch of {batch} rows was asked for; the smallest is 1.")
        if rows < batch:
            warnings.warn(
                f"There are {rows:,} rows, fewer than the batch of {batch:,}: every batch holds all {rows:,} rows. "
                f"Set the batch to at most {rows:,}, or give more rows.",
                stacklevel=3,
            )
            batch = rows
        self.rows, self.batch, self.seed, self.drop_last = rows, batch, seed, drop_last

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """The batches of an epoch, each ``(B,)`` int64 positions."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.rows // self.batch if self.drop_last else -(-self.rows // self.batch)

    def settings(self) -> dict[str, Any]:
        """What else decides the order, for telling whether a saved position is one in the same batches; JSON-able."""
        return {}

    def rng(self, epoch: int) -> np.random.Generator:
        """The generator that an epoch draws from; it follows from the seed and the epoch."""
        return np.random.default_rng([self.seed, epoch])


class Shuffled(Sampler):
    """Rows in random order, cut into batches. Each row once per epoch.

    rows: how many there are. drop_last: leave out what does not fill a batch. seed: of the order.

    >>> sampler = Shuffled(10, 4, seed=0)
    >>> [len(batch) for batch in sampler.batches(epoch=0)], len(sampler)
    ([4, 4], 2)
    """

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        order = self.rng(epoch).permutation(self.rows)
        for i in range(len(self)):
            yield order[i * self.batch : (i + 1) * self.batch]


class Together(Sampler):
    """All rows in every batch, in their order: for rows that cannot do without one another, such as nodes.

    rows: how many there are; a batch has all of them, so seed and drop_last change nothing.

    >>> [sorted(batch.tolist()) for batch in Together(3, 3).batches(0)]
    [[0, 1, 2]]
    """

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        yield np.arange(self.rows)


class LengthBucketed(Sampler):
    """Batches of rows of like length, so that little is padded, in random order. Each row once per epoch.

    lengths: ``(N,)`` (`Rows.lengths`). Rows are shuffled, cut into pools of ``pool`` batches, and sorted by length
    within a pool: the larger the pool, the less padding and the less random the company of a row. seed: of the order.
    drop_last: leave out what does not fill a batch.

    >>> lengths = np.array([1, 9, 1, 9, 1, 9, 1, 9])
    >>> [sorted(set(lengths[batch].tolist())) for batch in LengthBucketed(lengths, 4).batches(0)]
    [[1], [9]]
    """

    def __init__(
        self, lengths: np.ndarray, batch: int, *, seed: int = 0, drop_last: bool = True, pool: int = 50
    ) -> None:
        super().__init__(len(lengths), batch, seed=seed, drop_last=drop_last)
        self.lengths, self.pool = np.asarray(lengths), pool

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        rng = self.rng(epoch)
        order = rng.permutation(self.rows)
        # Left-over rows are set apart before sorting: after it they would always be the longest ones.
        whole = self.rows // self.batch * self.batch
        found = [order[whole:]] if whole < self.rows and not self.drop_last else []
        for start in range(0, whole, self.batch * self.pool):
            part = order[start : min(start + self.batch * self.pool, whole)]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            found += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        for i in rng.permutation(len(found)):
            yield found[i]


class NoDuplicates(Sampler):
    """No two rows of a batch share a text: a row's positive is never another row's negative.

    keys: ``(N,)`` or ``(N, K)`` ints, equal where texts are (`Rows.keys`), negative: none. A row that does not fit a
    batch waits for the next one, so each row comes once per epoch; only rows that still do not fit when the epoch runs
    out are left, in smaller batches (``drop_last=False``) or not at all. `len` counts those of the first epoch. batch:
    rows of each. seed: of the order.

    >>> keys = np.array([[0, 10], [0, 11], [1, 12], [2, 13]])  # the first two rows share a text
    >>> all(not {0, 1} <= set(batch.tolist()) for batch in NoDuplicates(keys, 2).batches(0))
    True
    """

    def __init__(self, keys: np.ndarray, batch: int, *, seed: int = 0, drop_last: bool = True) -> None:
        keys = np.asarray(keys).reshape(len(keys), -1)
        super().__init__(len(keys), batch, seed=seed, drop_last=drop_last)
        self.keys = [tuple(k for k in row if k >= 0) for row in keys.tolist()]
        values = keys[keys >= 0]
        counts = np.unique(values, return_counts=True)[1] if len(values) else np.ones(1)
        self._plain = bool(counts.max() == 1)  # nothing is shared: any batch will do
        self._length: int | None = None

    def __len__(self) -> int:
        if self._plain:
            return super().__len__()
        if self._length is None:
            self._length = sum(1 for _ in self.batches(0))
            if self._length == 0:
                raise DataError(
                    f"No batch of {self.batch:,} rows can be made in which no text occurs twice: too many rows share "
                    "theirs. Lower the batch, or remove duplicate rows."
                )
        return self._length

    @property
    def rows_of_epoch(self) -> int:
        """Rows in the full batches of the first epoch; 0 where so many share texts that no batch is full."""
        whole = self.rows // self.batch if self._plain else sum(len(b) == self.batch for b in self.batches(0))
        return whole * self.batch

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        fresh = iter(self.rng(epoch).permutation(self.rows).tolist())
        waiting: deque[int] = deque()
        more = True
        while more or waiting:
            chosen: list[int] = []
            used: set[int] = set()
            again: deque[int] = deque()
            while len(chosen) < self.batch:
                if waiting:
                    row = waiting.popleft()
                elif (row := next(fresh, -1)) < 0:
                    more = False
                    break
                keys = self.keys[row]
                if used.isdisjoint(keys):
                    chosen.append(row)
                    used.update(keys)
                else:
                    again.append(row)
            waiting.extendleft(reversed(again))  # those that waited longest come first
            if chosen and (len(chosen) == self.batch or not self.drop_last):
                yield np.array(chosen, dtype=np.int64)


class PxK(Sampler):
    """P classes with K rows each, so that every anchor has positives and negatives.

    labels: ``(N,)`` ints (`Rows.labels`). K = ``per_class``, or more where there are too few classes to fill the batch;
    P = batch / K, rounded down. Rows of a class are shuffled and cut into groups of K, the last one filled with rows
    drawn again, and a batch takes the classes with most groups left. An epoch has as many groups as the rows make: with
    classes of like size every row comes once, and otherwise rows of small classes come again, and some rows of large
    ones wait for another epoch. seed: of what is drawn.

    >>> labels = np.array([0] * 5 + [1] * 5 + [2] * 5)
    >>> batch = next(PxK(labels, 4, per_class=2).batches(0))
    >>> np.unique(labels[batch], return_counts=True)[1].tolist()
    [2, 2]
    """

    def __init__(self, labels: np.ndarray, batch: int, *, per_class: int = 4, seed: int = 0) -> None:
        labels, each = np.asarray(labels), min(2, per_class)
        names = np.unique(labels)
        if len(names) == 1:
            raise DataError("Batches of several classes need rows of at least two classes; these rows have one.")
        if 0 < min(batch, len(labels)) < 2 * each:
            advice = "Give a larger one: --batch 8." if batch <= len(labels) else "Give more labelled rows."
            raise ConfigError(
                f"A batch of {min(batch, len(labels))} rows cannot hold two classes with {each} rows each, the least "
                f"that can be contrasted. {advice}"
            )
        super().__init__(len(labels), batch, seed=seed)
        self.classes = max(2, min(self.batch // per_class, len(names)))
        self.per_class = self.batch // self.classes
        self.batch = self.classes * self.per_class
        self._members = [np.flatnonzero(labels == n) for n in names]
        groups = sum(-(-len(m) // self.per_class) for m in self._members)
        self._length = -(-groups // self.classes)

    def __len__(self) -> int:
        return self._length

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        rng = self.rng(epoch)
        groups = [self._groups(m, rng) for m in self._members]
        left = np.array([len(g) for g in groups])
        for _ in range(self._length):
            most = np.lexsort((rng.random(len(left)), -left))[: self.classes]
            left[most] -= 1
            for c in most:
                groups[c] = groups[c] or self._groups(self._members[c], rng)
            yield np.concatenate([groups[c].pop() for c in most])

    def _groups(self, members: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """A class, shuffled and cut into groups of K rows, without a row twice in a group where that can be."""
        order = rng.permutation(members)
        if short := -len(order) % self.per_class:
            earlier = order[: len(order) + short - self.per_class]
            others = earlier if len(earlier) else members
            order = np.concatenate([order, rng.choice(others, short, replace=len(others) < short)])
        return list(order.reshape(-1, self.per_class))


class InTurn(Sampler):
    """Tasks one after another: all batches of the first one, pass after pass, before any of the next.

    labels, tasks: ``(N,)`` ints, the class and the task of each row; tasks come in the order of their numbers. steps:
    batches of the whole run (None: ``epochs`` passes over all rows), of which each task gets its part. An epoch has as
    many batches as the rows make, so a run of E epochs stays E epochs long with each task; what comes after the end
    goes on with the last task. classes: their names, for the error. Raises `DataError` where a class is of two tasks.
    batch: rows of each. seed: of the order within a task.

    >>> labels, tasks = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> [sorted(set(tasks[batch].tolist())) for batch in InTurn(labels, tasks, 2).batches(0)]
    [[0], [0], [1], [1]]
    """

    def __init__(
        self,
        labels: np.ndarray,
        tasks: np.ndarray,
        batch: int,
        *,
        steps: int | None = None,
        epochs: float = 1.0,
        seed: int = 0,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(len(labels), batch, seed=seed)
        names, number = np.unique(tasks, return_inverse=True)
        for label in np.unique(labels):
            if len(found := np.unique(number[labels == label])) > 1:
                raise DataError(
                    f"Class {classes[label] if len(classes) else label} comes in task {names[found[0]]} and again in "
                    f"task {names[found[1]]}: a task brings classes that no earlier one had. Mend the column `task`, "
                    "or give all rows of a class one task."
                )
        self._members = [np.flatnonzero(number == n) for n in range(len(names))]
        self._made = np.array([max(1, len(m) // self.batch) for m in self._members])
        steps = max(1, round(epochs * len(self))) if steps is None else steps
        self._ends = np.round(np.cumsum(self._made) * steps / len(self)).astype(np.int64)

    def __len__(self) -> int:
        return int(self._made.sum())

    def task_at(self, step: int) -> int:
        """The number of the task, from 0, that the batch of this step (from 0) is of."""
        return min(int(np.searchsorted(self._ends, step, side="right")), len(self._members) - 1)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        for step in range(epoch * len(self), (epoch + 1) * len(self)):
            task = self.task_at(step)
            turn, at = divmod(step - (self._ends[task - 1] if task else 0), self._made[task])
            order = np.random.default_rng([self.seed, task, turn]).permutation(self._members[task])
            yield order[at * self.batch : (at + 1) * self.batch]


class Homogeneous(Sampler):
    """Every batch from one source (task, language, file), so that no negative gives itself away by its source.

    sources: ``(N,)`` ints, as ``rows.sources()`` gives; a row below 0 is left out. Each row once per epoch; per source,
    what does not fill a batch is left out (``drop_last``) or comes as a smaller batch. seed: of the order.

    >>> source = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> all(len(set(source[batch].tolist())) == 1 for batch in Homogeneous(source, 2).batches(0))
    True
    """

    def __init__(self, sources: np.ndarray, batch: int, *, seed: int = 0, drop_last: bool = True) -> None:
        super().__init__(len(sources), batch, seed=seed, drop_last=drop_last)
        sources = np.asarray(sources)
        names, sizes = np.unique(sources[sources >= 0], return_counts=True)
        if not len(names):
            raise DataError("No row is of any source: there is nothing to take batches from.")
        self._members = [np.flatnonzero(sources == n) for n in names]
        small = sizes < self.batch
        if drop_last and small.all():
            raise DataError(
                f"No source has the {self.batch:,} rows of a batch (the largest has {sizes.max():,}). "
                f"Set the batch to at most {sizes.max():,}."
            )
        if drop_last and small.any():
            warnings.warn(
                f"{small.sum()} of {len(names)} sources have fewer rows than the batch of {self.batch:,} and are left "
                f"out ({sizes[small].sum():,} rows). Lower the batch to use them.",
                stacklevel=2,
            )
        whole = sizes // self.batch if drop_last else -(-sizes // self.batch)
        self._length = int(whole.sum())

    def __len__(self) -> int:
        return self._length

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        rng = self.rng(epoch)
        found: list[np.ndarray] = []
        for members in self._members:
            order = rng.permutation(members)
            end = len(order) // self.batch * self.batch if self.drop_last else len(order)
            found += [order[i : i + self.batch] for i in range(0, end, self.batch)]
        for i in rng.permutation(len(found)):
            yield found[i]
