"""The words the back ends and the pairings share: a tile of the pair matrix, what a pairing says of it, what is asked.

The pair matrix has one row per anchor (N) and one column per candidate: M candidates, then K *extra* ones (a queue, a
bank, hard negatives). It never exists whole. A `Tile` is a rectangle of it; a pairing answers for a tile with a `Cell`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from counterpoint.kernels.facts import Facts

Form: TypeAlias = Literal["softmax", "marginal", "sigmoid"]


class Scratch:
    """Tile-sized buffers that are allocated once and used for every tile."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor of this shape; the same memory each time the same name is asked for."""
        size = shape[0] * shape[1]
        buffer = self.buffers.get((name, dtype))
        if buffer is None or buffer.numel() < size:
            buffer = self.buffers[name, dtype] = torch.empty(size, dtype=dtype, device=self.device)
        return buffer[:size].view(shape)


@dataclass(slots=True)
class Tile:
    """Rows ``rows`` and columns ``cols`` of the pair matrix, shape ``(n, m)``; it lies on one side of column M.

    candidates: M. scores: ``(n, m)`` the scores there (scaled), without gradient; set before weights are asked for.
    """

    rows: slice
    cols: slice
    candidates: int
    scratch: Scratch
    scores: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    @property
    def device(self) -> torch.device:
        return self.scratch.device

    @property
    def extra(self) -> bool:
        """Whether these columns are extra candidates."""
        start: int = self.cols.start
        return start >= self.candidates

    def left(self, of_rows: Tensor) -> Tensor:
        """What is known of the rows, ``(N,)`` to ``(n, 1)``."""
        return of_rows[self.rows, None]

    def right(self, of_columns: Tensor) -> Tensor:
        """What is known of the columns, ``(M,)`` or ``(M + K,)`` to ``(1, m)``. Check `knows` first."""
        return of_columns[None, self.cols]

    def knows(self, columns: int) -> bool:
        """Whether something that is known of this many columns covers the tile."""
        stop: int = self.cols.stop
        return columns >= stop

    def products(self, left: Tensor, right: Tensor, name: str) -> Tensor:
        """Dot products of rows ``(N, E)`` and columns ``(M, E)``: ``(n, m)``, in a buffer called ``name``."""
        out = self.scratch(name, self.shape, left.dtype)
        return torch.mm(left[self.rows], right[self.cols].T, out=out)

    def entries(self, matrix: Tensor) -> Tensor:
        """The tile of a matrix that does exist whole."""
        return matrix[self.rows, self.cols]

    def diagonal(self, offset: int = 0) -> Tensor | None:
        """Bool ``(n, m)``, True where column = row + offset; None where no such pair lies in the tile."""
        r, c = self.rows, self.cols
        if self.extra or r.start + offset >= c.stop or c.start >= r.stop + offset:
            return None
        out = torch.zeros(self.shape, dtype=torch.bool, device=self.scratch.device)
        out.diagonal(r.start + offset - c.start).fill_(True)
        return out


@dataclass(slots=True)
class Pairs:
    """Single pairs ``(rows[p], cols[p])`` of the pair matrix, ``(P,)`` long each: answers whatever a `Tile` answers.

    Used for pairs that are known one by one: the diagonal, hard negatives that belong to one row.
    """

    rows: Tensor
    cols: Tensor
    extra: bool = False
    scores: Tensor | None = None

    @property
    def shape(self) -> tuple[int]:
        return (len(self.rows),)

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def left(self, of_rows: Tensor) -> Tensor:
        return of_rows[self.rows]

    def right(self, of_columns: Tensor) -> Tensor:
        return of_columns[self.cols]

    def knows(self, columns: int) -> bool:
        return not len(self.cols) or columns > int(self.cols.max())

    def products(self, left: Tensor, right: Tensor, name: str) -> Tensor:
        return (left[self.rows] * right[self.cols]).sum(1)

    def entries(self, matrix: Tensor) -> Tensor:
        return matrix[self.rows, self.cols]

    def diagonal(self, offset: int = 0) -> Tensor | None:
        return None if self.extra else self.rows + offset == self.cols


Region: TypeAlias = Tile | Pairs


@dataclass(slots=True)
class Cell:
    """What a pairing says of a region. None: nothing, so that no work is done.

    targets: ``T >= 0`` float. positives: bool, ``T > 0`` and not dropped. dropped: bool, pairs that do not exist.
    log_weights: ``W`` float, 0 at positives. offset: float, subtracted from the scores (a margin).
    """

    targets: Tensor | None = None
    positives: Tensor | None = None
    dropped: Tensor | None = None
    log_weights: Tensor | None = None
    offset: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which reductions of the pair matrix a loss needs.

    both: over columns too. dot: ``sum_j T_ij S_ij`` and ``sum_j T_ij`` (False: the caller has a shorter way).
    positives: logsumexp over the positives. negatives: take the positives out of the denominator. counts: numbers of
    positives and of dropped pairs. weights: logsumexp of the log-weights of the negatives.
    """

    form: Form = "softmax"
    both: bool = False
    dot: bool = True
    positives: bool = False
    negatives: bool = False
    counts: bool = False
    weights: bool = False


class Rules(Protocol):
    """What the back ends want of a pairing."""

    def cell(self, region: Region, asked: Asked, dtype: torch.dtype) -> Cell: ...

    def empty(self, tile: Tile) -> bool:
        """Whether every pair of the tile is dropped, so that it need not be looked at."""
        ...

    def paired(self) -> int | None:
        """Where row i has one positive and that is candidate ``i + offset``: the offset."""
        ...

    def limit(self, scores: float) -> float:
        """A bound on ``|S - offset + W|`` where ``|S| <= scores`` and W is not -inf."""
        ...

    def facts(self, n: int, m: int) -> Facts | None:
        """The same of N rows and M candidates, in words of a compiled kernel; None where there are none for it."""
        ...


class Watcher(Protocol):
    """Looks at every tile of the forward pass: ``scores`` ``(n, m)`` after the offset; must not change them."""

    def __call__(self, tile: Tile, scores: Tensor, cell: Cell) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call of a back end: the pairing, what is asked, and how to compute it.

    limit: a bound on the absolute scores. tile: side of a tile. precision: ``bfloat16`` products or ``full`` ones.
    """

    rules: Rules
    asked: Asked
    limit: float = math.inf
    tile: int = 1024
    precision: Literal["full", "bfloat16"] = "full"
    watcher: Watcher | None = None


@dataclass(slots=True)
class Sums:
    """Reductions over the columns (one value per row), or over the rows (one per candidate); ``(N,)`` or ``(M,)`` each.

    over: ``logsumexp_j(S + W)`` of the denominator, -inf where there is nothing; in the sigmoid form
    ``sum_j exp(W) softplus(S)``. positives: logsumexp over positives. dot: ``sum_j T S``. total: ``sum_j T``.
    n_positives, n_dropped: counts. weights: logsumexp of W over the negatives. Gradients reach over, positives and dot.
    """

    over: Tensor
    positives: Tensor | None = None
    dot: Tensor | None = None
    total: Tensor | None = None
    n_positives: Tensor | None = None
    n_dropped: Tensor | None = None
    weights: Tensor | None = None


@dataclass(slots=True)
class Reduced:
    """What a back end returns: reductions by row and, where asked, by candidate."""

    rows: Sums
    columns: Sums | None = field(default=None)
