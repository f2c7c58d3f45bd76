"""Rules that take pairs out of the pair matrix. Most spare the positives: they take out false negatives only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from counterpoint.errors import DataError
from counterpoint.kernels.tile import Region, Tile
from counterpoint.objectives.rules import Mask


@dataclass(frozen=True)
class NotSelf(Mask):
    """An anchor is not its own candidate: pairs (i, i) are taken out, positive or not.

    ids ``(N,)`` and candidates ``(M,)`` or ``(M + K,)``: what the anchors and candidates are, where the row number is
    not it (the same item in a queue).
    """

    ids: Tensor | None = None
    candidates: Tensor | None = None
    spare = False

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        if self.ids is not None:
            self.expect("ids", len(self.ids), n)
            self.expect("candidates", len(_or(self.candidates, self.ids)), m, m + extra)

    def drops(self, region: Region) -> Tensor | None:
        return region.diagonal() if self.ids is None else _same(region, self.ids, self.candidates)


@dataclass(frozen=True)
class OnlyOwn(Mask):
    """Candidate i is compared with anchor i alone: all other negatives are extra ones (a queue, a bank)."""

    offset: int = 0

    def drops(self, region: Region) -> Tensor | None:
        if region.extra:
            return None
        own = region.diagonal(self.offset)
        if own is None:
            return torch.ones(region.shape, dtype=torch.bool, device=region.device)
        return ~own

    def empty(self, tile: Tile) -> bool:
        return not tile.extra and tile.diagonal(self.offset) is None


@dataclass(frozen=True)
class NotSame(Mask):
    """Pairs of one group (source, speaker, document, duplicate text) are no negatives.

    groups ``(N,)``, candidates ``(M,)`` or ``(M + K,)`` (None: as groups). spare: whether positives stay.
    """

    groups: Tensor
    candidates: Tensor | None = None
    spare: bool = True

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("groups", len(self.groups), n)
        self.expect("candidates", len(_or(self.candidates, self.groups)), m, m + extra)

    def drops(self, region: Region) -> Tensor | None:
        return _same(region, self.groups, self.candidates)


@dataclass(frozen=True)
class OnlySame(NotSame):
    """Only pairs of one group (language, task, domain) are compared; the opposite of `NotSame`."""

    def drops(self, region: Region) -> Tensor | None:
        same = _same(region, self.groups, self.candidates)
        return None if same is None else same.logical_not_()


@dataclass(frozen=True)
class NotNear(Mask):
    """Neighbours in time are no negatives: ``|t_i - t_j| < radius``; times ``(N,)`` seconds, or any unit.

    groups: near only within one group (recording), ``(N,)`` of anchors and ``(M,)`` or ``(M + K,)`` of candidates.
    """

    times: Tensor
    radius: float
    candidates: Tensor | None = None
    groups: Tensor | None = None
    candidate_groups: Tensor | None = None
    spare: bool = True

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
    """

    guide: Tensor
    candidates: Tensor | None = None
    margin: float = 0.0
    kind: Literal["absolute", "relative"] = "absolute"
    positives: Tensor | None = None

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        candidates = _or(self.candidates, self.guide)
        self.expect("guide", len(self.guide), n)
        self.expect("candidates", len(candidates), m, m + extra)
        if self.guide.shape[1] != candidates.shape[1]:
            raise DataError(
                f"FalseNegatives: the guide gives anchors {self.guide.shape[1]} dimensions and candidates "
                f"{candidates.shape[1]}. Embed both with the same guide."
            )
        if self.positives is None:
            if n > m:
                raise DataError(
                    f"FalseNegatives: {n} anchors and {m} candidates; give positives=, the candidate of each."
                )
        else:
            self.expect("positives", len(self.positives), n)

    @cached_property
    def threshold(self) -> Tensor:
        """``(N,)``: similarity above which a candidate is taken out."""
        candidates = _or(self.candidates, self.guide)
        own = candidates[: len(self.guide)] if self.positives is None else candidates[self.positives]
        similarity = (self.guide * own).sum(1)
        return similarity - self.margin * (1 if self.kind == "absolute" else similarity.abs())

    def drops(self, region: Region) -> Tensor | None:
        candidates = _or(self.candidates, self.guide)
        if not region.knows(len(candidates)):
            return None
        return region.products(self.guide, candidates, "guide") > region.left(self.threshold)


def _or(given: Tensor | None, otherwise: Tensor) -> Tensor:
    return otherwise if given is None else given


def _same(region: Region, rows: Tensor, candidates: Tensor | None) -> Tensor | None:
    columns = _or(candidates, rows)
    return region.left(rows) == region.right(columns) if region.knows(len(columns)) else None
