"""Figures of a trained encoder on held-out rows, beside baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from counterpoint.data.mixed import Mixed
from counterpoint.data.nodes import Nodes
from counterpoint.data.schema import Row
from counterpoint.data.windows import Windows
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.errors import CounterpointError
from counterpoint.evaluate.forecast import evaluate_forecasts
from counterpoint.evaluate.language import ISOTROPIC, isotropy, perplexity
from counterpoint.evaluate.result import Evaluation
from counterpoint.evaluate.run import evaluate
from counterpoint.views.dna import fragment_and_read, substitute
from counterpoint.views.image import SimCLRViews
from counterpoint.workflow.gather import Given, spread

FEWEST_WORDS = 6
"""Of a text that is cut in two."""
MOST_KNOWN = 5_000
"""Training rows that a probe learns from."""

UNJUDGED = {
    "image": "Images carry no judgements: one crop of each held-out image had to find another.",
    "dna": "DNA carries no judgements: a read of each held-out stretch, 5 % of it wrong, had to find the stretch.",
    "audio": "Recordings carry no judgements: the first half of each held-out recording had to find its second half.",
}
"""How items without labels were measured."""


def halves(rows: Sequence[Row]) -> list[Row]:
    """Texts as pairs, for measuring without labels: the first half of the words must find the second."""
    out = []
    for row in rows:
        words = row["text"].split()
        if len(words) >= FEWEST_WORDS:
            middle = len(words) // 2
            out.append({"anchor": " ".join(words[:middle]), "positive": " ".join(words[middle:]), "row": row["row"]})
    return out


def crops(rows: Sequence[Row], encoder: Encoder) -> list[Row]:
    """Images as pairs: one crop must find the other, both drawn from a fixed seed."""
    images = encoder.collate([r["image"] for r in rows])
    assert isinstance(images, Tensor)
    augment, rng = SimCLRViews(size=images.shape[-1]), np.random.default_rng(0)
    pairs = zip(rows, augment(images, rng), augment(images, rng))
    return [{"anchor": a, "positive": b, "row": r["row"]} for r, a, b in pairs]


def parts(rows: Sequence[Row]) -> list[Row]:
    """Recordings as pairs: the first half must find the second."""
    found = ((r["audio"], len(r["audio"]) // 2, r["row"]) for r in rows if len(r["audio"]) > 1)
    return [{"anchor": x.part(0, n), "positive": x.part(n, len(x)), "row": row} for x, n, row in found]


def reads(rows: Sequence[Row]) -> list[Row]:
    """Stretches of DNA as pairs: a read of up to 250 bases with errors must find the stretch; from a fixed seed."""
    rng = np.random.default_rng(0)
    found = ((r, fragment_and_read(r["dna"], rng, fragment=(2**31, 2**31 + 1), read=(100, 251))[1]) for r in rows)
    return [{"anchor": substitute(x, rng, rate=0.05), "positive": r["dna"], "row": r["row"]} for r, x in found]


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
    if kind == "texts":
        data = halves(data)
    elif kind == "items" and one.modality == "image":
        data = crops(data, one)
    elif kind == "items" and one.modality == "dna":
        data = reads(data)
    elif kind == "items" and one.modality == "audio":
        data = parts(data)
    learns = kind in ("labelled", "bags") or (kind == "towers" and beside)
    known = spread(given.known, MOST_KNOWN) if learns and given.known is not None else None
    if isinstance(given.rows, Nodes):
        known = list(given.rows.labelled("train")) or None
    first: Any = start if kind == "towers" or start is None else next(iter(start.values()))
    if isinstance(given.rows, Windows):
        assert isinstance(one, SeriesEncoder)
        return evaluate_forecasts(one, given.rows, start=first, baselines=None if beside else ())
    encoders = towers if kind == "towers" else one
    return evaluate(encoders, data, train=known, start=first, baselines=None if beside else ())


def apart(given: Given) -> dict[str, Given]:
    """The sources of mixed rows, by name, each with what is held out of it; those of which nothing is are left out."""
    assert isinstance(given.rows, Mixed)
    held = {s: [r for r in given.held if r["source"] == s] for s in range(len(given.rows.names))}
    return {
        name: Given(part.schema, part, held[s], given.log)
        for s, (name, part) in enumerate(zip(given.rows.names, given.rows.parts))
        if held[s]
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
    try:
        found = measure(towers, given, beside=True, start=start)
    except CounterpointError as error:
        return None, [f"The model could not be measured. {error}"]
    notes = list(found.notes)
    if "texts" in (given.schema.kind, *(part.kind for part in given.schema.parts)):
        notes.append("Texts carry no judgements: the first half of each held-out text had to find its second half.")
    one = next(iter(towers.values()))
    if given.schema.kind == "texts" and isinstance(one, CausalLM):
        notes.append(as_language(one, [row["text"] for row in given.held]))
    if given.schema.kind == "items" and (note := UNJUDGED.get(next(iter(towers.values())).modality)):
        notes.append(note)
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
