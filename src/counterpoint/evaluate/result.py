"""What an evaluation found: figures with intervals, beside baselines measured on the same examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from counterpoint.evaluate.intervals import Interval, Sample, difference, percentiles


@dataclass(frozen=True)
class Comparison:
    """A baseline's figure, and the model's figure minus the baseline's, paired.

    value: of the baseline. difference: positive where the model's figure is higher.
    """

    value: Interval
    difference: Interval


@dataclass(frozen=True)
class Figure:
    """One metric of the model (higher is better, but for errors), and of each baseline that has it.

    metric: its name. value: the model's. baselines: by name.
    """

    metric: str
    value: Interval
    baselines: dict[str, Comparison]


@dataclass(frozen=True)
class Below:
    """A baseline that does better than the model, each by the best of the metrics that decide.

    metric, value: the baseline's. model_metric, model: the model's. difference: the model's less the baseline's, paired
    on the same examples.
    """

    baseline: str
    metric: str
    value: float
    model_metric: str
    model: float
    difference: Interval

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0

    def __str__(self) -> str:
        if math.isnan(self.model):
            return f"{self.baseline}: {self.metric} {self.value:.3f}, the model's is not defined"
        other = "" if self.model_metric == self.metric else f" ({self.model_metric})"
        chance = "" if self.clear else ", which may be chance"
        said = f"{self.baseline}: {self.metric} {self.value:.3f}, the model {self.model:.3f}{other}"
        return f"{said}, difference {self.difference.text('+')}{chance}"

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "baseline": self.baseline,
            "metric": self.metric,
            "value": self.value,
            "model_metric": self.model_metric,
            "model": _number(self.model),
            "difference": _plain(self.difference),
        }


@dataclass(frozen=True)
class Evaluation:
    """task: retrieval, similarity, ... figures: in order. counts: examples by name. geometry: the shape of the
    embeddings. notes: sentences about what was left out or chosen. seconds: wall time. below: the baselines that do
    better than the model, the best first."""

    task: str
    figures: tuple[Figure, ...]
    counts: dict[str, int]
    geometry: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    below: tuple[Below, ...] = ()

    @property
    def verdict(self) -> str:
        """The sentence to begin with where a baseline does better than the model; empty where none does."""
        if not self.below:
            return ""
        many = f"{len(self.below)} baselines" if len(self.below) > 1 else "a baseline"
        return f"The model is below {many}. {'; '.join(map(str, self.below))}."

    def __getitem__(self, metric: str) -> Figure:
        for figure in self.figures:
            if figure.metric == metric:
                return figure
        raise KeyError(f"{metric!r}; this evaluation has {', '.join(f.metric for f in self.figures)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; a figure that is not defined is None."""
        return {
            "task": self.task,
            "figures": [
                {
                    "metric": f.metric,
                    **_plain(f.value),
                    "baselines": {
                        name: {**_plain(c.value), "difference": _plain(c.difference)} for name, c in f.baselines.items()
                    },
                }
                for f in self.figures
            ],
            "counts": self.counts,
            "geometry": {name: _number(x) for name, x in self.geometry.items()},
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
            "verdict": self.verdict,
            "below": [b.to_json() for b in self.below],
        }

    def table(self, *, name: str = "model") -> Table:
        """Figures as a table for the terminal: of each metric a line for each system. A difference whose interval
        excludes 0 is bold."""
        counts = ", ".join(f"{n:,} {what}" for what, n in self.counts.items())
        out = Table(title=self.task, caption=f"{counts}; 95 % intervals over these, differences paired")
        out.add_column("metric, system")
        out.add_column("value", justify="right", no_wrap=True)
        out.add_column("model − system", justify="right", no_wrap=True)
        for figure in self.figures:
            out.add_row(Text(figure.metric, style="bold"), "", "")
            out.add_row(Text(name), Text(str(figure.value), style="bold"), "")
            for baseline, held in figure.baselines.items():
                out.add_row(baseline, Text(str(held.value)), _difference(held.difference))
            out.add_section()
        return out


