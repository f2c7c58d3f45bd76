"""The encoder that answers questions to an index: read without torch where that can be done."""

from __future__ import annotations

from pathlib import Path

from counterpoint.encoders.query import StaticQueries
from counterpoint.search.store import Encodes


def encoder_for(model: Path) -> Encodes:
    """What encodes the questions to an index that this model folder (or run folder) made.

    Raises `ModelError` where the folder is none, or holds no encoder of texts.
    """
    root = model / "model" if (model / "model").is_dir() else model
    for folder in (root, root / "text"):
        if (light := StaticQueries.read(folder)) is not None:
            return light
    from counterpoint.workflow.models import load  # here, as it imports torch

    return load(model, "text")
