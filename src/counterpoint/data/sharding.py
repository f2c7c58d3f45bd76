"""Which rows a batch has and who reads them: arithmetic alone, the same for any number of processes.

An epoch puts the pieces of the data in some order and cuts that one long row of rows into lanes of equal length (to one
row). The rows of the lanes, taken in turns, are the rows of the epoch: row n is row ``n // lanes`` of lane ``n %
lanes``. A batch is a stretch of them, so it comes from as many places of the data as there are lanes. Within a lane,
blocks of rows are shuffled. A process reads its own lanes and no others; a position is a number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from counterpoint.data.files.offsets import Values
from counterpoint.data.files.pieces import Order, Pieces
from counterpoint.data.files.readahead import Readers
from counterpoint.data.log import Log

Raw: TypeAlias = tuple[int, Values]
"""The number of a row in the data, and its values."""

LANES = (48, 24, 16, 12, 8, 6, 4, 3, 2)
"""Numbers that many numbers of processes divide."""
PIECES = 4
"""Pieces a lane should have, on average: the one it begins in the middle of is read by two."""
THREADS = 8
"""Pieces read at a time by one process."""


def lanes_for(pieces: int, world: int) -> int:
    """As many lanes as the data has room for, the same for every number of processes up to the largest of `LANES`.

    pieces: how many. world: number of processes.
    """
    room = max(1, pieces // PIECES)
    return world if LANES[0] < world <= room else next((n for n in LANES if n <= room), 1)


@dataclass(frozen=True)
class Cut:
    """An epoch of ``rows`` rows in batches of ``batch``. Every row is in one of them, and none is much too small."""

    rows: int
    batch: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.rows // self.batch)

    def __call__(self, step: int) -> int:
        """Where batch ``step`` begins. The last two share what is left for them: a batch of one row teaches nothing.

        >>> cut = Cut(11, 4)
        >>> [cut(i) for i in range(cut.steps + 1)]
        [0, 4, 8, 11]
        >>> [Cut(9, 4)(i) for i in range(4)]
        [0, 4, 7, 9]
        """
        if step >= self.steps:
            return self.rows
        if step < self.steps - 1 or step == 0:
            return step * self.batch
        before = (step - 1) * self.batch
        return before + -(-(self.rows - before) // 2)


@dataclass(frozen=True)
class Deal:
    """Who reads what. A lane has one reader; those left over by the division have several, who take turns.

    lanes: how many. rank: of this process. world: number of processes.
    """

    lanes: int
    rank: int
    world: int

    @property
    def mine(self) -> list[int]:
        """The lanes that this process reads."""
        whole, left = self._whole()
        return [*range(self.rank, whole, self.world), *([whole + self.rank % left] if left else [])]

    def owns(self, lane: int, index: int) -> bool:
        """Whether row ``index`` of one of its lanes is for this process."""
        whole, left = self._whole()
        if lane < whole:
            return True
        first = lane - whole
        readers = len(range(first, self.world, left))
        return self.rank == first + left * (index % readers)

    def _whole(self) -> tuple[int, int]:
        left = self.lanes % self.world
        return self.lanes - left, left


class Epoch:
    """The batches of one epoch from batch ``done`` on: of each, the rows that this process reads.

    pieces: what the data is made of. columns: their names. batch: rows of all processes together. seed, epoch: of the
    order. lanes, rank, world: as of `Deal`. buffer: rows that are shuffled with each other. readers: threads. log: of
    the rows.
    """

    def __init__(
        self,
        pieces: Pieces,
        *,
        columns: Sequence[str],
        batch: int,
        seed: int,
        epoch: int,
        done: int,
        lanes: int,
        rank: int,
        world: int,
        buffer: int,
        readers: Readers,
        log: Log,
    ) -> None:
        self.done, self._cut, self._deal = done, Cut(pieces.rows, batch), Deal(lanes, rank, world)
        order, block = pieces.order(seed, epoch), max(1, buffer // lanes)
        at_once = max(1, batch // (lanes * block))  # blocks: about what a batch needs, or one
        short, longer = divmod(pieces.rows, lanes)
        self._lanes: dict[int, _Lane] = {}
        for lane in self._deal.mine:
            start, stop = (i * short + min(i, longer) for i in (lane, lane + 1))
            blocks = _blocks(order, start, stop, _index(self._cut(done), lane, lanes), block, columns, log)
            self._lanes[lane] = _Lane(_shuffled(blocks, (seed, epoch, lane)), at_once, readers)

    def __iter__(self) -> Iterator[list[Raw]]:
        return self

    def __next__(self) -> list[Raw]:
        if self.done >= self._cut.steps:
            raise StopIteration
        start, stop = self._cut(self.done), self._cut(self.done + 1)
        out: list[Raw] = []
        for lane, rows in self._lanes.items():
            first, last = (_index(n, lane, self._deal.lanes) for n in (start, stop))
            out += [raw for i, raw in enumerate(rows.take(last - first), first) if self._deal.owns(lane, i)]
        self.done += 1
        return out


def _index(n: int, lane: int, lanes: int) -> int:
    """How many of the first ``n`` rows of an epoch are in a lane."""
    return (n - lane + lanes - 1) // lanes


def _blocks(
    order: Order, start: int, stop: int, done: int, size: int, columns: Sequence[str], log: Log
) -> Iterator[tuple[int, int, list[Raw]]]:
    """(number, rows of it that were given before, rows) of each block of a lane, from its row ``done`` on."""
    number, given = divmod(done, size)
    rows = order.read(start + number * size, stop, columns, log)
    while block := list(islice(rows, size)):
        yield number, given, block
        number, given = number + 1, 0


def _shuffled(blocks: Iterator[tuple[int, int, list[Raw]]], seed: tuple[int, ...]) -> Iterator[list[Raw]]:
    for number, given, block in blocks:
        order = np.random.default_rng((*seed, number)).permutation(len(block))
        yield [block[i] for i in order[given:]]


class _Lane:
    """The rows of a lane, ``at_once`` blocks of them always being read before they are asked for."""

    def __init__(self, blocks: Iterator[list[Raw]], at_once: int, readers: Readers) -> None:
        self._read: Callable[[], list[Raw]] = lambda: [raw for block in islice(blocks, at_once) for raw in block]
        self._readers = readers
        self._have: list[Raw] = []
        self._coming: Future[list[Raw]] = readers.submit(self._read)

    def take(self, n: int) -> list[Raw]:
        while len(self._have) < n:
            more = self._coming.result()
            assert more, "a lane ends where its rows were counted to end"
            self._have += more
            self._coming = self._readers.submit(self._read)
        out, self._have = self._have[:n], self._have[n:]
        return out
