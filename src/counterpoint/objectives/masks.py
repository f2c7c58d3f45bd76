"""Rules that take pairs out of the pair matrix. Most spare the positives: they take out false negatives only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from counterpoint.errors import DataError
from counterpoint.kernels.facts import Above, Drop, Equal
from counterpoint.kernels.tile import Region, Tile
from counterpoint.objectives.rules import Block, Mask


@dataclass(frozen=True)
class NotSelf(Mask):
    """An anchor is not its own candidate: pairs (i, i) are taken out, positive or not.

    ids ``(N,)`` and candidates ``(M,)`` or ``(M + K,)``: what the anchors and candidates are, where the row number is
    not it (the same item in a queue). offset: anchor i is candidate ``i + offset``.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Labels
    >>> z, y = torch.eye(4), torch.tensor([0, 0, 1, 1])
    >>> round(float(contrast(z, z, Labels(y) & NotSelf())), 4)  # three others, of which one is the positive: log 3
    1.0986
    """

    ids: Tensor | None = None
    candidates: Tensor | None = None
    offset: int = 0
    spare = False
    per_column = ("candidates",)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        if self.ids is not None:
            self.expect("ids", len(self.ids), n)
            self.expect("candidates", len(_or(self.candidates, self.ids)), m, m + extra)

    def explicit(self) -> NotSelf:
        return self if self.ids is None else replace(self, candidates=_or(self.candidates, self.ids))

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> NotSelf:
        return replace(self, offset=self.offset + block.first, **columns)

    def drops(self, region: Region) -> Tensor | None:
        return region.diagonal(self.offset) if self.ids is None else _same(region, self.ids, self.candidates)

    def fact(self, n: int, m: int) -> Drop | None:
        own = Drop(numbers(n, m, self.offset), spare=False)
        return own if self.ids is None else _drop(self.ids, self.candidates, False)


@dataclass(frozen=True)
class OnlyOwn(Mask):
    """Candidate i is compared with anchor i alone: all other negatives are extra ones (a queue, a bank).

    offset: candidate i + offset is the one that stands for anchor i.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z, queue = torch.eye(4)[:2], torch.eye(4)[2:]
    >>> loss = contrast(z, z, Diagonal() & OnlyOwn(), scale=5, extra=queue)  # MoCo: negatives are the queue's alone
    >>> round(loss.item(), 4)
    0.0134
    """

    offset: int = 0

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> OnlyOwn:
        return replace(self, offset=self.offset + block.first)

    def drops(self, region: Region) -> Tensor | None:
        if region.extra:
            return None
        own = region.diagonal(self.offset)
        if own is None:
            return torch.ones(region.shape, dtype=torch.bool, device=region.device)
        return ~own

    def empty(self, tile: Tile) -> bool:
        return not tile.extra and tile.diagonal(self.offset) is None

    def fact(self, n: int, m: int) -> Drop:
        return Drop(numbers(n, m, self.offset), otherwise=True)


@dataclass(frozen=True)
class NotSame(Mask):
    """Pairs of one group (source, speaker, document, duplicate text) are no negatives.

    groups ``(N,)``, candidates ``(M,)`` or ``(M + K,)`` (None: as groups). spare: whether positives stay.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(2)[[0, 0, 1]]  # rows 0 and 1 are one text
    >>> masked = contrast(z, z, Diagonal() & NotSame(torch.tensor([0, 0, 1])), scale=10)
    >>> round(masked.item(), 3), round(contrast(z, z, Diagonal(), scale=10).item(), 3)
    (0.0, 0.462)
    """

    groups: Tensor
    candidates: Tensor | None = None
    spare: bool = True
    per_column = ("candidates",)

    def explicit(self) -> NotSame:
        return replace(self, candidates=_or(self.candidates, self.groups))

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("groups", len(self.groups), n)
        self.expect("candidates", len(_or(self.candidates, self.groups)), m, m + extra)

    def drops(self, region: Region) -> Tensor | None:
        return _same(region, self.groups, self.candidates)

    def fact(self, n: int, m: int) -> Drop | None:
        return _drop(self.groups, self.candidates, self.spare)


@dataclass(frozen=True)
class OnlySame(NotSame):
    """Only pairs of one group (language, task, domain) are compared; the opposite of `NotSame`.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(2)[[0, 1, 0, 1]]
    >>> language = torch.tensor([0, 0, 1, 1])
    >>> bool(contrast(z, z, Diagonal() & OnlySame(language), scale=10) < 0.001)
    True
    """

    def drops(self, region: Region) -> Tensor | None:
        same = _same(region, self.groups, self.candidates)
        return None if same is None else same.logical_not_()

    def fact(self, n: int, m: int) -> Drop | None:
        return _drop(self.groups, self.candidates, self.spare, otherwise=True)


@dataclass(frozen=True)
class NotNear(Mask):
    """Neighbours in time are no negatives: ``|t_i - t_j| < radius``; times ``(N,)`` seconds, or any unit.

    groups: near only within one group (recording), ``(N,)`` of anchors and ``(M,)`` or ``(M + K,)`` of candidates.
    candidates: their times, ``(M,)`` or ``(M + K,)`` (None: as times). candidate_groups: their groups (None: as
    groups).

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(2)[[0, 0, 1]]
    >>> seconds = torch.tensor([0.0, 0.5, 60.0])
    >>> bool(contrast(z, z, Diagonal() & NotNear(seconds, radius=1.0), scale=10) < 0.001)
    True
    """

    times: Tensor
    radius: float
    candidates: Tensor | None = None
    groups: Tensor | None = None
    candidate_groups: Tensor | None = None
    spare: bool = True
    per_column = ("candidates", "candidate_groups")

    def explicit(self) -> NotNear:
        groups = None if self.groups is None else _or(self.candidate_groups, self.groups)
        return replace(self, candidates=_or(self.candidates, self.times), candidate_groups=groups)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("times", len(self.times), n)
        self.expect("candidates", len(_or(self.candidates, self.times)), m, m + extra)
        if self.groups is not None:
            self.expect("groups", len(self.groups), n)
            self.expect("candidate_groups", len(_or(self.candidate_groups, self.groups)), m, m + extra)

    def drops(self, region: Region) -> Tensor | None:
        candidates = _or(self.candidates, self.times)
        if not region.knows(len(candidates)):
            return None
        near = (region.left(self.times) - region.right(candidates)).abs() < self.radius
        if self.groups is not None:
            same = _same(region, self.groups, self.candidate_groups)
            near = near if same is None else near & same
        return near


@dataclass(frozen=True)
class FalseNegatives(Mask):
    """Negatives that a guide finds as similar to the anchor as its positive are none (GISTEmbed: arXiv 2402.16829).

    Candidate j is taken out for row i where ``g_ij > g_i+ - margin`` (absolute) or ``g_ij > g_i+ - margin |g_i+|``
    (relative), with g the dot products of the guide's embeddings. guide ``(N, E)``, candidates ``(M, E)`` or
    ``(M + K, E)`` (None: as guide). positives ``(N,)``: the candidate that is row i's positive (None: candidate i).
    threshold ``(N,)``: the similarity above which a candidate is taken out (None: from the positives, as above).

    kind: absolute or relative.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(3)
    >>> guide = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # says that 0 and 1 are alike
    >>> mask = FalseNegatives(guide, margin=0.1)
    >>> bool(contrast(z, z, Diagonal() & mask, scale=5) < contrast(z, z, Diagonal(), scale=5))
    True
    """

    guide: Tensor
    candidates: Tensor | None = None
    margin: float = 0.0
    kind: Literal["absolute", "relative"] = "absolute"
    positives: Tensor | None = None
    threshold: Tensor | None = None
    per_column = ("candidates",)

    def explicit(self) -> FalseNegatives:
        return replace(self, candidates=_or(self.candidates, self.guide), threshold=self.limits)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        candidates = _or(self.candidates, self.guide)
        self.expect("guide", len(self.guide), n)
        self.expect("candidates", len(candidates), m, m + extra)
        if self.guide.shape[1] != candidates.shape[1]:
            raise DataError(
                f"FalseNegatives: the guide gives anchors {self.guide.shape[1]} dimensions and candidates "
                f"{candidates.shape[1]}. Embed both with the same guide."
            )
        if self.threshold is not None:
            self.expect("threshold", len(self.threshold), n)
        elif self.positives is None:
            if n > m:
                raise DataError(
                    f"FalseNegatives: {n} anchors and {m} candidates; give positives=, the candidate of each."
                )
        else:
            self.expect("positives", len(self.positives), n)

    @cached_property
    def limits(self) -> Tensor:
        """``(N,)``: similarity above which a candidate is taken out."""
        if self.threshold is not None:
            return self.threshold
        candidates = _or(self.candidates, self.guide)
        own = candidates[: len(self.guide)] if self.positives is None else candidates[self.positives]
        similarity = (self.guide * own).sum(1)
        return similarity - self.margin * (1 if self.kind == "absolute" else similarity.abs())

    def drops(self, region: Region) -> Tensor | None:
        candidates = _or(self.candidates, self.guide)
        if not region.knows(len(candidates)):
            return None
        return region.products(self.guide, candidates, "guide") > region.left(self.limits)

    def fact(self, n: int, m: int) -> Drop:
        return Drop(Above(self.guide, _or(self.candidates, self.guide), self.limits))


def numbers(n: int, m: int, offset: int) -> Equal:
    """That candidate j is ``i + offset``.

    n, m: numbers of anchors and of candidates.
    """
    return Equal(torch.arange(offset, n + offset), torch.arange(m))


def _drop(rows: Tensor, candidates: Tensor | None, spare: bool, *, otherwise: bool = False) -> Drop | None:
    if rows.is_floating_point():
        return None
    return Drop(Equal(rows, _or(candidates, rows)), spare, otherwise)


def _or(given: Tensor | None, otherwise: Tensor) -> Tensor:
    return otherwise if given is None else given


def _same(region: Region, rows: Tensor, candidates: Tensor | None) -> Tensor | None:
    columns = _or(candidates, rows)
    return region.left(rows) == region.right(columns) if region.knows(len(columns)) else None
