"""By-products of a pass over the tiles: how well the batch is told apart, at the cost of looking at each tile once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterpoint.kernels.tile import Asked, Cell, Scratch, Sums, Tile, Watcher
from counterpoint.objectives.rules import Pairing
from counterpoint.processes import total


@dataclass
class Stats:
    """Give an empty one to `contrast`; it is filled in. Tensors are ``()`` unless a shape is named, without gradient.

    Positives are pairs with T > 0, negatives all others that are not masked. Extra candidates that every anchor sees
    are among them; those with an owner are not.
    """

    accuracy: Tensor = field(init=False)
    """Share of the rows with a positive whose best positive scores above every negative."""
    rank: Tensor = field(init=False)
    """``(N,)`` long: 1 + the number of negatives that score above the row's best positive; 0: no positive."""
    alignment: Tensor = field(init=False)
    """Mean squared distance of positives, on the unit sphere (Wang and Isola 2020, arXiv 2005.10242); 0 is perfect."""
    uniformity: Tensor = field(init=False)
    """``log mean exp(-2 |a - b|^2)`` over negative pairs, on the unit sphere; lower is more uniform, -4 about best."""
    negatives: Tensor = field(init=False)
    """Effective number of negatives, ``(sum p)^2 / sum p^2`` of their softmax weights p, mean over rows."""
    masked: Tensor = field(init=False)
    """Share of the pairs that a mask took out."""
    without_positive: Tensor = field(init=False)
    """Number of rows without a positive."""

    def watch(self, q: Tensor, best: Tensor) -> Watch:
        """What looks at the tiles, for anchors whose `best_positives` are known.

        q: the anchors, scaled. best: ``(N,)`` of them.
        """
        self._watch = Watch(q.detach(), best)
        return self._watch

    def finish(self, rows: Sums, columns: int) -> None:
        """Readings from what was watched and from the rows' reductions over this many columns.

        Over many processes all but rank are of the rows of all.
        """
        assert rows.n_positives is not None
        assert rows.n_dropped is not None
        watch, n_positives = self._watch, rows.n_positives.detach()
        some = n_positives > 0
        self.rank = (watch.above.long() + 1) * some
        seen = watch.squares > 0
        effective = (2 * watch.weights.log() - watch.squares.log()).exp().masked_fill(~seen, 0)
        n_negatives = columns - n_positives - rows.n_dropped
        sums = [
            (self.rank == 1).sum(), some.sum(), watch.cosines, n_positives.sum(), watch.potential, n_negatives.sum(),
            effective.sum(), seen.sum(), rows.n_dropped.sum(), torch.tensor(len(some) * columns), (~some).sum(),
        ]  # fmt: skip
        first, with_positive, cosines, positives, potential, negatives, effect, saw, dropped, pairs, without = total(
            torch.stack([x.to(watch.above) for x in sums])
        )
        self.accuracy = first / with_positive.clamp_min(1)
        self.alignment = 2 - 2 * cosines / positives.clamp_min(1)
        self.uniformity = (potential / negatives).log() - 4
        self.negatives = effect / saw.clamp_min(1)
        self.masked = dropped / pairs
        self.without_positive = without.long()
        del self._watch


class Watch:
    """What is known of the rows after the tiles seen so far; q is scaled.

    best: ``(N,)`` the best score of a positive.
    """

    def __init__(self, q: Tensor, best: Tensor) -> None:
        self.left, self.best = inverse_norms(q), best
        self.above, self.weights, self.squares, self.largest = (q.new_zeros(len(q)) for _ in range(4))
        self.largest -= torch.inf
        self.cosines, self.potential = q.new_zeros(()), q.new_zeros(())

    def over(self, k: Tensor, extra: Tensor | None) -> Watcher:
        """The watcher of the tiles of these columns.

        k: candidates ``(M, D)``. extra: ``(K, D)`` further ones, or None.
        """
        columns = [x.detach() for x in (k, extra) if x is not None]
        right: list[Tensor] = []

        def watcher(tile: Tile, scores: Tensor, cell: Cell) -> None:
            if not right:
                right.append(torch.cat([inverse_norms(x) for x in columns]))
            self.look(tile, scores, cell, right[0])

        return watcher

    def look(self, tile: Tile, scores: Tensor, cell: Cell, right: Tensor) -> None:
        """Take in a tile. scores: of it. cell: what the pairing says of it. right: ``(M + K,)`` inverse lengths of the
        columns."""
        cosines = scores * tile.left(self.left) * tile.right(right)
        negatives = scores
        if cell.positives is not None:
            self.cosines += cosines.masked_fill(~cell.positives, 0).sum()
        for hidden in (cell.dropped, cell.positives):
            if hidden is not None:
                negatives = negatives.masked_fill(hidden, -torch.inf)
                cosines.masked_fill_(hidden, -torch.inf)
        self.above[tile.rows] += (negatives > self.best[tile.rows, None]).sum(1)
        self.potential += cosines.mul_(4).exp_().sum()  # exp(-2 |a - b|^2) = exp(4 cos - 4)
        old = self.largest[tile.rows]
        new = torch.maximum(old, negatives.amax(1))
        shift = new.masked_fill(new == -torch.inf, 0)
        p = (negatives - shift[:, None]).exp_()
        fade = (old - shift).exp()
        self.weights[tile.rows] = self.weights[tile.rows] * fade + p.sum(1)
        self.squares[tile.rows] = self.squares[tile.rows] * fade.square() + p.square_().sum(1)
        self.largest[tile.rows] = new


def inverse_norms(x: Tensor) -> Tensor:
    """``1 / |x_i|`` of rows x ``(N, D)``, finite for rows of zeros."""
    norms: Tensor = x.norm(dim=1)
    return norms.clamp_min(torch.finfo(x.dtype).tiny).reciprocal()


@torch.no_grad()
def best_positives(plan: Pairing, q: Tensor, k: Tensor, extra: Tensor | None, side: int) -> Tensor:
    """The best score of a positive per row, ``(N,)``; -inf without. Only tiles that hold positives are multiplied.

    plan: the pairing. q: anchors, scaled. k: candidates. extra: further ones, or None. side: of tiles.
    """
    best = q.new_full((len(q),), -torch.inf)
    scratch = Scratch(q.device)
    for r in range(0, len(q), side):
        rows = slice(r, min(r + side, len(q)))
        for start, block in ((0, k), (len(k), extra)):
            for c in range(0, 0 if block is None else len(block), side):
                assert block is not None
                cols = slice(start + c, start + min(c + side, len(block)))
                tile = Tile(rows, cols, len(k), scratch)
                if plan.empty(tile) or plan.targets.positives(tile) is None:
                    continue
                s = torch.mm(q[rows], block[c : c + side].T)
                tile.scores = s
                cell = plan.cell(tile, Asked(dot=False, counts=True), s.dtype)
                if cell.offset is not None:
                    s -= cell.offset
                if cell.positives is not None:
                    s = s.masked_fill(~cell.positives, -torch.inf)
                    best[rows] = torch.maximum(best[rows], s.amax(1))
    return best
