"""Small rows of every kind, and methods built at their smoke size on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from counterpoint.data.schema import Row
from counterpoint.methods.base import Method
from counterpoint.workflow.models import build_encoder

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "while", "seven", "bright", "birds", "sing"]
WORDS += ["near", "an", "old", "stone", "bridge", "at", "dawn"]


def text(rng: np.random.Generator, n: int = 12) -> str:
    return " ".join(rng.choice(WORDS, n))


def image(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))


def rows(kind: str, n: int, modality: str = "text", seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    item = text if modality == "text" else image
    out: list[Row] = []
    for i in range(n):
        match kind:
            case "texts":
                row: Row = {"text": text(rng, 30)}
            case "images":
                row = {"image": image(rng)}
            case "pairs":
                row = {"anchor": text(rng), "positive": text(rng), "negatives": [text(rng)] * (i % 2)}
            case "scored":
                row = {"a": text(rng), "b": text(rng), "score": float(i)}
            case "labelled":
                row = {modality: item(rng), "label": i % 3}
            case "towers":
                row = {"image": image(rng), "text": text(rng)}
            case _:
                raise AssertionError(f"no rows of kind {kind} yet: add them here")
        out.append({**row, "row": i})
    return out


def texts() -> Iterator[str]:
    rng = np.random.default_rng(9)
    return iter([text(rng, 20) for _ in range(200)])


def build(cls: type[Method], modality: str, seed: int = 0) -> Method:
    """The method at its smoke size; encoders are those of its recipe."""
    torch.manual_seed(seed)
    recipe = cls.recipe("smoke")
    if "towers" in cls.spec.needs:
        encoders: Any = {stream: build_encoder(c, texts()) for stream, c in recipe.encoder.items()}
    else:
        config = recipe.encoder[modality] if isinstance(recipe.encoder, Mapping) else recipe.encoder
        encoders = build_encoder(config, texts())
    return cls(encoders, recipe.config)
