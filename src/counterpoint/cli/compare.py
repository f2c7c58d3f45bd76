"""`counterpoint compare`: several methods on the same rows under the same budget."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from counterpoint.cli.options import AS_FOUND, Name, Pairs, Read, Sources
from counterpoint.cli.options import columns as column_parts

Methods = Annotated[Positional[tuple[str, ...]], arg(metavar="METHOD...", help_behavior_hint="")]
Maybe = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]


def compare(
    methods: Methods = (),
    /,
    *,
    data: Sources = (),
    minutes: Annotated[float | None, arg(metavar="M", help_behavior_hint="")] = None,
    steps: Maybe = None,
    batch: Maybe = None,
    seeds: int = 3,
    columns: Pairs = (),
    test: Sources = (),
    size: Literal["small", "published", "smoke"] = "small",
    split: Name = None,
    files: Read = AS_FOUND,
) -> None:
    """Train several methods on the same rows with the same number of steps or minutes, and print their figures.

    The rows that are measured on, the batch and the seeds are the same for all; the rest is each method's recipe. With
    several seeds, intervals are over the seeds, and differences from the first method are paired; with one seed,
    intervals are over the rows measured on.

    Example: counterpoint compare simcse contriever --data sentences.jsonl --steps 20 --seeds 2

    Args:
        methods: two or more (`counterpoint methods` lists them and what they need).
        data: what they learn from; see `counterpoint fit`.
        minutes: time for the training of each method with each seed.
        steps: or the optimiser steps of each.
        batch: rows per step (none: the smallest among their recipes).
        seeds: how often each is trained.
        columns: which column plays which part, e.g. anchor=question,positive=answer (none: names and types decide).
            With range=0..5, scores outside of it are refused.
        test: rows to measure on (none: a part of the data is held out).
        size: which recipe of the methods: small (a laptop), published (the paper's) or smoke (a trial).
        split: which split of the data (none: train where there are several).
        files: how files are read, where that is not found by looking at them.
    """
    from counterpoint.workflow.compare import compare as run

    run(
        methods,
        data=data,
        minutes=minutes,
        steps=steps,
        batch=batch,
        seeds=seeds,
        columns=column_parts(columns),
        test=test,
        size=size,
        split=split,
        reading=files.reading(),
    )
