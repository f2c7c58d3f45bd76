"""How sure a figure is: bootstrap intervals of a metric, of a difference on the same examples, a paired test, and
intervals over repeated runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as students_t

from counterpoint.errors import DataError

Statistic = Callable[..., float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the bounds of its confidence interval (95 % unless asked otherwise)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, eq=False)
class Sample:
    """A metric of one system on n examples: ``statistic(*arrays)``, every array having n entries on its first axis.

    statistic None: the mean of the one array (a metric that every example has by itself, such as nDCG of a query).
    Two systems measured on the same examples in the same order can be compared in pairs.
    """

    arrays: tuple[np.ndarray, ...]
    statistic: Statistic | None = None

    def __post_init__(self) -> None:
        sizes = [len(a) for a in self.arrays]
        if not sizes or min(sizes) != max(sizes) or sizes[0] == 0:
            raise DataError(f"A metric needs examples, one in each array; the arrays hold {sizes}.")

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def value(self) -> float:
        return float(self.arrays[0].mean()) if self.statistic is None else float(self.statistic(*self.arrays))

    def replicates(self, *, draws: int = 2_000, seed: int = 0) -> np.ndarray:
        """The metric on ``draws`` resamples of the examples with replacement, ``(draws,)``.

        The resamples depend on n and the seed alone: two systems get the same ones, so their difference is paired.
        """
        n, out = len(self), np.empty(draws)
        rng = np.random.default_rng(seed)
        block = max(1, min(draws, 4_000_000 // n))
        for start in range(0, draws, block):
            drawn = rng.integers(0, n, (min(block, draws - start), n))
            if self.statistic is None:
                out[start : start + len(drawn)] = self.arrays[0][drawn].mean(axis=1)
            else:
                for i, index in enumerate(drawn, start):
                    out[i] = self.statistic(*(a[index] for a in self.arrays))
        return out


def mean(x: np.ndarray) -> Sample:
    """The mean of a per-example metric ``(n,)``."""
    return Sample((np.asarray(x, dtype=np.float64),))


def interval(sample: Sample, *, draws: int = 2_000, seed: int = 0, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval (Efron, 1979) of a metric."""
    return percentiles(sample.value, sample.replicates(draws=draws, seed=seed), level)


def difference(a: Sample, b: Sample, *, draws: int = 2_000, seed: int = 0, level: float = 0.95) -> Interval:
    """Paired bootstrap interval of ``a − b``: both are recomputed on the same resamples of the shared examples."""
    _paired(a, b)
    kwargs = {"draws": draws, "seed": seed}
    return percentiles(a.value - b.value, a.replicates(**kwargs) - b.replicates(**kwargs), level)


def randomisation(a: np.ndarray, b: np.ndarray, *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of equal means: the share of random swaps within pairs that differ as much (Fisher, 1935).

    a, b: (n,) per-example metrics of two systems. At least 1/(draws + 1), as the observed assignment counts as one.
    """
    _paired(mean(a), mean(b))
    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    observed, rng, extreme = abs(d.mean()), np.random.default_rng(seed), 0
    block = max(1, min(draws, 4_000_000 // len(d)))
    for start in range(0, draws, block):
        signs = rng.integers(0, 2, (min(block, draws - start), len(d)), dtype=np.int8) * 2 - 1
        # Sums in another order than the mean's: what differs by rounding only is a tie.
        extreme += int((np.abs(signs @ d) / len(d) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (draws + 1)


def over_runs(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean of a figure over independent runs (seeds), with the interval of Student's t (1908).

    Of two arms with the same seeds, give the differences: the interval is then the paired one. One run has a mean
    without bounds, which are then NaN. Raises `DataError` for no run.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        raise DataError("A mean over runs needs at least one run.")
    value = float(x.mean())
    if len(x) == 1:
        return Interval(value, float("nan"), float("nan"))
    half = float(students_t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)
    return Interval(value, value - half, value + half)


def percentiles(value: float, replicates: np.ndarray, level: float = 0.95) -> Interval:
    """A value between the quantiles of its replicates ``(draws,)`` that enclose the share ``level`` of them."""
    # A resample may lack what the metric needs (one class only): it says nothing and is left out.
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _paired(a: Sample, b: Sample) -> None:
    if len(a) != len(b):
        raise DataError(f"A paired comparison needs the same examples; the systems have {len(a)} and {len(b)}.")
