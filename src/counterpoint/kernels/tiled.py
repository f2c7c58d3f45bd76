"""The pair matrix tile by tile, in plain torch, on any device: memory O(N + M), one pass for both directions.

Forward, per tile: one matrix product, one exponential, and a matrix-vector product per reduction. Backward: the tile is
computed again, turned in place into the gradient of the scores, and multiplied by both factors; so a symmetric loss
costs 1 + 3 matrix products of N x M x D. Tiles are taken in one fixed order, so the same input gives the same bits.

Where scores are bounded, |S| <= B, one shift c = max(0, B - R) serves every row and column: exp(S - c) cannot overflow
(R = 60 in float32), and a row's sum is exact while its logsumexp is at least c - R, which is checked once at the end;
only where the check fails is the pass repeated with a running maximum per row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.kernels.accumulate import Side, reduced
from counterpoint.kernels.backend import Gradients, Pull
from counterpoint.kernels.tile import Cell, Job, Scratch, Sums, Tile, Watcher

REACH = {torch.float32: 60.0, torch.float64: 600.0}
"""How far from 0 an exponent may lie so that sums of 10^10 exponentials keep in range."""

WIDE = torch.__version__ >= "2.8"
"""Whether a GPU's product of bfloat16 factors can be written in float32."""


def forward(
    q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job
) -> tuple[Sums, Sums | None, float | None]:
    """See `kernels.backend.Backend`."""
    run = Run(q, k, extra, bias, job)
    rows, columns = run.forward()
    return rows, columns if job.asked.both else None, run.shift


def backward(
    q: Tensor,
    k: Tensor,
    extra: Tensor | None,
    bias: Tensor | None,
    job: Job,
    shift: float | None,
    rows: Pull,
    columns: Pull | None,
    needed: Sequence[bool],
) -> Gradients:
    """See `kernels.backend.Backend`."""
    return Run(q, k, extra, bias, job, shift).backward(
        Coefficients.of(rows, shift), None if columns is None else Coefficients.of(columns, shift), needed
    )


@dataclass(slots=True)
class Coefficients:
    """What one side of the pair matrix is pulled by, as vectors that a tile is multiplied with.

    With a shift, over and positives hold ``grad * exp(shift - logsumexp)``, by which ``exp(S - shift)`` is multiplied.
    """

    over: Tensor | None = None
    positives: Tensor | None = None
    dot: Tensor | None = None
    over_lse: Tensor | None = None
    positives_lse: Tensor | None = None

    @classmethod
    def of(cls, pull: Pull, shift: float | None) -> Coefficients:
        grads, sums = pull.grads, pull.sums
        if shift is None:
            return cls(grads.over, grads.positives, grads.dot, sums.over, sums.positives)
        over, positives = (
            _coefficient(grads.over, sums.over, shift),
            _coefficient(grads.positives, sums.positives, shift),
        )
        return cls(over, positives, grads.dot)

    def part(self, where: slice) -> Coefficients:
        values = (getattr(self, name) for name in self.__slots__)
        return Coefficients(*(None if x is None else x[where] for x in values))


def first_shift(job: Job, reach: float) -> float | None:
    """The one shift for all rows and columns that is worth trying; None: the scores may lie too far apart."""
    limit = job.rules.limit(job.limit)
    return max(0.0, limit - reach) if limit <= 2 * reach else None


def _coefficient(grad: Tensor | None, lse: Tensor | None, shift: float) -> Tensor | None:
    if grad is None or lse is None:
        return None
    return grad * (shift - _no_nothing(lse)).exp()


def _no_nothing(lse: Tensor) -> Tensor:
    """The logsumexp of nothing, -inf, as +inf: then ``exp(x - lse)`` is the 0 it should be."""
    return lse.masked_fill(lse == -torch.inf, torch.inf)


