"""What a pairing says, as facts about pairs (i, j) that a compiled kernel evaluates by itself, tile by tile.

A pairing that can be put in these few words is computed inside a kernel; any other answers with whole tiles
(`tile.Rules.cell`). Facts of columns cover the M candidates, or M + K where they know the extra ones too; of a
candidate that is not covered T and the log-weight are 0, and nothing drops it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Equal:
    """``rows_i == columns_j``: whole numbers, ``(N,)`` and ``(M,)`` or ``(M + K,)``."""

    rows: Tensor
    columns: Tensor


@dataclass(frozen=True, slots=True)
class Above:
    """``rows_i . columns_j > threshold_i``: ``(N, E)``, ``(M, E)`` or ``(M + K, E)``, ``(N,)``."""

    rows: Tensor
    columns: Tensor
    threshold: Tensor


@dataclass(frozen=True, slots=True)
class Similar:
    """``t = slope rows_i . columns_j + intercept``, its positive part (clip), or ``exp(t - shift_i)`` (with a shift).

    rows ``(N, E)``, columns ``(M, E)`` or ``(M + K, E)``, shift ``(N,)``.
    """

    rows: Tensor
    columns: Tensor
    slope: float
    intercept: float = 0.0
    clip: bool = False
    shift: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Pairs that do not exist: those where the fact holds, or (``otherwise``) those it knows of and where it does not.

    spare: positives exist all the same.
    """

    where: Equal | Above
    spare: bool = True
    otherwise: bool = False


Target: TypeAlias = Equal | Similar
"""T: 1 where equal, or the similarity. Positives are the pairs with T > 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a pairing says.

    margin: a number or ``(N,)``, subtracted from the scores of positives. The log-weight of a negative is ``beta``
    times its score plus ``log_weights`` of its candidate, ``(M,)`` or ``(M + K,)``, finite or -inf; that of a positive
    is 0.
    """

    target: Target
    drops: tuple[Drop, ...] = ()
    margin: Tensor | float | None = None
    beta: float = 0.0
    log_weights: Tensor | None = None