def compare(
    model: Mapping[str, Sample],
    baselines: Mapping[str, Mapping[str, Sample]],
    *,
    draws: int = 1_000,
    seed: int = 0,
) -> tuple[Figure, ...]:
    """Every metric of the model with its interval, beside each baseline that has the metric too.

    model: metric -> sample. baselines: name -> the same. draws: resamples of the intervals. seed: of these.

    >>> from counterpoint.evaluate.intervals import mean
    >>> import numpy as np
    >>> model, chance = mean(np.array([1.0, 1.0, 0.0, 1.0])), mean(np.array([0.0, 1.0, 0.0, 0.0]))
    >>> [figure] = compare({"accuracy": model}, {"chance": {"accuracy": chance}}, draws=50)
    >>> figure.metric, figure.value.value, figure.baselines["chance"].difference.value
    ('accuracy', 0.75, 0.5)
    """
    figures = []
    for metric, sample in model.items():
        # Each system is resampled once; the same seed gives all the same resamples, so differences are paired.
        drawn = sample.replicates(draws=draws, seed=seed)
        beside = {}
        for name, samples in baselines.items():
            if metric in samples:
                theirs = samples[metric]
                theirs_drawn = theirs.replicates(draws=draws, seed=seed)
                apart = percentiles(sample.value - theirs.value, drawn - theirs_drawn)
                beside[name] = Comparison(theirs.around(theirs_drawn), apart)
        figures.append(Figure(metric, sample.around(drawn), beside))
    return tuple(figures)


def fallen_below(
    model: Mapping[str, Sample],
    baselines: Mapping[str, Mapping[str, Sample]],
    deciding: Sequence[Sequence[str]],
    *,
    lower: bool = False,
    draws: int = 1_000,
    seed: int = 0,
) -> tuple[Below, ...]:
    """The baselines that do better than the model, those with the largest distance first.

    deciding: groups of metrics of the same examples. In each group the best of the model's stands against the best of
    the baseline's: an embedding that is good for neighbours is not below a linear model for being bad at that. lower:
    less is better. A metric that is not defined for the model (a correlation of constants) is below any that is. model,
    baselines, draws, seed: as of `compare`.

    >>> from counterpoint.evaluate.intervals import mean
    >>> import numpy as np
    >>> model, other = {"accuracy": mean(np.array([0.0, 1.0]))}, {"accuracy": mean(np.array([1.0, 1.0]))}
    >>> [(b.baseline, b.value) for b in fallen_below(model, {"bm25": other}, [["accuracy"]], draws=50)]
    [('bm25', 1.0)]
    """
    found = []
    for group in deciding:
        if not (own := _best(model, group, lower)):
            continue
        for name, samples in baselines.items():
            theirs = _best(samples, (own[0], *group), lower)  # of equally good ones the model's
            if theirs is None or math.isnan(theirs[1].value):
                continue
            a, b = own[1], theirs[1]
            if math.isnan(a.value) or (a.value > b.value if lower else a.value < b.value):
                apart = difference(a, b, draws=draws, seed=seed)
                found.append(Below(name, theirs[0], b.value, own[0], a.value, apart))
    return tuple(sorted(found, key=lambda one: -abs(one.difference.value)))


def _best(samples: Mapping[str, Sample], metrics: Sequence[str], lower: bool) -> tuple[str, Sample] | None:
    """The metric of the group that is best, and its sample; None where there is none of them."""
    there = [(metric, samples[metric]) for metric in metrics if metric in samples]
    defined = [one for one in there if not math.isnan(one[1].value)]
    return (min if lower else max)(defined, key=lambda one: one[1].value) if defined else next(iter(there), None)


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _plain(x: Interval) -> dict[str, Any]:
    return {"value": _number(x.value), "ci95": [_number(x.low), _number(x.high)]}


def _difference(x: Interval) -> Text:
    return Text(x.text("+"), style="bold" if x.low > 0 or x.high < 0 else "")
