"""Figures of a trained encoder on held-out rows, beside baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from counterpoint.data.schema import Row
from counterpoint.data.stream import Stream
from counterpoint.data.windows import Windows
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.errors import CounterpointError, DataError, MissingExtra
from counterpoint.evaluate.evaluate import evaluate
from counterpoint.evaluate.forecast import evaluate_forecasts
from counterpoint.evaluate.language import ISOTROPIC, isotropy, perplexity
from counterpoint.evaluate.result import Evaluation
from counterpoint.modalities import base as modalities
from counterpoint.modalities.graph import GRAPH
from counterpoint.modalities.text import TEXT
from counterpoint.views.base import counterparts, sentence
from counterpoint.workflow.gather import Given, spread

UNJUDGED = ("texts", "items")
"""Kinds of rows that do not say what belongs together."""
MOST_KNOWN = 5_000
"""Training rows that a probe learns from."""


def found_again(rows: Sequence[Row], encoder: Encoder) -> tuple[list[Row], str] | None:
    """Two parts of each item as a pair, for measuring without labels, and the sentence that says which; from a fixed
    seed. None where the encoder's modality has no such parts."""
    if (parts := counterparts(encoder.modality)) is None:
        return None
    both = parts([row[encoder.modality] for row in rows], np.random.default_rng(0), encoder.collate)
    pairs = zip(rows, *both, strict=True)
    return [{"anchor": a, "positive": b, "row": row["row"]} for row, a, b in pairs if a is not None], sentence(parts)


def measure(
    towers: Mapping[str, Encoder], given: Given, *, beside: bool, start: Mapping[str, Encoder] | None = None
) -> Evaluation:
    """Figures of the encoders on the held-out rows, with baselines (``beside``) or without. start: the encoders before
    training, where they are kept."""
    if given.schema.kind == "mixed":
        each = apart(given).items()
        return together({name: measure(towers, part, beside=beside, start=start) for name, part in each})
    one, kind = next(iter(towers.values())), given.schema.kind
    data: Sequence[Row] = given.held
    if kind in UNJUDGED and (pairs := found_again(data, one)) is not None:
        if not pairs[0]:
            many = modalities.of(one.modality).many
            raise DataError(
                f"None of the {len(data):,} held-out {many} is long enough to be cut in two parts that could find each "
                "other. Measure on rows that say what belongs together: counterpoint eval MODEL LABELLED_ROWS"
            )
        data = pairs[0]
    learns = kind in ("labelled", "bags", GRAPH) or (kind == "towers" and beside)
    taught = given.rows.taught() if learns and not isinstance(given.rows, Stream) else None
    known = None if taught is None else spread(taught, MOST_KNOWN)
    first: Any = start if kind == "towers" or start is None else next(iter(start.values()))
    if isinstance(one, SeriesEncoder):
        assert isinstance(given.rows, Windows)
        return evaluate_forecasts(one, given.rows, start=first, baselines=None if beside else ())
    encoders = towers if kind == "towers" else one
    return evaluate(encoders, data, train=known, start=first, baselines=None if beside else ())


def apart(given: Given) -> dict[str, Given]:
    """The sources of mixed rows, by name, each with what is held out of it; those of which nothing is are left out."""
    assert not isinstance(given.rows, Stream)
    parts = {name: part for name, (part, _) in given.rows.by_source().items()}
    held = {s: [r for r in given.held if r["source"] == s] for s in range(len(parts))}
    return {
        name: Given(part.schema, part, held[s], given.log) for s, (name, part) in enumerate(parts.items()) if held[s]
    }


def together(found: Mapping[str, Evaluation]) -> Evaluation:
    """The figures of several sources as those of one evaluation, each under ``SOURCE/METRIC``."""
    return Evaluation(
        "sources",
        tuple(replace(f, metric=f"{name}/{f.metric}") for name, e in found.items() for f in e.figures),
        {f"{what} of {name}": count for name, e in found.items() for what, count in e.counts.items()},
        {f"{name}/{what}": value for name, e in found.items() for what, value in e.geometry.items()},
        tuple(f"{name}: {note}" for name, e in found.items() for note in e.notes),
        sum(e.seconds for e in found.values()),
        tuple(
            replace(b, metric=f"{name}/{b.metric}", model_metric=f"{name}/{b.model_metric}")
            for name, e in found.items()
            for b in e.below
        ),
    )


def measured(
    towers: Mapping[str, Encoder], given: Given, *, start: Mapping[str, Encoder] | None = None
) -> tuple[Evaluation | None, list[str]]:
    """The final figures and what to say of them. A run that is trained does not fail for what cannot be measured.
    start: as of `measure`."""
    if not given.held:
        return None, []
    missing = []
    try:
        try:
            found = measure(towers, given, beside=True, start=start)
        except MissingExtra as error:  # of a baseline, or of the model, which then fails again
            missing = [f"No baseline was measured. {error}"]
            found = measure(towers, given, beside=False)
    except CounterpointError as error:
        return None, [f"The model could not be measured. {error}"]
    notes = [*missing, *found.notes]
    unjudged = [next(iter(s.modalities.values())) for s in (given.schema, *given.schema.parts) if s.kind in UNJUDGED]
    for modality in dict.fromkeys(unjudged):
        if (parts := counterparts(modality)) is not None:
            said, many = sentence(parts), modalities.of(modality).many
            notes.append(f"{many[0].upper()}{many[1:]} carry no judgements: {said[0].lower()}{said[1:]}")
    one = next(iter(towers.values()))
    if given.schema.kind == "texts" and isinstance(one, CausalLM):
        notes.append(as_language(one, [row[TEXT] for row in given.held]))
    return found, notes


def as_language(model: CausalLM, texts: Sequence[str]) -> str:
    """What a language model is worth as one, in a sentence."""
    apart = isotropy(model, texts)
    said = f"As a language model it has the perplexity {perplexity(model, texts):.1f} and the isotropy {apart:.2f} on "
    said += "the held-out texts."
    if apart < ISOTROPIC:
        said += f" Below {ISOTROPIC} contrastive search can hardly tell candidates apart: it writes as if greedy."
    return said


def as_metrics(found: Evaluation) -> dict[str, Any]:
    """An evaluation in the shape of ``metrics.json``: first the verdict on a model that is below a baseline, then
    systems, their intervals, differences with theirs.

    Figures that are not defined (a correlation of constants) are left out, as are intervals of too few examples.
    """
    systems: dict[str, dict[str, float]] = {"model": {}}
    intervals: dict[str, dict[str, list[float]]] = {"model": {}}
    differences: dict[str, dict[str, Any]] = {}

    def put(system: str, metric: str, value: Any) -> None:
        if math.isfinite(value.value):
            systems.setdefault(system, {})[metric] = value.value
            bounds = intervals.setdefault(system, {})
            if math.isfinite(value.low) and math.isfinite(value.high):
                bounds[metric] = [value.low, value.high]

    for f in found.figures:
        put("model", f.metric, f.value)
        for name, c in f.baselines.items():
            put(name, f.metric, c.value)
            d = c.difference
            if all(map(math.isfinite, (d.value, d.low, d.high))):
                shown = {"metric": f.metric, "value": d.value, "ci95": [d.low, d.high]}
                differences[f"model - {name}, {f.metric}"] = shown
    verdict = {"verdict": found.verdict, "below": [b.to_json() for b in found.below]} if found.below else {}
    return {
        **verdict,
        "task": found.task,
        "counts": found.counts,
        "systems": systems,
        "intervals": intervals,
        "differences": differences,
    }
