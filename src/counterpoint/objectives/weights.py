"""Rules on denominators: how much each negative weighs, whether positives are in, and corrections of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.kernels.tile import Region
from counterpoint.objectives.rules import Adjustment, Block, Weight, spread_out


@dataclass(frozen=True)
class Hardness(Weight):
    """Harder negatives weigh more: ``W_ij = beta S_ij``, a weight without gradient.

    unit_mean: divide the weights of a row by their mean over its negatives, so that only their proportions matter. With
    ``Debiased(tau)`` and ``unit_mean=True`` this is the loss of Robinson et al. 2021, arXiv 2010.04592, whose weights
    are an importance sampling distribution (held constant here, as a distribution that is sampled from would be).

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> bool(contrast(z, z, Diagonal() & Hardness(0.5), scale=5) > contrast(z, z, Diagonal(), scale=5))
    True
    """

    beta: float
    unit_mean: bool = False

    def log_weights(self, region: Region) -> Tensor | None:
        assert region.scores is not None
        return region.scores * self.beta

    def limit(self, scores: float) -> float:
        return abs(self.beta) * scores

    def fact(self) -> float:
        return float(self.beta)


@dataclass(frozen=True)
class Importance(Weight):
    """A weight per candidate, as a negative: ``W_ij = log weights_j``; weights ``(M,)`` or ``(M + K,)``, >= 0.

    With inverse sampling probabilities this corrects for candidates that are drawn more often than others (Bengio and
    Senecal 2003). A weight of 0 takes the candidate out as a negative; a positive it stays.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(3)
    >>> seldom = Importance(torch.tensor([1.0, 1.0, 0.0]))  # candidate 2 is nobody's negative
    >>> bool(contrast(z, z, Diagonal() & seldom, scale=5) < contrast(z, z, Diagonal(), scale=5))
    True
    """

    weights: Tensor
    unit_mean: bool = False
    per_column = ("weights",)

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("weights", len(self.weights), m, m + extra)
        bad = ~(self.weights.isfinite() & (self.weights >= 0))
        if bad.any():
            j = int(bad.nonzero()[0])
            raise ConfigError(
                f"Importance: weight {j} is {float(self.weights[j])}; weights are finite and not negative."
            )

    def log_weights(self, region: Region) -> Tensor | None:
        return region.right(self.weights).log() if region.knows(len(self.weights)) else None

    def limit(self, scores: float) -> float:
        return float(self.weights[self.weights > 0].log().abs().amax()) if self.weights.any() else 0.0

    def fact(self) -> Tensor:
        return self.weights.log()


@dataclass(frozen=True)
class LogWeights(Weight):
    """Log-weights that exist whole: ``matrix`` ``(N, M)`` or ``(N, M + K)``, finite or -inf (no such negative).

    Over many processes: of each process's anchors and its own candidates; those of the others have W = 0.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(2)
    >>> alone = LogWeights(torch.full((2, 2), -torch.inf))  # no negatives at all
    >>> float(contrast(z, z, Diagonal() & alone, scale=5))
    0.0
    """

    matrix: Tensor
    unit_mean: bool = False

    def check(self, n: int, m: int, extra: int, both: bool) -> None:
        self.expect("matrix (rows)", self.matrix.shape[0], n)
        self.expect("matrix (columns)", self.matrix.shape[1], m, m + extra)
        bad = (self.matrix.isnan() | (self.matrix == float("inf"))).any(1)
        if bad.any():
            raise ConfigError(
                f"LogWeights: row {int(bad.nonzero()[0])} holds NaN or +inf; give finite numbers or -inf."
            )

    def of_candidates(self, m: int) -> LogWeights:
        return replace(self, matrix=self.matrix[:, :m])

    def within(self, block: Block, columns: Mapping[str, Tensor]) -> LogWeights:
        return replace(self, matrix=spread_out(self.matrix, block))

    def log_weights(self, region: Region) -> Tensor | None:
        return region.entries(self.matrix) if region.knows(self.matrix.shape[1]) else None

    def limit(self, scores: float) -> float:
        known = self.matrix[self.matrix > -torch.inf]
        return float(known.abs().max()) if len(known) else 0.0


@dataclass(frozen=True)
class Decoupled(Adjustment):
    """Positives are left out of the denominator (Yeh et al. 2022, arXiv 2110.06848).

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.eye(2)
    >>> float(contrast(z, z, Diagonal() & Decoupled(), scale=5))  # 0 - 5: one negative of score 0
    -5.0
    """


@dataclass(frozen=True)
class Debiased(Adjustment):
    """The denominator corrected for the share of unlabelled negatives that are positives in truth.

    Chuang et al. 2020, arXiv 2007.00224: with n negatives, the mean P of ``exp(S)`` over the positives of a row and the
    (weighted) mean Q of ``exp(S)`` over its negatives,

        denominator_i = sum of exp(S) over positives + n max((Q - prior P) / (1 - prior), exp(floor scale_i)).

    It is not a sum of weighted exponentials (P enters with a minus sign), but it is a function of the two logsumexps of
    a row, over positives and over negatives, which the engine gives: so it is exact and needs no more memory.
    prior: the class prior, in [0, 1). floor: the least cosine there is; it keeps the corrected mean positive.

    >>> from counterpoint.objectives.contrast import contrast
    >>> from counterpoint.objectives.pairing import Diagonal
    >>> z = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> bool(contrast(z, z, Diagonal() & Debiased(prior=0.1), scale=5) < contrast(z, z, Diagonal(), scale=5))
    True
    """

    prior: float
    floor: float = -1.0

    def __post_init__(self) -> None:
        if not 0 <= self.prior < 1:
            raise ConfigError(f"Debiased: prior={self.prior} is the share of one class, in [0, 1). Try 0.1.")
