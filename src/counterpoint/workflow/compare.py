"""`compare`: several methods on the same rows, under the same budget, in one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from counterpoint.data import objects
from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.intervals import Interval, over_runs
from counterpoint.methods.base import find
from counterpoint.terminal import sentences
from counterpoint.train.loop import Trainer
from counterpoint.workflow.batching import fitting, make_loader
from counterpoint.workflow.choose import check
from counterpoint.workflow.gather import Given, gather
from counterpoint.workflow.measure import measure
from counterpoint.workflow.plan import Plan, make_plan
from counterpoint.workflow.run_folder import Asked

Say = Callable[[Any], None]
TRIAL = 12
"""Steps that a step is timed with; the first third, in which everything warms up, does not count."""


@dataclass(frozen=True)
class Trained:
    """One method with one seed. figures: by metric, with their interval over the rows measured on."""

    method: str
    seed: int
    steps: int
    seconds: float
    figures: dict[str, Interval]


def compare(
    methods: Sequence[str],
    *,
    data: Source,
    minutes: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    seeds: int = 3,
    columns: Mapping[str, str | list[str]] | None = None,
    test: Source = (),
    size: str = "small",
    split: str | None = None,
    reading: Said = None,
    say: Say | None = None,
) -> list[Trained]:
    """Train each method with each seed under the same budget, measure all on the same held-out rows, print one table.

    minutes: of training, turned into steps by timing a few; or steps. batch: the same for all (None: the smallest
    among the recipes). seeds: how often each is trained, with 0, 1, …. data, columns, test, size, split, reading, say:
    as of `fit`.

    Raises `ConfigError` for fewer than two methods, for no or two budgets, and for a method that needs other rows;
    `DataError` where no rows are left to measure on.
    """
    say = say or sentences().print
    _check(methods, minutes=minutes, steps=steps, seeds=seeds)
    for name in methods:
        find(name)  # before anything is read
    if objects.is_nothing(data):
        raise DataError("Say what to learn from: --data FILE, or the name of a registered set (`counterpoint data`).")
    given = gather(data, columns=columns or {}, test=test, split=split, streaming=False, reading=reading)
    for name in methods:
        check(find(name), given.schema)
    if not given.held:
        raise DataError(" ".join([*given.log.lines(), "There is nothing to compare the methods on."]))
    batch = batch or min(fitting(find(m).recipe(size).train, given.rows, given.log).batch for m in methods)
    for sentence in given.log.lines():
        say(sentence)

    def plan(name: str, seed: int, steps: int) -> Plan:
        train = {"batch": batch, "steps": steps, "seed": seed, "progress": False, "eval_every": 0, "metric": ""}
        return make_plan(Asked(data=[], method=name, size=size, train=train), given, None, begun=False)

    budget = dict.fromkeys(methods, steps or 0)
    if minutes is not None:
        budget = {name: max(1, int(60 * minutes / seconds_per_step(plan(name, 0, TRIAL), given))) for name in methods}
    say(f"Every method: batches of {batch:,} rows, {seeds} seed{'s' * (seeds > 1)}; steps: {_listed(budget)}.")
    found = []
    for seed in range(seeds):
        for name in methods:
            made = train(plan(name, seed, budget[name]), given, seed)
            found.append(made)
            say(f"{name}, seed {seed}: {made.steps:,} steps in {made.seconds:.1f} s")
    say(table(found))
    return found


def seconds_per_step(plan: Plan, given: Given) -> float:
    """Measured on the first steps of a run that is thrown away."""
    marks: list[float] = []

    def mark(_: Any) -> dict[str, float]:
        marks.append(time.perf_counter())
        return {}

    config = replace(plan.train, eval_every=1)
    Trainer(plan.learner, make_loader(given, config, plan.learner), config, evaluate=mark).fit()
    first = len(marks) // 3
    return (marks[-1] - marks[first]) / (len(marks) - 1 - first)


def train(plan: Plan, given: Given, seed: int) -> Trained:
    """Train and measure. Raises `KeyboardInterrupt` where the training was interrupted."""
    result = Trainer(plan.learner, make_loader(given, plan.train, plan.learner), plan.train).fit()
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    figures = {f.metric: f.value for f in measure(plan.learner.towers(), given, beside=False).figures}
    return Trained(plan.name, seed, result.steps, result.seconds, figures)


def table(found: Sequence[Trained]) -> Table:
    """Metric by metric, every method's mean, and its difference from the first method."""
    methods = list(dict.fromkeys(t.method for t in found))
    runs = {name: sorted((t for t in found if t.method == name), key=lambda t: t.seed) for name in methods}
    seeds = len(runs[methods[0]])
    over = f"{seeds} seeds, intervals by Student's t" if seeds > 1 else "one seed; intervals over the rows measured on"
    out = Table(title="The same rows, the same budget", caption=f"95 % intervals. {over}")
    for name in ("metric", "method", "value", f"minus {methods[0]}"):
        out.add_column(name, justify="left" if name in ("metric", "method") else "right")
    for metric in runs[methods[0]][0].figures:
        for i, name in enumerate(methods):
            values = [t.figures[metric].value for t in runs[name]]
            held = over_runs(values) if seeds > 1 else runs[name][0].figures[metric]
            apart = ""
            if i and seeds > 1:
                first = [t.figures[metric].value for t in runs[methods[0]]]
                apart = over_runs([a - b for a, b in zip(values, first, strict=True)]).text("+")
            elif i:
                apart = f"{held.value - runs[methods[0]][0].figures[metric].value:+.3f}"
            out.add_row("" if i else metric, name, str(held), apart)
        out.add_section()
    return out


def _listed(budget: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {steps:,}" for name, steps in budget.items())


def _check(methods: Sequence[str], *, minutes: float | None, steps: int | None, seeds: int) -> None:
    if len(set(methods)) < 2 or len(set(methods)) < len(methods):
        raise ConfigError("Name two or more different methods. For instance: counterpoint compare simcse contriever")
    if (minutes is None) == (steps is None):
        raise ConfigError("Give one budget: --minutes M or --steps N, the same for every method.")
    if (minutes is not None and not minutes > 0) or (steps is not None and steps < 1) or seeds < 1:
        raise ConfigError("The budget and the seeds must be more than 0, for instance: --steps 500 --seeds 3")
