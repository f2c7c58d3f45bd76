"""How sure a figure is: intervals of a metric and of a difference on the same examples, a paired test, and intervals
over repeated runs.

Every interval holds its estimate. A mean is resampled with replacement. Other statistics look at examples together (how
two partitions agree, where a threshold lies), and an example that comes twice agrees with itself: on resamples with
replacement clustering scores of random partitions lie far above their value on the examples. Of these, halves of the
examples are drawn without replacement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as students_t

from counterpoint.errors import DataError

Statistic = Callable[..., float]

FEWEST = 4
"""Examples below which a statistic that looks at several of them has no interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the bounds of its confidence interval (95 % unless asked otherwise), which are NaN where there are
    too few examples for one.

    low, high: the bounds.

    >>> print(Interval(0.5, 0.4, 0.6))
    0.500 [0.400, 0.600]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.text()

    def text(self, sign: str = "") -> str:
        """``0.500 [0.400, 0.600]``, or the value alone where there are no bounds. sign: ``+`` shows a plus too."""
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:{sign}.3f}"
        return f"{self.value:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


@dataclass(frozen=True, eq=False)
class Sample:
    """A metric of one system on n examples: ``statistic(*arrays)``, every array having n entries on its first axis.

    statistic None: the mean of the one array (a metric that every example has by itself, such as nDCG of a query).
    within: the values that the metric can have; intervals end there. Two systems measured on the same examples in the
    same order can be compared in pairs.

    >>> accuracy = Sample((np.array([1.0, 1.0, 0.0, 1.0]),))
    >>> accuracy.value, accuracy.replicates(draws=10).shape
    (0.75, (10,))
    """

    arrays: tuple[np.ndarray, ...]
    statistic: Statistic | None = None
    within: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        sizes = [len(a) for a in self.arrays]
        if not sizes or min(sizes) != max(sizes) or sizes[0] == 0:
            raise DataError(f"A metric needs examples, one in each array; the arrays hold {sizes}.")

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def value(self) -> float:
        """The figure of all examples."""
        return float(self.arrays[0].mean()) if self.statistic is None else float(self.statistic(*self.arrays))

    def replicates(self, *, draws: int = 2_000, seed: int = 0) -> np.ndarray:
        """The metric as it might have been on other examples, ``(draws,)``; NaN where there are too few to say.

        A mean: on resamples with replacement (Efron, 1979). Another statistic: on halves of the examples without
        replacement, whose deviations from their mean, times ``sqrt(m / (n - m))`` for m of n, are put around the value
        (Politis & Romano, 1994, with the correction for a finite population). They have about the spread of the value
        and none of the bias of small samples, so a clustering score is compared with that of *as many* other examples.

        The draws depend on n and the seed alone: two systems get the same ones, so their difference is paired.
        """
        n = len(self)
        if n < (2 if self.statistic is None else FEWEST):
            return np.full(draws, np.nan)
        rng = np.random.default_rng(seed)
        return self._means(draws, rng) if self.statistic is None else self._halves(self.statistic, draws, rng)

    def _means(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        n, out = len(self), np.empty(draws)
        block = max(1, min(draws, 4_000_000 // n))
        for start in range(0, draws, block):
            drawn = rng.integers(0, n, (min(block, draws - start), n))
            out[start : start + len(drawn)] = self.arrays[0][drawn].mean(axis=1)
        return out

    def _halves(self, statistic: Statistic, draws: int, rng: np.random.Generator) -> np.ndarray:
        n, m, out = len(self), len(self) // 2, np.empty(draws)
        for i in range(draws):
            half = rng.permutation(n)[:m]
            out[i] = statistic(*(a[half] for a in self.arrays))
        # A half may lack what the metric needs (one class only): it says nothing.
        known = out[np.isfinite(out)]
        middle = known.mean() if len(known) else np.nan
        moved: np.ndarray = self.value + (m / (n - m)) ** 0.5 * (out - middle)
        return moved

    def around(self, replicates: np.ndarray, level: float = 0.95) -> Interval:
        """The value between the quantiles of its replicates ``(draws,)``; of a share of right ones, `score_interval`:
        where all are right, every resample says 1, which is not how sure that is.

        level: of confidence.
        """
        x = self.arrays[0]
        if self.statistic is None and ((x == 0) | (x == 1)).all():
            return score_interval(float(x.mean()), len(x), level)
        return percentiles(self.value, np.clip(replicates, *self.within), level)


def mean(x: np.ndarray) -> Sample:
    """The mean of a per-example metric ``(n,)``.

    x: a number for each example.

    >>> mean(np.array([1.0, 0.0, 0.5])).value
    0.5
    """
    return Sample((np.asarray(x, dtype=np.float64),))


def interval(sample: Sample, *, draws: int = 2_000, seed: int = 0, level: float = 0.95) -> Interval:
    """The interval of a metric by its `Sample.replicates`.

    sample: of the metric. draws: resamples. seed: of the draws. level: of confidence.

    >>> found = interval(mean(np.array([0.2, 0.4, 0.6, 0.8] * 10)), draws=200)
    >>> found.low < found.value < found.high
    True
    """
    return sample.around(sample.replicates(draws=draws, seed=seed), level)


def score_interval(share: float, n: int, level: float = 0.95) -> Interval:
    """The interval of a share of n examples (Wilson, 1927).

    share: from 0 to 1. level: of confidence.

    >>> print(score_interval(1.0, 10))
    1.000 [0.722, 1.000]
    """
    z = float(norm.ppf((1 + level) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(share, min(share, middle - half), max(share, middle + half))


def difference(a: Sample, b: Sample, *, draws: int = 2_000, seed: int = 0, level: float = 0.95) -> Interval:
    """Paired interval of ``a − b``: both are recomputed on the same draws of the shared examples.

    draws: resamples. seed: of the draws. level: of confidence.

    >>> a = np.random.default_rng(0).random(100)
    >>> found = difference(mean(a + 0.5), mean(a), draws=100)  # paired: the examples' own spread cancels
    >>> round(found.low, 6), round(found.high, 6)
    (0.5, 0.5)
    """
    _paired(a, b)
    kwargs = {"draws": draws, "seed": seed}
    return percentiles(a.value - b.value, a.replicates(**kwargs) - b.replicates(**kwargs), level)


def randomisation(a: np.ndarray, b: np.ndarray, *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of equal means: the share of random swaps within pairs that differ as much (Fisher, 1935).

    a, b: (n,) per-example metrics of two systems. At least 1/(draws + 1), as the observed assignment counts as one.
    draws: random swaps. seed: of the draws.

    >>> a = np.ones(10)
    >>> randomisation(a, a - 1, draws=999) < 0.05, randomisation(a, a, draws=99)
    (True, 1.0)
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

    values: one for each run. level: of confidence.

    >>> print(over_runs([0.71, 0.73, 0.72]))
    0.720 [0.695, 0.745]
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
    """A value between the quantiles of its replicates ``(draws,)`` that enclose the share ``level`` of them, and the
    value; replicates that are not defined (NaN) are left out.

    level: of confidence.

    >>> print(percentiles(0.5, np.linspace(0, 1, 101)))
    0.500 [0.025, 0.975]
    """
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    # Nearly all halves of few examples may score alike, and lie then to one side of the mean they are moved by.
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _paired(a: Sample, b: Sample) -> None:
    if len(a) != len(b):
        raise DataError(f"A paired comparison needs the same examples; the systems have {len(a)} and {len(b)}.")
