"""Rows to the batches that most methods begin with: pairs, scored pairs, two towers, two views of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.image import ImageEncoder
from counterpoint.errors import DataError
from counterpoint.modalities.image import pixels
from counterpoint.views.image import SimCLRViews


def pairs(encoder: Encoder, rows: Sequence[Row]) -> Batch:
    """Anchors, positives and, where rows have any, negatives, each of which knows its row.

    encoder: of both sides. rows: with anchor and positive.
    """
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
    """Both texts as anchor and positive, and the label ``score`` (N,).

    encoder: of both texts. rows: with a, b and score.
    """
    collate, stream = encoder.collate, encoder.modality
    views = (
        View(collate([r["a"] for r in rows]), stream, "anchor"),
        View(collate([r["b"] for r in rows]), stream, "positive"),
    )
    score = torch.tensor([float(r["score"]) for r in rows])
    return Batch(views, torch.tensor([r["row"] for r in rows]), {"score": score})


def number(text: str) -> int:
    """A number of 64 bits for what a text says, the same in every process."""
    digest = blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def places(owner: Tensor) -> Tensor:
    """How many items before it belong to the same row, of each: ``[0, 1, 0, 0] -> [0, 0, 1, 2]``.

    owner: ``(M,)`` long, sorted or not.
    """
    order = owner.argsort(stable=True)
    row = owner[order]
    first = torch.searchsorted(row, row)
    return torch.empty_like(owner).scatter_(0, order, torch.arange(len(owner), device=owner.device) - first)


def sourced(rows: Sequence[Row], of: str) -> list[int]:
    """The source of each row, or a `DataError` that says how to name the column. of: what it holds, in the plural.

    rows: with a source.
    """
    if lacking := [r["row"] for r in rows if "source" not in r]:
        raise DataError(f"Row {lacking[0]} has no source: name the column of {of} with --columns source=COLUMN.")
    return [r["source"] for r in rows]


def two_streams(towers: Mapping[str, Encoder], rows: Sequence[Row]) -> Batch:
    """Views ``anchor`` of the first tower's stream and ``positive`` of the second's.

    Rows that lack either part are left out: a pair needs both.

    towers: an encoder for each stream. rows: with both.
    """
    rows = [r for r in rows if all(r[stream] is not None for stream in towers)]
    views = (
        View(tower.collate([r[stream] for r in rows]), stream, role)
        for role, (stream, tower) in zip(("anchor", "positive"), towers.items(), strict=True)
    )
    return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))


def two_views(
    encoder: ImageEncoder,
    rows: Sequence[Row],
    rng: np.random.Generator,
    augment: SimCLRViews,
    *,
    source: int = 0,
) -> Batch:
    """Views ``anchor`` and ``positive``, each ``(N, C, size, size)``, of the column ``image``.

    source: side in pixels that images are brought to before crops are drawn (0: the encoder's). A larger one keeps the
    detail that small crops of photographs would lose. encoder: of images. rows: with an image. rng: every draw comes
    from it. augment: draws one view.
    """
    size, channels = encoder.config.size, encoder.config.channels
    images = pixels([r["image"] for r in rows], source or size, channels=channels)
    draw = augment if augment.size else replace(augment, size=size)
    views = tuple(View(draw(images, rng), encoder.modality, role) for role in ("anchor", "positive"))
    return Batch(views, torch.tensor([r["row"] for r in rows]))
