"""Views of rows of two texts: pairs with perhaps hard negatives, and pairs with a score."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.errors import DataError


def pairs(encoder: Encoder, rows: Sequence[Row]) -> Batch:
    """Anchors, positives and, where rows have any, negatives, each of which knows its row."""
    collate, stream = encoder.collate, encoder.modality
    views = [
        View(collate([r["anchor"] for r in rows], role="query"), stream, "anchor"),
        View(collate([r["positive"] for r in rows], role="document"), stream, "positive"),
    ]
    owned = [(i, n) for i, r in enumerate(rows) for n in r.get("negatives") or ()]
    if owned:
        owner = torch.tensor([i for i, _ in owned])
        views.append(View(collate([n for _, n in owned], role="document"), stream, "negative", owner=owner))
    return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))


def scored(encoder: Encoder, rows: Sequence[Row]) -> Batch:
    """Both texts as anchor and positive, and the label ``score`` (N,)."""
    collate, stream = encoder.collate, encoder.modality
    views = (
        View(collate([r["a"] for r in rows]), stream, "anchor"),
        View(collate([r["b"] for r in rows]), stream, "positive"),
    )
    score = torch.tensor([float(r["score"]) for r in rows])
    return Batch(views, torch.tensor([r["row"] for r in rows]), {"score": score})


def sourced(rows: Sequence[Row], of: str) -> list[int]:
    """The source of each row, or a `DataError` that says how to name the column. of: what it holds, in the plural."""
    if lacking := [r["row"] for r in rows if "source" not in r]:
        raise DataError(f"Row {lacking[0]} has no source: name the column of {of} with --columns source=COLUMN.")
    return [r["source"] for r in rows]
