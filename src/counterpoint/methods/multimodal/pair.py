"""Rows of two modalities to a batch of one view of each: where methods with two towers begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder


def two_streams(towers: Mapping[str, Encoder], rows: Sequence[Row]) -> Batch:
    """Views ``anchor`` of the first tower's stream and ``positive`` of the second's.

    Rows that lack either part are left out: a pair needs both.
    """
    rows = [r for r in rows if all(r[stream] is not None for stream in towers)]
    views = (
        View(tower.collate([r[stream] for r in rows]), stream, role)
        for role, (stream, tower) in zip(("anchor", "positive"), towers.items(), strict=True)
    )
    return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))
