"""Target rules: what each score should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.kernels.facts import Equal, Similar
from counterpoint.kernels.tile import Pairs, Region
from counterpoint.objectives.masks import NotSelf, OnlyOwn, numbers
from counterpoint.objectives.rules import Block, Rule, Targets, spread_out
from counterpoint.processes import around, rank, sizes, total, world


@dataclass(frozen=True)
class Diagonal(Targets):
    """Candidate i is the one positive of anchor i (InfoNCE, CLIP; van den Oord et al. 2018, arXiv 1807.03748).

    offset: the positive of anchor i is candidate ``i + offset``. own: the other candidates are not compared with anchor
    i at all, only the extra ones are (MoCo: one positive against a queue); short for ``Diagonal() & OnlyOwn()``.

    >>> from counterpoint.objectives.contrast import contrast
    >>> z = torch.eye(4)
    >>> right, wrong = (contrast(z, k, Diagonal(), scale=10) for k in (z, z.roll(1, 0)))
    >>> round(float(right), 4), round(float(wrong), 4)
    (0.0001, 10.0001)
    """

    offset: int = 0
    own: bool = False
    normalise: bool = False

    def words(self) -> tuple[Rule, ...]:
        return (replace(self, own=False), OnlyOwn(self.offset)) if self.own else (self,)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        if self.offset < 0 or self.offset + n > m:
            raise DataError(
                f"Diagonal: {n} anchors and {m} candidates with offset {self.offset}: every anchor i needs its "
                "candidate i + offset. Give one candidate per anchor, or list the positives: Listed(rows, columns)."
            )

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> Diagonal:
        return replace(self, offset=self.offset + block.first)

    def paired(self) -> int:
        return self.offset

    def positives(self, region: Region) -> Tensor | None:
        return region.diagonal(self.offset)

    def pull(self, x: Tensor, n: int) -> Tensor:
        return x[self.offset : self.offset + n]

    def push(self, x: Tensor, m: int) -> Tensor:
        return F.pad(x, (0, 0, self.offset, m - self.offset - len(x)))

    def fact(self, n: int, m: int) -> Equal:
        return numbers(n, m, self.offset)


@dataclass(frozen=True)
class Labels(Targets):
    """Candidates of the same class are the positives (SupCon, Khosla et al. 2020, arXiv 2004.11362).

    labels ``(N,)`` whole numbers; below 0: unknown, neither has positives nor is one. candidates ``(M,)`` or
    ``(M + K,)``: labels of the candidates (None: as labels). self_pairs: whether a pair (i, i) counts, for anchors that
    are their own candidates; ``self_pairs=False`` is short for ``Labels(...) & NotSelf()``. local: over many processes,
    whether equal labels of two processes are of different classes (labels that only number the rows of a batch).

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import NotSelf
    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> supcon = [contrast(z, z, Labels(torch.tensor(y)) & NotSelf(), scale=10) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
    >>> [round(float(loss), 3) for loss in supcon]
    [0.0, 10.0]
    """

    labels: Tensor
    candidates: Tensor | None = None
    self_pairs: bool = True
    normalise: bool = True
    local: bool = False
    per_column = ("candidates",)

    def words(self) -> tuple[Rule, ...]:
        return (self,) if self.self_pairs else (replace(self, self_pairs=True), NotSelf())

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        candidates = self.labels if self.candidates is None else self.candidates
        for what, y in (("labels", self.labels), ("candidates", candidates)):
            if y.ndim != 1 or y.is_floating_point():
                raise DataError(
                    f"Labels: {what} has shape {tuple(y.shape)} and type {y.dtype}, expected (N,) whole numbers. "
                    "For several labels per row use MultiLabel."
                )
        self.expect("labels", len(self.labels), n)
        self.expect("candidates", len(candidates), m, m + extra)

    def explicit(self) -> Labels:
        rows, columns = self.known
        if self.local:
            rows, columns = (torch.where(y < 0, y, y * world() + rank()) for y in (rows, columns))
        return replace(self, labels=rows, candidates=columns)

    @cached_property
    def known(self) -> tuple[Tensor, Tensor]:
        """Labels of anchors and of candidates, unknown ones made -1 and -2 so that they never match."""
        y = self.labels.long()
        c = y if self.candidates is None else self.candidates.long()
        return torch.where(y < 0, -1, y), torch.where(c < 0, -2, c)

    def positives(self, region: Region) -> Tensor | None:
        rows, columns = self.known
        return region.left(rows) == region.right(columns) if region.knows(len(columns)) else None

    @cached_property
    def classes(self) -> tuple[Tensor, Tensor, int]:
        """The number of the class of each anchor and each candidate, and how many classes there are."""
        rows, columns = self.known
        found, number = torch.unique(torch.cat([rows, columns]), return_inverse=True)
        return number[: len(rows)], number[len(rows) :], len(found)

    def pull(self, x: Tensor, n: int) -> Tensor:
        rows, columns, count = self.classes
        return x.new_zeros(count, x.shape[1]).index_add(0, columns[: len(x)], x).index_select(0, rows)

    def push(self, x: Tensor, m: int) -> Tensor:
        rows, columns, count = self.classes
        return x.new_zeros(count, x.shape[1]).index_add(0, rows, x).index_select(0, columns[:m])

    def reach(self, m: int, extra: int) -> int:
        return len(self.known[1])

    def fact(self, n: int, m: int) -> Equal:
        return Equal(*self.known)


def views(rows: int, count: int = 2, *, device: torch.device | str = "cpu") -> Labels:
    """Several views per row, stacked view after view: ``z = cat([view_1, ..., view_count])``, ``(count * rows, D)``.

    The other views of a row are its positives (NT-Xent, SimCLR, Chen et al. 2020, arXiv 2002.05709):
    ``contrast(z, z, views(rows))``.

    device: of the labels.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import NotSelf
    >>> z = torch.eye(3).repeat(2, 1)  # two equal views of three rows
    >>> round(float(contrast(z, z, views(3) & NotSelf(), scale=10)), 4)
    0.0002
    """
    return Labels(torch.arange(rows, device=device).repeat(count), self_pairs=False, local=True)


@dataclass(frozen=True)
class MultiLabel(Targets):
    """Candidates that share labels are positives; labels ``(N, C)`` of 0 and 1, candidates ``(M, C)``, ``(M + K, C)``.

    kind: ``any`` (T = 1 where at least one is shared), ``count`` (their number), ``jaccard`` (their share of the union;
    Zhang et al. 2022, arXiv 2204.13207).

    >>> from counterpoint.objectives.contrast import contrast
    >>> labels = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    >>> contrast(torch.eye(3), torch.eye(3), MultiLabel(labels), scale=5).shape
    torch.Size([])
    """

    labels: Tensor
    candidates: Tensor | None = None
    kind: Literal["any", "count", "jaccard"] = "jaccard"
    normalise: bool = True
    per_column = ("candidates",)

    def __post_init__(self) -> None:
        for name in ("labels", "candidates"):
            value = getattr(self, name)
            if value is not None and not value.is_floating_point():
                object.__setattr__(self, name, value.float())

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("labels", len(self.labels), n)
        self.expect("candidates", len(self._columns), m, m + extra)
        self.expect("candidates (classes)", self._columns.shape[1], self.labels.shape[1])

    def explicit(self) -> MultiLabel:
        return replace(self, candidates=self._columns)

    @property
    def _columns(self) -> Tensor:
        return self.labels if self.candidates is None else self.candidates

    def values(self, region: Region, dtype: torch.dtype) -> Tensor | None:
        if not region.knows(len(self._columns)):
            return None
        shared = region.products(self.labels, self._columns, "targets").to(dtype)
        if self.kind == "count":
            return shared
        if self.kind == "any":
            return (shared > 0).to(dtype)
        union = region.left(self.labels.sum(1)) + region.right(self._columns.sum(1)) - shared
        return shared / union.clamp_min(1)

    def pull(self, x: Tensor, n: int) -> Tensor | None:
        return self.labels @ (self._columns[: len(x)].T @ x) if self.kind == "count" else None

    def push(self, x: Tensor, m: int) -> Tensor | None:
        return self._columns[:m] @ (self.labels.T @ x) if self.kind == "count" else None

    def reach(self, m: int, extra: int) -> int:
        return len(self._columns)


@dataclass(frozen=True)
class Listed(Targets):
    """Positives listed one by one: candidate ``columns[p]`` is a positive of anchor ``rows[p]``; ``(P,)`` each.

    columns from M on are extra candidates. weights ``(P,)``: graded relevance, T at each pair (None: 1). A pair that is
    listed twice has the sum. Over many processes: pairs of a process's own anchors and candidates.

    >>> from counterpoint.objectives.contrast import contrast
    >>> query, documents = torch.eye(3)[:2], torch.eye(3)
    >>> positives = Listed.ragged([[0, 2], [1]])  # two documents answer query 0
    >>> contrast(query, documents, positives, scale=5, reduction="none").shape
    torch.Size([2])
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor | None = None
    normalise: bool = True

    @classmethod
    def ragged(cls, positives: Sequence[Sequence[int]], *, normalise: bool = True) -> Listed:
        """From the list of positive candidates of each anchor; an empty one: an anchor without a positive.

        positives: N sequences of candidates' numbers. normalise: as in the class.
        """
        rows = [i for i, columns in enumerate(positives) for _ in columns]
        columns = [j for row in positives for j in row]
        return cls(torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long), normalise=normalise)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("columns", len(self.columns), len(self.rows))
        if self.weights is not None:
            self.expect("weights", len(self.weights), len(self.rows))
            if not bool((self.weights >= 0).all()):
                raise DataError("Listed: a weight is negative or NaN; relevance is 0 or more.")
        for what, index, size in (("row", self.rows, n), ("candidate", self.columns, m + extra)):
            bad = (index < 0) | (index >= size)
            if bad.any():
                p = int(bad.nonzero()[0])
                raise DataError(
                    f"Listed: pair {p} names {what} {int(index[p])}, but there are {size} (0 to {size - 1})."
                )

    def of_candidates(self, m: int) -> Listed:
        own = self.columns < m
        weights = None if self.weights is None else self.weights[own]
        return replace(self, rows=self.rows[own], columns=self.columns[own], weights=weights)

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> Listed:
        if not block.own:
            return replace(self, rows=self.rows[:0], columns=self.columns[:0], weights=None)
        candidate = self.columns < block.own_candidates
        to = block.candidates + block.first_extra - block.own_candidates
        return replace(self, columns=self.columns + torch.where(candidate, block.first, to))

    @cached_property
    def sorted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs ordered by row, then column, each once: rows, columns, weights."""
        t = torch.ones(len(self.rows)) if self.weights is None else self.weights
        width = int(self.columns.max()) + 1 if len(self.columns) else 1
        key, where = torch.unique(self.rows * width + self.columns, return_inverse=True)
        t = t.new_zeros(len(key)).to(key.device).index_add(0, where, t.to(key.device))
        return key // width, key % width, t

    def values(self, region: Region, dtype: torch.dtype) -> Tensor | None:
        rows, columns, t = self.sorted
        if isinstance(region, Pairs):
            return self._at(region, dtype)
        first, last = torch.searchsorted(rows, torch.tensor([region.rows.start, region.rows.stop], device=rows.device))
        here = slice(int(first), int(last))
        inside = (columns[here] >= region.cols.start) & (columns[here] < region.cols.stop)
        if not inside.any():
            return None
        out = torch.zeros(region.shape, dtype=dtype, device=rows.device)
        r, c = rows[here][inside] - region.rows.start, columns[here][inside] - region.cols.start
        out[r, c] = t[here][inside].to(dtype)
        return out

    def _at(self, pairs: Pairs, dtype: torch.dtype) -> Tensor:
        rows, columns, t = self.sorted
        out = torch.zeros(pairs.shape, dtype=dtype, device=rows.device)
        if not len(t):
            return out
        width = int(torch.maximum(columns.max(), pairs.cols.max())) + 1
        keys, wanted = rows * width + columns, pairs.rows * width + pairs.cols
        at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        return torch.where(keys[at] == wanted, t[at].to(dtype), out)

    def _matrix(self, n: int, m: int, x: Tensor) -> Tensor:
        """``T[:, :m]`` as a sparse matrix in the precision of ``x``."""
        rows, columns, t = self.sorted
        inside = columns < m
        index = torch.stack([rows[inside], columns[inside]])
        return torch.sparse_coo_tensor(index, t[inside].to(x.dtype), (n, m), is_coalesced=True, check_invariants=False)

    def pull(self, x: Tensor, n: int) -> Tensor:
        return self._matrix(n, len(x), x) @ x

    def push(self, x: Tensor, m: int) -> Tensor:
        return self._matrix(len(x), m, x).t() @ x

    def reach(self, m: int, extra: int) -> int:
        return m + extra if len(self.columns) and int(self.columns.max()) >= m else m


@dataclass(frozen=True)
class Soft(Targets):
    """Targets that exist whole: ``matrix`` ``(N, M)`` or ``(N, M + K)``, T >= 0.

    Over many processes: of each process's anchors and its own candidates; those of the others have T = 0. first: the
    matrix is of its anchors and the candidates of all processes, in order, and this process's own begin at ``first``.

    >>> from counterpoint.objectives.contrast import contrast
    >>> graded = Soft(torch.tensor([[1.0, 0.2], [0.0, 1.0]]), normalise=True)
    >>> round(float(contrast(torch.eye(2), torch.eye(2), graded, scale=5)), 3)
    0.423
    """

    matrix: Tensor
    normalise: bool = False
    first: int | None = None

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("matrix (rows)", self.matrix.shape[0], n)
        columns = self.matrix.shape[1]
        if self.first is None or world() == 1:
            self.expect("matrix (columns)", columns, m, m + extra)
        elif columns < self.first + m:
            raise DataError(
                f"Soft: matrix has {columns} columns, one for each candidate of all processes, and the {m} of this one "
                f"begin at {self.first}. Give first=starts(sizes(M))[rank()] (counterpoint.processes)."
            )
        bad = ~(self.matrix >= 0).all(1)
        if bad.any():
            raise DataError(f"Soft: row {int(bad.nonzero()[0])} holds a negative target or NaN; targets are 0 or more.")

    def of_candidates(self, m: int) -> Soft:
        return self if self.first is not None else replace(self, matrix=self.matrix[:, :m])

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> Soft:
        if self.first is None:
            return replace(self, matrix=spread_out(self.matrix, block))
        start = self.first - block.first
        return replace(self, matrix=self.matrix[:, start : start + block.candidates], first=None)

    def values(self, region: Region, dtype: torch.dtype) -> Tensor | None:
        return region.entries(self.matrix).to(dtype) if region.knows(self.matrix.shape[1]) else None

    def reach(self, m: int, extra: int) -> int:
        return self.matrix.shape[1]


@dataclass(frozen=True)
class TeacherSimilarity(Targets):
    """Targets are the similarities that a teacher sees, ``s_ij = rows_i . candidates_j`` (normalise for cosines).

    rows ``(N, E)``, candidates ``(M, E)`` or ``(M + K, E)`` (None: as rows). T is one of
    ``slope s + intercept`` (CWCL, Srinivasa et al. 2023: 1/2, 1/2), and 0 where that is below 0 if ``clip``;
    ``transform(s)``, a function of a tensor to one of the same shape, >= 0;
    ``exp(s / temperature)``, which with ``normalise`` is a softmax (Dialog2Flow, arXiv 2410.18481).
    bound, shift: what keeps the exponents in range, where it is known already; see `explicit`.

    >>> from counterpoint.objectives.contrast import contrast
    >>> frozen = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), dim=-1)
    >>> weights = TeacherSimilarity(frozen, slope=0.5, intercept=0.5)  # CWCL: w = cos / 2 + 1/2
    >>> contrast(torch.eye(3), torch.eye(3), weights, scale=5).shape
    torch.Size([])
    """

    rows: Tensor
    candidates: Tensor | None = None
    slope: float = 1.0
    intercept: float = 0.0
    clip: bool = False
    temperature: float | None = None
    transform: Callable[[Tensor], Tensor] | None = None
    normalise: bool = True
    bound: float | None = None
    shift: Tensor | None = None
    per_column = ("candidates",)
    crisp: ClassVar[bool] = False
    REACH: ClassVar[float] = 50.0  # larger exponents need a shift per row to keep clear of the ends of float32

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("rows", len(self.rows), n)
        self.expect("candidates", len(self._columns), m, m + extra)
        if self.rows.shape[1] != self._columns.shape[1]:
            raise DataError(
                f"TeacherSimilarity: rows have {self.rows.shape[1]} dimensions, candidates {self._columns.shape[1]}. "
                "Embed both with the same teacher."
            )
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(f"TeacherSimilarity: temperature={self.temperature}; a temperature is positive. Try 0.1.")
        if self.temperature is not None and not self.normalise:
            raise ConfigError(
                "TeacherSimilarity: a temperature makes a softmax, which is normalised; leave normalise=True."
            )
        if self.temperature is not None and both and self._bound > self.REACH:
            raise ConfigError(
                f"TeacherSimilarity: temperature {self.temperature} spreads the targets over more than float32 holds, "
                "so rows and columns cannot share them. Call contrast once for each direction, with both=False."
            )

    @property
    def _columns(self) -> Tensor:
        return self.rows if self.candidates is None else self.candidates

    def explicit(self) -> TeacherSimilarity:
        """bound and shift over the candidates of all processes, which come by one after the other."""
        rows, columns = self.rows, self._columns
        known = replace(self, candidates=columns, bound=self._product(total(self._norms, "max")))
        if self.temperature is None or known._bound <= self.REACH:
            return known
        parts = [known._largest(block) for _, (block,) in around([columns], [sizes(len(columns), rows.device)])]
        return replace(known, shift=torch.stack(parts).amax(0))

    @property
    def _norms(self) -> Tensor:
        """``(2,)``: the largest norm of a row and of a candidate."""
        return torch.stack([F.pad(x, (0, 0, 0, 1)).norm(dim=1).max() for x in (self.rows, self._columns)])

    def _product(self, norms: Tensor) -> float:
        return float(norms.prod()) / (self.temperature or 1.0)

    @cached_property
    def _bound(self) -> float:
        """Largest possible exponent: the product of the largest norms over the temperature."""
        return self._product(self._norms) if self.bound is None else self.bound

    @cached_property
    def _shift(self) -> Tensor:
        """``(N,)``: the largest exponent of each row. A pass of its own, needed only for small temperatures."""
        return self._largest(self._columns) if self.shift is None else self.shift

    def _largest(self, columns: Tensor) -> Tensor:
        """``(N,)``: the largest exponent of each row over some columns, -inf over none."""
        largest = self.rows.new_full((len(self.rows),), -torch.inf)
        for r in range(0, len(self.rows), 1024):
            here = largest[r : r + 1024]
            for c in range(0, len(columns), 1024):
                found = (self.rows[r : r + 1024] @ columns[c : c + 1024].T).amax(1)
                torch.maximum(here, found, out=here)
        return largest / (self.temperature or 1.0)

    def values(self, region: Region, dtype: torch.dtype) -> Tensor | None:
        if not region.knows(len(self._columns)):
            return None
        s = region.products(self.rows, self._columns, "targets").to(dtype)
        if self.transform is not None:
            return self.transform(s)
        if self.temperature is not None:
            if self._bound > self.REACH:  # a constant per row cancels in the softmax
                return s.div_(self.temperature).sub_(region.left(self._shift)).exp_()
            return s.div_(self.temperature).sub_(max(0.0, self._bound - self.REACH / 2)).exp_()
        t = s.mul_(self.slope).add_(self.intercept)
        return t.clamp_(min=0) if self.clip else t

    def fact(self, n: int, m: int) -> Similar | None:
        rows, columns = self.rows, self._columns
        if self.transform is not None:
            return None
        if self.temperature is None:
            return Similar(rows, columns, self.slope, self.intercept, self.clip)
        shift = rows.new_full((n,), max(0.0, self._bound - self.REACH / 2))
        if self._bound > self.REACH:
            shift = self._shift
        return Similar(rows, columns, 1 / self.temperature, shift=shift)

    @property
    def _linear(self) -> bool:
        return self.transform is None and self.temperature is None and not self.clip

    def pull(self, x: Tensor, n: int) -> Tensor | None:
        return self._low_rank(self.rows, self._columns[: len(x)], x) if self._linear else None

    def push(self, x: Tensor, m: int) -> Tensor | None:
        return self._low_rank(self._columns[:m], self.rows, x) if self._linear else None

    def _low_rank(self, left: Tensor, right: Tensor, x: Tensor) -> Tensor:
        """``(slope left right^T + intercept) x`` from right to left, which never makes the matrix."""
        return self.slope * (left @ (right.T @ x)) + self.intercept * x.sum(0)

    def reach(self, m: int, extra: int) -> int:
        return len(self._columns)
