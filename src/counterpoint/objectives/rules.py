"""The grammar of pairings: one *target* rule and any number of *masks* and *weights*, joined by ``&``.

    Labels(y) & NotSelf() & Hardness(0.5)

A rule keeps small per-row metadata and answers for any region of the pair matrix: a tile, or single pairs. So a pairing
never exists whole. Metadata of candidates has M entries, or M + K where it covers the extra candidates too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from counterpoint.errors import ConfigError, DataError
from counterpoint.kernels.facts import Drop, Facts, Target
from counterpoint.kernels.tile import Asked, Cell, Region, Tile


@dataclass(frozen=True)
class Block:
    """Some columns of the pair matrix of many processes: those of one process, or all of them.

    candidates, extra: how many there are. own: whether this process's columns are here; own_candidates: how many it
    has. first: the place of its first candidate among the candidates of the block (outside of it where the block is
    another process's). first_extra: that of its first extra candidate among the extra ones.
    """

    candidates: int
    extra: int
    own: bool
    own_candidates: int
    first: int
    first_extra: int


class Rule:
    """One word of a pairing. per_column: names of the fields that have an entry per candidate."""

    per_column: ClassVar[tuple[str, ...]] = ()

    def __and__(self, other: Rule) -> Pairing:
        return Pairing((self, other))

    def words(self) -> tuple[Rule, ...]:
        """The rules this one is short for."""
        return (self,)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        """Raise an error where the metadata does not fit N anchors, M candidates and K extra ones.

        n: N. m: M. extra: K. both: whether columns are contrasted too.
        """

    def explicit(self) -> Rule:
        """The same rule with everything written out that depends on its rows and columns being one process's own.

        Collective where there are many processes.
        """
        return self

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> Rule:
        """The same rule for these rows and the columns of a block, of which it knows ``columns`` (by field)."""
        return replace(self, **columns) if columns else self  # type: ignore[type-var]

    def of_candidates(self, m: int) -> Rule:
        """The same rule for the M candidates alone: without what it knows of extra ones.

        m: M.
        """
        known = {name: getattr(self, name)[:m] for name in _known_by(self)}
        return replace(self, **known) if known else self  # type: ignore[type-var]

    def like(self, z: Tensor) -> Rule:
        """The same rule with its floating point metadata in the precision of ``z``."""
        if not is_dataclass(self):
            return self
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in named.items():
            if isinstance(value, Tensor) and value.device != z.device:
                raise DataError(
                    f"{self.name}: {name} is on {value.device}, the embeddings on {z.device}. "
                    f"Type {name}.to({str(z.device)!r})."
                )
        changes: Any = {
            name: value.detach().to(z.dtype)
            for name, value in named.items()
            if isinstance(value, Tensor) and value.is_floating_point()
            if value.dtype != z.dtype or value.requires_grad
        }
        return replace(self, **changes) if changes else self

    @property
    def name(self) -> str:
        """The class's name, as messages and `repr` show it."""
        return type(self).__name__

    def expect(self, what: str, given: int, *allowed: int) -> None:
        """Raise where ``given`` entries are none of the allowed numbers.

        what: the entries in a word, for the message.
        """
        if given not in allowed:
            numbers = " or ".join(str(a) for a in dict.fromkeys(allowed))
            raise DataError(
                f"{self.name}: {what} has {given} entries, expected {numbers}: one per row of what it describes."
            )


class Targets(Rule):
    """Says what each score should be: ``T[i, j] >= 0``. Candidates it knows nothing about have T = 0.

    normalise: divide the loss of a row by ``c_i = sum_j T_ij`` (that of a column by its own sum), so that rows with
    many positives weigh no more than others.
    """

    normalise: bool
    crisp: ClassVar[bool] = True  # no T lies below 0, so that a mask that spares positives changes no T

    def values(self, region: Region, dtype: torch.dtype) -> Tensor | None:
        """T in a region, not to be changed; None: 0 everywhere.

        dtype: of the scores.
        """
        found = self.positives(region)
        return None if found is None else found.to(dtype)

    def positives(self, region: Region) -> Tensor | None:
        """Bool, T > 0, fresh; None: nowhere.

        region: a tile of the pair matrix, or single pairs.
        """
        t = self.values(region, torch.float32)
        return None if t is None else t > 0

    def paired(self) -> int | None:
        """The offset, where T is 1 at pairs (i, i + offset) and 0 elsewhere."""
        return None

    def pull(self, x: Tensor, n: int) -> Tensor | None:
        """``T @ x`` over the first ``len(x)`` candidates, ``(N, E)``, where that needs no tiles; None: it does.

        x: ``(M', E)``. n: N.
        """
        return None

    def push(self, x: Tensor, m: int) -> Tensor | None:
        """``T[:, :M].T @ x``, ``(N, E)`` to ``(M, E)``; as `pull`.

        m: M.
        """
        return None

    def reach(self, m: int, extra: int) -> int:
        """Number of candidates that may have T > 0: M, or M + K.

        m: M. extra: K.
        """
        return m

    def fact(self, n: int, m: int) -> Target | None:
        """T in words of a compiled kernel; None: there are none.

        n, m: numbers of anchors and of candidates.
        """
        return None


class Mask(Rule):
    """Says which pairs do not exist. spare: positives exist all the same."""

    spare: bool = True

    def drops(self, region: Region) -> Tensor | None:
        """Bool, True where the pair is taken out, fresh; None: nowhere.

        region: a tile of the pair matrix, or single pairs.
        """
        raise NotImplementedError

    def empty(self, tile: Tile) -> bool:
        """Whether no pair of the tile is left, not even a positive, so that it is never computed."""
        return False

    def fact(self, n: int, m: int) -> Drop | None:
        """The mask in words of a compiled kernel; None: there are none.

        n, m: numbers of anchors and of candidates.
        """
        return None


class Weight(Rule):
    """Says how much a negative weighs in the denominator: a log-weight ``W[i, j]``; it is 0 at positives.

    unit_mean: divide the weights of a row by their mean over its negatives.
    """

    unit_mean: bool = False

    def log_weights(self, region: Region) -> Tensor | None:
        """W in a region, broadcastable to it; None: 0 everywhere."""
        raise NotImplementedError

    def limit(self, scores: float) -> float:
        """A bound on ``|W|`` where ``|S| <= scores`` and W is not -inf (which is as good as masked)."""
        return math.inf

    def fact(self) -> float | Tensor | None:
        """W in words of a compiled kernel: so many times the score, or as much for each candidate; None: neither."""
        return None


class Adjustment(Rule):
    """Changes how the logsumexps of a row are put together, or the scores of its positives; see `weights`."""


def _known_by(rule: Rule) -> list[str]:
    return [name for name in rule.per_column if getattr(rule, name) is not None]


def spread_out(matrix: Tensor, block: Block) -> Tensor:
    """What is known of this process's anchors and its own columns, among the columns of a block; 0 elsewhere.

    matrix ``(N, M)`` or ``(N, M + K)`` to ``(N, all)``.
    """
    n, width = matrix.shape
    out = matrix.new_zeros(n, (block.candidates + block.extra) if block.own else 0)
    if block.own:
        own = min(width, block.own_candidates)
        out[:, block.first : block.first + own] = matrix[:, :own]
        start = block.candidates + block.first_extra
        out[:, start : start + width - own] = matrix[:, own:]
    return out


R = TypeVar("R", bound=Rule)


class Pairing(Rule):
    """Rules joined by ``&``, in any order; answers the back ends for all of them.

    rules: one target, any number of masks and weights, and at most one of each kind of adjustment; anything else is a
    `ConfigError`.

    >>> from counterpoint.objectives.pairing import Diagonal, Labels, NotSelf
    >>> pairing = Labels(torch.tensor([0, 0, 1])) & NotSelf()
    >>> pairing, pairing.targets.name
    (Labels & NotSelf, 'Labels')
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ConfigError(f"A pairing is made of rules such as Labels(y) & NotSelf(); {rule!r} was given.")
        self.rules = tuple(word for rule in rules for word in rule.words())
        targets = self.of(Targets)
        if len(targets) > 1:
            names = " & ".join(t.name for t in targets)
            raise ConfigError(
                f"A pairing has one target rule, {names} has {len(targets)}. Call contrast once for each."
            )
        adjustments = [type(a) for a in self.of(Adjustment)]
        if len(set(adjustments)) < len(adjustments):
            raise ConfigError("A pairing has at most one rule of each kind of Margin, Decoupled and Debiased.")
        self.masks = self.of(Mask)
        self.weights = self.of(Weight)

    def __repr__(self) -> str:
        return " & ".join(rule.name for rule in self.rules)

    def of(self, kind: type[R]) -> tuple[R, ...]:
        """The rules of a kind (a class), in their order."""
        return tuple(rule for rule in self.rules if isinstance(rule, kind))

    def one(self, kind: type[R]) -> R | None:
        """The only rule of this kind, or None."""
        return next(iter(self.of(kind)), None)

    @property
    def targets(self) -> Targets:
        """The one rule that says what scores should be. Raises `ConfigError` where there is none."""
        found = self.one(Targets)
        if found is None:
            raise ConfigError(
                f"The pairing {self} says nothing of positives. Put a target rule first: Diagonal() & ..."
            )
        return found

    def words(self) -> tuple[Rule, ...]:
        return self.rules

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        for rule in (self.targets, *self.rules):
            rule.check(n, m, extra, both)

    def like(self, z: Tensor) -> Pairing:
        return Pairing([rule.like(z) for rule in self.rules])

    def explicit(self) -> Pairing:
        return Pairing([rule.explicit() for rule in self.rules])

    def of_candidates(self, m: int) -> Pairing:
        return Pairing([rule.of_candidates(m) for rule in self.rules])

    def of_columns(self) -> list[Tensor]:
        """Everything the rules know of the columns, in a fixed order; ``(M, ...)`` or ``(M + K, ...)`` each."""
        return [getattr(rule, name) for rule in self.rules for name in _known_by(rule)]

    def on(self, block: Block, of_columns: Sequence[Tensor]) -> Pairing:
        """The same rules for the columns of a block, of which they know ``of_columns``, in the order of that."""
        known = iter(of_columns)
        return Pairing([rule.within(block, {name: next(known) for name in _known_by(rule)}) for rule in self.rules])

    # --- what the back ends ask --------------------------------------------------------------------------------

    def cell(self, region: Region, asked: Asked, dtype: torch.dtype) -> Cell:
        """What all rules together say of a region; only what is asked is worked out.

        dtype: of the scores.
        """
        margin = self.one(Margin)
        spare = any(mask.spare for mask in self.masks)
        positives = dropped = targets = log_weights = offset = None
        if asked.positives or asked.negatives or asked.counts or self.weights or spare or margin:
            positives = self.targets.positives(region)
        for mask in self.masks:
            d = mask.drops(region)
            if d is not None:
                if mask.spare and positives is not None:
                    d = d & ~positives
                dropped = d if dropped is None else dropped | d
        if positives is not None and dropped is not None:
            positives &= ~dropped
        if asked.dot:
            targets = self.targets.values(region, dtype)
            if targets is not None and dropped is not None:
                targets = targets.masked_fill(dropped, 0)
        for weight in self.weights:
            w = weight.log_weights(region)
            if w is not None:
                log_weights = w if log_weights is None else log_weights + w
        if log_weights is not None and positives is not None:
            log_weights = log_weights.expand(region.shape).masked_fill(positives, 0)
        if margin is not None and positives is not None:
            offset = positives.to(dtype) * margin.of_rows(region)
        return Cell(targets, positives, dropped, log_weights, offset)

    def empty(self, tile: Tile) -> bool:
        """Whether one of the masks leaves no pair of the tile."""
        return any(mask.empty(tile) for mask in self.masks)

    def paired(self) -> int | None:
        """As `Targets.paired`, of its target."""
        return self.targets.paired()

    def limit(self, scores: float) -> float:
        """A bound on what stands in the logsumexp, margin and weights included, where ``|S| <= scores``."""
        margin = self.one(Margin)
        return scores + (margin.largest() if margin else 0.0) + sum(w.limit(scores) for w in self.weights)

    def facts(self, n: int, m: int) -> Facts | None:
        """The whole pairing in words of a compiled kernel; None where a rule has none. n, m: numbers of anchors and of
        candidates."""
        target, drops = self.targets.fact(n, m), [mask.fact(n, m) for mask in self.masks]
        weights, margin = [weight.fact() for weight in self.weights], self.one(Margin)
        known = [drop for drop in drops if drop is not None]
        per_column = [w for w in weights if isinstance(w, Tensor)]
        if target is None or len(known) < len(drops) or None in weights or len(per_column) > 1:
            return None
        return Facts(
            target=target,
            drops=tuple(known),
            margin=None if margin is None else margin.margin,
            beta=sum(w for w in weights if isinstance(w, float)),
            log_weights=per_column[0] if per_column else None,
        )


@dataclass(frozen=True)
class Margin(Adjustment):
    """Positives must win by a margin: ``S_ij - margin`` takes the place of ``S_ij`` at positives.

    margin: a number or ``(N,)`` per row, in units of *scaled* scores: for a margin of m in cosines give ``m * scale``.
    Source: AM-softmax, Wang et al. 2018, arXiv 1801.05599.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(3)
    >>> plain, strict = contrast(z, z, Diagonal(), scale=10), contrast(z, z, Diagonal() & Margin(0.3 * 10), scale=10)
    >>> bool(strict > plain)
    True
    """

    margin: float | Tensor

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        if isinstance(self.margin, Tensor) and self.margin.ndim:
            self.expect("margin", len(self.margin), n)

    def of_rows(self, region: Region) -> float | Tensor:
        """The margin, a number or as it is broadcast over a region."""
        return region.left(self.margin) if isinstance(self.margin, Tensor) and self.margin.ndim else self.margin

    def largest(self) -> float:
        """The largest absolute margin of any row."""
        values = torch.as_tensor(self.margin).abs()
        return float(values.max()) if values.numel() else 0.0
