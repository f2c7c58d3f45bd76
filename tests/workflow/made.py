"""Small files of every kind of rows, in which there is something to learn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TOPICS = {
    "music": ["voice", "chord", "melody", "fugue", "singer", "tempo", "string", "canon"],
    "garden": ["rose", "soil", "spade", "seed", "hedge", "rain", "apple", "root"],
    "harbour": ["boat", "tide", "anchor", "gull", "rope", "captain", "wave", "pier"],
}
COLOURS = {"music": (200, 40, 40), "garden": (40, 180, 60), "harbour": (40, 60, 200)}
FILLER = ["the", "a", "old", "near", "under", "with", "of", "small"]


def text(rng: np.random.Generator, topic: str, n: int = 12) -> str:
    """Words of a topic, with filler between them."""
    return " ".join(rng.choice(TOPICS[topic] if i % 2 else FILLER) for i in range(n))


def dna(n: int) -> str:
    """So many bases: a longer stretch begins with the shorter ones."""
    return "".join("ACGT"[i] for i in np.random.default_rng(0).integers(0, 4, n))


def topics(rng: np.random.Generator, n: int) -> list[str]:
    return [str(t) for t in rng.choice(list(TOPICS), n)]


def rows(kind: str, n: int = 160, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of texts, pairs, negatives, scored or labelled, with the columns that a user's file would have."""
    rng = np.random.default_rng(seed)
    made = topics(rng, n)
    other = dict(zip(TOPICS, [*list(TOPICS)[1:], next(iter(TOPICS))]))
    match kind:
        case "texts":
            return [{"text": text(rng, t, 16)} for t in made]
        case "pairs":
            return [{"question": text(rng, t), "answer": text(rng, t)} for t in made]
        case "negatives":
            return [{"anchor": text(rng, t), "positive": text(rng, t), "negative": text(rng, other[t])} for t in made]
        case "scored":
            return [
                {"sentence1": text(rng, t), "sentence2": text(rng, t if i % 2 else other[t]), "score": 5.0 * (i % 2)}
                for i, t in enumerate(made)
            ]
        case "labelled":
            return [{"text": text(rng, t), "label": t} for t in made]
    raise AssertionError(kind)


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def picture(rng: np.random.Generator, topic: str) -> Image.Image:
    noise = rng.integers(-30, 30, (32, 32, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[topic]) + noise, 0, 255).astype(np.uint8))


def pictures(folder: Path, n: int = 40, seed: int = 0, *, classes: bool = True) -> Path:
    """A folder of images, with a sub-folder per class or without."""
    rng = np.random.default_rng(seed)
    for i, topic in enumerate([*TOPICS, *topics(rng, n - len(TOPICS))]):
        path = folder / (topic if classes else "") / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(rng, topic).save(path)
    return folder


def captioned(folder: Path, n: int = 120, seed: int = 0) -> Path:
    """A folder of images with their captions in metadata.jsonl."""
    rng = np.random.default_rng(seed)
    made = topics(rng, n)
    folder.mkdir(parents=True)
    for i, topic in enumerate(made):
        picture(rng, topic).save(folder / f"{i:03}.png")
    jsonl(
        folder / "metadata.jsonl",
        ({"file_name": f"{i:03}.png", "caption": text(rng, t)} for i, t in enumerate(made)),
    )
    return folder
