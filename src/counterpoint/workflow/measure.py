"""Figures of a trained encoder on held-out rows, beside baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from counterpoint.data.rows import Rows
from counterpoint.data.schema import Row, Schema
from counterpoint.encoders.base import Encoder
from counterpoint.evaluate.result import Evaluation
from counterpoint.evaluate.run import evaluate
from counterpoint.views.image import SimCLRViews


def halves(rows: Sequence[Row]) -> list[Row]:
    """Texts as pairs, for measuring without labels: the first half of the words must find the second."""
    out = []
    for row in rows:
        words = row["text"].split()
        if len(words) >= 6:
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


def measure(
    towers: Mapping[str, Encoder], schema: Schema, test: Sequence[Row], train: Rows | None, *, beside: bool
) -> Evaluation:
    """Figures of the encoders on held-out rows, with baselines (``beside``) or without."""
    one = next(iter(towers.values()))
    data: Sequence[Row] = test
    if schema.kind == "texts":
        data = halves(test)
    elif schema.kind == "images":
        data = crops(test, one)
    known = train[: min(len(train), 5000)] if schema.kind == "labelled" and train is not None else None
    encoders = towers if schema.kind == "towers" else one
    return evaluate(encoders, data, train=known, baselines=None if beside else ())


def as_metrics(found: Evaluation) -> dict[str, Any]:
    """An evaluation in the shape of ``metrics.json``: systems, their intervals, differences with theirs."""
    systems: dict[str, dict[str, float]] = {"model": {}}
    intervals: dict[str, dict[str, list[float]]] = {"model": {}}
    differences: dict[str, dict[str, Any]] = {}
    for f in found.figures:
        systems["model"][f.metric] = f.value.value
        intervals["model"][f.metric] = [f.value.low, f.value.high]
        for name, c in f.baselines.items():
            systems.setdefault(name, {})[f.metric] = c.value.value
            intervals.setdefault(name, {})[f.metric] = [c.value.low, c.value.high]
            d = c.difference
            shown = {"metric": f.metric, "value": d.value, "ci95": [d.low, d.high]}
            differences[f"model - {name}, {f.metric}"] = shown
    return {"task": found.task, "systems": systems, "intervals": intervals, "differences": differences}