class Run:
    """One pass over the tiles. shift None: with a running maximum; a number: with this shift for all."""

    def __init__(
        self, q: Tensor, k: Tensor, extra: Tensor | None, bias: Tensor | None, job: Job, shift: float | None = 0.0
    ) -> None:
        self.q, self.k, self.extra, self.bias, self.job = q, k, extra, bias, job
        self.reach = REACH[q.dtype]
        self.shift = shift
        self.scratch = Scratch(q.device)
        half = job.precision == "bfloat16"
        self.factors = [x.bfloat16() if half else x for x in (q, k)]
        if extra is not None:
            self.factors.append(extra.bfloat16() if half else extra)
        self.wide = half and q.device.type == "cuda" and WIDE
        self.paired = job.rules.paired() if half and not self.wide else None
        if self.paired is not None:
            # A row's only positive decides between a loss of almost nothing and less than nothing: `1 - p` cancels.
            self.exact = torch.linalg.vecdot(q, k[self.paired : self.paired + len(q)])

    # --- tiles -------------------------------------------------------------------------------------------------

    def tiles(self) -> Iterator[tuple[Tile, int, slice]]:
        """Each tile that holds a pair, the block of candidates it lies in (1: k, 2: extra), its columns in there.

        Those without a pair as well, where dropped pairs are counted.
        """
        n, m, side = len(self.q), len(self.k), self.job.tile
        for r in range(0, n, side):
            rows = slice(r, min(r + side, n))
            for block, factor in enumerate(self.factors[1:], 1):
                start = 0 if block == 1 else m
                for c in range(0, len(factor), side):
                    cols = slice(c, min(c + side, len(factor)))
                    tile = Tile(rows, slice(start + cols.start, start + cols.stop), m, self.scratch)
                    if self.job.asked.counts or not self.job.rules.empty(tile):
                        yield tile, block, cols

    def scores(self, tile: Tile, block: int, cols: slice) -> tuple[Tensor, Cell]:
        """Scores of a tile, less the margins, in a buffer of their own, and what the pairing says of it."""
        a, b = self.factors[0][tile.rows], self.factors[block][cols]
        s = self.scratch("scores", tile.shape, self.q.dtype)
        if self.job.precision == "full":
            torch.mm(a, b.T, out=s)
        else:
            s.copy_(self.product(a, b.T))
            if self.paired is not None:
                self.set_exact(s, tile, self.paired)
        if self.bias is not None:
            s.add_(self.bias.detach())
        tile.scores = s
        cell = self.job.rules.cell(tile, self.job.asked, s.dtype)
        if cell.offset is not None:
            s.sub_(cell.offset)
        return s, cell

    def set_exact(self, s: Tensor, tile: Tile, offset: int) -> None:
        """Scores of pairs (i, i + offset) that were not rounded."""
        r, c = tile.rows, tile.cols
        first, last = max(r.start, c.start - offset), min(r.stop, c.stop - offset)
        if not tile.extra and first < last:
            i = slice(first - r.start, last - r.start)
            j = slice(first + offset - c.start, last + offset - c.start)
            s[i, j].diagonal().copy_(self.exact[first:last])

    def product(self, a: Tensor, b: Tensor, name: str = "product") -> Tensor:
        """Product of bfloat16 factors with sums in float32, rounded to bfloat16 where the device knows no other way."""
        if self.wide:
            return torch.mm(a, b, out_dtype=torch.float32)
        return torch.mm(a, b, out=self.scratch(name, (a.shape[0], b.shape[1]), torch.bfloat16))

    # --- forward -----------------------------------------------------------------------------------------------

    def forward(self) -> tuple[Sums, Sums]:
        """Reductions by row and by column; sets `shift` to the way that was exact."""
        if self.job.asked.form == "sigmoid":
            self.shift = None
            rows, columns = self.sweep(self.job.watcher)
            return rows.sums(), columns.sums()
        self.shift = first_shift(self.job, self.reach)
        rows, columns = self.sweep(self.job.watcher)
        # Within reach of 0 nothing can underflow; beyond, one look at the results tells.
        if self.shift and not bool(rows.exact(self.reach) & columns.exact(self.reach)):
            self.shift = None
            rows, columns = self.sweep(None)
        return rows.sums(), columns.sums()

    def sweep(self, watcher: Watcher | None) -> tuple[Side, Side]:
        asked = self.job.asked
        rows = Side(len(self.q), 1, self.q, asked, self.shift)
        columns = Side(len(self.k) if asked.both else 0, 0, self.q, asked, self.shift)
        for tile, block, cols in self.tiles():
            s, cell = self.scores(tile, block, cols)
            if watcher is not None:
                watcher(tile, s, cell)
            sides = [(rows, tile.rows), (columns, cols)] if asked.both and block == 1 else [(rows, tile.rows)]
            for side, where in sides:
                side.count(where, cell)
            if asked.dot and cell.targets is not None:
                ts = torch.mul(cell.targets, s, out=self.scratch("product", tile.shape, s.dtype))
                for side, where in sides:
                    assert side.dot is not None
                    side.dot[where] += reduced(ts, side.dim)
            if asked.weights:
                self.add_weights(tile, cell, sides)
            if asked.form == "sigmoid":
                self.add_sigmoid(s, cell, rows, tile.rows)
            else:
                self.add_softmax(s, cell, sides)
        return rows, columns

    def add_softmax(self, s: Tensor, cell: Cell, sides: list[tuple[Side, slice]]) -> None:
        """Turn a tile of scores into ``exp(S + W - shift)`` in place (``S + W`` without a shift), and add it up."""
        nothing = self.exponentiate(s, cell)
        if cell.positives is not None and self.job.asked.positives:
            if self.shift is None:
                only = s.masked_fill(~cell.positives, -torch.inf)
            else:
                only = torch.mul(s, cell.positives, out=self.scratch("product", _pair(s), s.dtype))
            for side, where in sides:
                assert side.positives is not None
                side.positives.add(where, only, side.dim)
        if cell.positives is not None and self.job.asked.negatives:
            s.masked_fill_(cell.positives, nothing)
        for side, where in sides:
            side.over.add(where, s, side.dim)

    def exponentiate(self, s: Tensor, cell: Cell) -> float:
        """The first half of what forward and backward share; returns the value of a dropped pair."""
        if cell.log_weights is not None:
            s.add_(cell.log_weights)
        nothing = -math.inf
        if self.shift is not None:
            nothing = 0.0
            if self.shift:
                s.sub_(self.shift)
            s.exp_()
        if cell.dropped is not None:
            s.masked_fill_(cell.dropped, nothing)
        return nothing

    def add_sigmoid(self, s: Tensor, cell: Cell, rows: Side, where: slice) -> None:
        threshold = 20 if s.dtype == torch.float32 else 40  # above it softplus(x) = x to the last bit
        pairs = self.scratch("product", _pair(s), s.dtype)
        torch.ops.aten.softplus.out(s, 1, threshold, out=pairs)
        assert rows.plain is not None
        rows.plain[where] += reduced(self.sigmoid_weights(pairs, cell), 1)

    def sigmoid_weights(self, pairs: Tensor, cell: Cell) -> Tensor:
        if cell.log_weights is not None:
            pairs.mul_(cell.log_weights.exp())
        if cell.dropped is not None:
            pairs.masked_fill_(cell.dropped, 0)
        if cell.positives is not None and self.job.asked.negatives:
            pairs.masked_fill_(cell.positives, 0)
        return pairs

    def add_weights(self, tile: Tile, cell: Cell, sides: list[tuple[Side, slice]]) -> None:
        w = self.q.new_zeros(tile.shape) if cell.log_weights is None else cell.log_weights.expand(tile.shape).clone()
        for hidden in (cell.dropped, cell.positives):
            if hidden is not None:
                w.masked_fill_(hidden, -torch.inf)
        for side, where in sides:
            assert side.weights is not None
            side.weights.add(where, w, side.dim)

    # --- backward ----------------------------------------------------------------------------------------------

    def backward(self, rows: Coefficients, columns: Coefficients | None, needed: Sequence[bool]) -> Gradients:
        """Gradients of q, k, extra and bias; None where not needed."""
        grads = [
            torch.zeros_like(x) if x is not None and need else None
            for x, need in zip((self.q, self.k, self.extra, self.bias), needed)
        ]
        for tile, block, cols in self.tiles():
            if not (needed[0] or needed[3] or needed[block]):
                continue
            s, cell = self.scores(tile, block, cols)
            self.score_gradient(s, cell, rows.part(tile.rows), columns.part(cols) if columns and block == 1 else NONE)
            if grads[3] is not None:
                grads[3] += s.sum()
            if self.job.precision == "bfloat16":
                s = self.scratch("rounded", tile.shape, torch.bfloat16).copy_(s)
            self.add_product(grads[0], tile.rows, s, self.factors[block][cols])
            self.add_product(grads[block], cols, s.T, self.factors[0][tile.rows])
        return grads[0], grads[1], grads[2], grads[3]

    def add_product(self, grad: Tensor | None, where: slice, g: Tensor, factor: Tensor) -> None:
        if grad is None:
            return
        if self.job.precision == "full":
            grad[where].addmm_(g, factor)
        else:
            grad[where] += self.product(g, factor, "gradient")

    def score_gradient(self, s: Tensor, cell: Cell, rows: Coefficients, columns: Coefficients) -> None:
        """Turn a tile of scores into the gradient of the loss with respect to them, in place."""
        if self.job.asked.form == "sigmoid":
            self.sigmoid_weights(s.sigmoid_(), cell)
            s.mul_(self.outer(rows.over, None, _pair(s)))
        elif self.shift is None:
            self.online_gradient(s, cell, rows, columns)
        else:
            self.shifted_gradient(s, cell, rows, columns)
        if self.job.asked.dot and cell.targets is not None:
            s.addcmul_(cell.targets, self.outer(rows.dot, columns.dot, _pair(s)))

    def shifted_gradient(self, s: Tensor, cell: Cell, rows: Coefficients, columns: Coefficients) -> None:
        """``exp(S + W - shift) (u_i + v_j)``, for both directions at once, and the same over the positives."""
        self.exponentiate(s, cell)
        only = None
        if cell.positives is not None and self.job.asked.positives:
            only = torch.mul(s, cell.positives, out=self.scratch("product", _pair(s), s.dtype))
            only.mul_(self.outer(rows.positives, columns.positives, _pair(s)))
        if cell.positives is not None and self.job.asked.negatives:
            s.masked_fill_(cell.positives, 0)
        s.mul_(self.outer(rows.over, columns.over, _pair(s)))
        if only is not None:
            s.add_(only)

    def online_gradient(self, s: Tensor, cell: Cell, rows: Coefficients, columns: Coefficients) -> None:
        """The same from ``exp(S + W - logsumexp)`` of each row and of each column: an exponential for each."""
        self.exponentiate(s, cell)
        parts = [(s, rows.over, rows.over_lse, 1), (s, columns.over, columns.over_lse, 0)]
        if cell.positives is not None and self.job.asked.negatives:
            over = s.masked_fill(cell.positives, -torch.inf)
            parts = [(over, *part[1:]) for part in parts]
        if cell.positives is not None and self.job.asked.positives:
            only = s.masked_fill(~cell.positives, -torch.inf)
            parts += [(only, p.positives, p.positives_lse, dim) for p, dim in ((rows, 1), (columns, 0))]
        g = torch.zeros_like(s)
        for x, grad, lse, dim in parts:
            if grad is not None and lse is not None:
                g += (x - _no_nothing(lse).unsqueeze(dim)).exp_().mul_(grad.unsqueeze(dim))
        s.copy_(g)

    def outer(self, u: Tensor | None, v: Tensor | None, shape: tuple[int, int]) -> Tensor:
        """``u_i + v_j``, where None is 0; broadcast where one is."""
        if u is not None and v is not None:
            return torch.add(u[:, None], v[None, :], out=self.scratch("coefficients", shape, self.q.dtype))
        if u is not None:
            return u[:, None]
        return self.q.new_zeros(()) if v is None else v[None, :]


NONE = Coefficients()


def _pair(s: Tensor) -> tuple[int, int]:
    return s.shape[0], s.shape[1]
