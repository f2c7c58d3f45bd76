"""What an evaluation found: figures with intervals, beside baselines measured on the same examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from counterpoint.evaluate.intervals import Interval, Sample, percentiles


@dataclass(frozen=True)
class Comparison:
    """A baseline's figure, and the model's figure minus the baseline's, paired."""

    value: Interval
    difference: Interval


@dataclass(frozen=True)
class Figure:
    """One metric of the model (higher is better, but for errors), and of each baseline that has it."""

    metric: str
    value: Interval
    baselines: dict[str, Comparison]


@dataclass(frozen=True)
class Evaluation:
    """task: retrieval, similarity, ... figures: in order. counts: examples by name. geometry: the shape of the
    embeddings. notes: sentences about what was left out or chosen. seconds: wall time."""

    task: str
    figures: tuple[Figure, ...]
    counts: dict[str, int]
    geometry: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

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
        }

    def table(self, *, name: str = "model") -> Table:
        """Figures as a table for the terminal: a line for each metric and system. A difference whose interval excludes
        0 is bold."""
        counts = ", ".join(f"{n:,} {what}" for what, n in self.counts.items())
        out = Table(title=self.task, caption=f"{counts}; 95 % bootstrap intervals, differences paired")
        out.add_column("metric")
        out.add_column("system")
        out.add_column("value", justify="right", no_wrap=True)
        out.add_column("model − system", justify="right", no_wrap=True)
        for figure in self.figures:
            out.add_row(figure.metric, Text(name), Text(str(figure.value), style="bold"), "")
            for baseline, held in figure.baselines.items():
                out.add_row("", baseline, Text(str(held.value)), _difference(held.difference))
            out.add_section()
        return out


def compare(
    model: Mapping[str, Sample],
    baselines: Mapping[str, Mapping[str, Sample]],
    *,
    draws: int = 1_000,
    seed: int = 0,
) -> tuple[Figure, ...]:
    """Every metric of the model with its interval, beside each baseline that has the metric too."""
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
                beside[name] = Comparison(percentiles(theirs.value, theirs_drawn), apart)
        figures.append(Figure(metric, percentiles(sample.value, drawn), beside))
    return tuple(figures)


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _plain(x: Interval) -> dict[str, Any]:
    return {"value": _number(x.value), "ci95": [_number(x.low), _number(x.high)]}


def _difference(x: Interval) -> Text:
    clear = x.low > 0 or x.high < 0
    return Text(f"{x.value:+.3f} [{x.low:+.3f}, {x.high:+.3f}]", style="bold" if clear else "")
