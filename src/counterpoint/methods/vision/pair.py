"""Rows of images to a batch of two views each: where most image methods begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from counterpoint.data.batch import Batch, View
from counterpoint.data.pixels import decode
from counterpoint.data.schema import Row
from counterpoint.encoders.image import ImageEncoder
from counterpoint.views.image import SimCLRViews


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
    detail that small crops of photographs would lose.
    """
    size, channels = encoder.config.size, encoder.config.channels
    images = decode([r["image"] for r in rows], source or size, channels=channels)
    draw = augment if augment.size else replace(augment, size=size)
    views = tuple(View(draw(images, rng), encoder.modality, role) for role in ("anchor", "positive"))
    return Batch(views, torch.tensor([r["row"] for r in rows]))
