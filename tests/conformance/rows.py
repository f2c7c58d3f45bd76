"""Small rows of every kind, and methods built at their smoke size on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from counterpoint.data.nodes import Nodes
from counterpoint.data.rowset import Made
from counterpoint.data.schema import Row, Schema
from counterpoint.data.windows import Series, Windows
from counterpoint.encoders.base import build as build_encoder
from counterpoint.methods.base import Method
from counterpoint.modalities.audio import Recording
from counterpoint.modalities.graph import Graph

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "while", "seven", "bright", "birds", "sing"]
WORDS += ["near", "an", "old", "stone", "bridge", "at", "dawn"]

MIXED = ("pairs", "scored")
"""Kinds of the sources of mixed rows: those that every method of mixed rows learns from."""

FEATURES = 7  # of a node


def text(rng: np.random.Generator, n: int = 12) -> str:
    return " ".join(rng.choice(WORDS, n))


def image(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))


def vector(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=FEATURES).astype(np.float32)


def dna(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("ACGT"), int(rng.integers(200, 400))))


def recording(rng: np.random.Generator, seconds: float | None = None) -> Recording:
    """Two tones of random pitch in noise, at 8 kHz."""
    seconds = float(rng.uniform(0.3, 0.8)) if seconds is None else seconds
    time = np.arange(int(8000 * seconds)) / 8000
    tones = sum(np.sin(2 * np.pi * pitch * time) for pitch in rng.uniform(100, 3000, 2))
    return Recording((0.3 * tones + 0.05 * rng.normal(size=len(time))).astype(np.float32), 8000)


def table(rng: np.random.Generator) -> dict[str, Any]:
    """Cells of two categories and two numbers, one in five of them missing."""
    cells = {"kind": str(rng.choice(["a", "b", "c"])), "sold": bool(rng.random() < 0.5)}
    cells |= {"price": float(rng.normal()), "area": int(rng.integers(10))}
    return {name: None if rng.random() < 0.2 else cell for name, cell in cells.items()}


def graph(n: int = 12, seed: int = 0) -> Graph:
    """A ring of nodes with a few chords, each node with some of its features."""
    rng = np.random.default_rng(seed)
    features = (rng.random((n, FEATURES)) < 0.5).astype(np.float32)
    features[:, 0] = 1
    ring = np.stack((np.arange(n), np.roll(np.arange(n), 1)))
    labels = np.arange(n) % 3
    return Graph(features=features, edges=np.concatenate((ring, rng.integers(0, n, (2, n))), axis=1), labels=labels)


def series(steps: int = 160, seed: int = 0) -> Series:
    """Three channels of waves in noise."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(steps)[:, None] * 2 * np.pi / np.array([6, 8, 12])) * [1, 5, 0.1]
    return Series(values=waves + 0.2 * rng.normal(size=waves.shape), names=("a", "b", "c"))


def rows(kind: str, n: int, modality: str = "text", seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    makers = {"text": text, "image": image, "vector": vector, "audio": recording, "table": table, "dna": dna}
    item = makers.get(modality, text)
    if kind == "graph":
        return list(Nodes(graph(n, seed)))
    if kind == "mixed":  # a batch of it is of one source
        return [{**row, "source": seed % len(MIXED)} for row in rows(MIXED[seed % len(MIXED)], n, modality, seed)]
    if kind == "series":
        return Windows(series(seed=seed), length=32, horizon=16)[:n]
    out: list[Row] = []
    for i in range(n):
        match kind:
            case "texts":
                # Sentences, one per line.
                row: Row = {"text": "\n".join(text(rng, 10) for _ in range(3)), "source": 0}
            case "items":
                row = {modality: item(rng)}
            case "pairs":
                row = {"anchor": text(rng), "positive": text(rng), "negatives": [text(rng)] * (i % 2), "source": i % 2}
            case "scored":
                row = {"a": text(rng), "b": text(rng), "score": float(i)}
            case "labelled":
                row = {modality: item(rng), "label": i % 3}
            case "bags":
                row = {"bag": [item(rng) for _ in range(1 + i % 3)], "label": i % 3}
            case "towers":  # methods take the two that they are about
                row = {"image": image(rng), "text": text(rng), "table": table(rng)}
            case _:
                raise AssertionError(f"no rows of kind {kind} yet: add them here")
        out.append({**row, "row": i})
    return out


def texts() -> Iterator[str]:
    rng = np.random.default_rng(9)
    return iter([text(rng, 20) for _ in range(200)])


def source(modality: str) -> Nodes | Windows | Made:
    """Rows that encoders of a modality are built from."""
    if modality == "graph":
        return Nodes(graph())
    if modality == "series":
        return Windows(series())
    if modality == "text":
        return Made([{"text": text} for text in texts()])
    return Made([rows("items", 1, modality, seed)[0] for seed in range(40)])


def build(cls: type[Method], modality: str, seed: int = 0) -> Method:
    """The method at its smoke size; encoders are those of its recipe."""
    torch.manual_seed(seed)
    recipe = cls.recipe("smoke")
    if "towers" in cls.spec.needs:
        encoders: Any = {stream: build_encoder(c, source(stream)) for stream, c in recipe.encoder.items()}
    else:
        encoders = build_encoder(recipe.encoder_of(modality), source(modality))
    settings = recipe.config
    if hasattr(settings, "labels"):
        settings = replace(settings, labels=("a", "b", "c"))
    if hasattr(settings, "sources"):
        settings = replace(settings, sources=("a", "b"))
    if hasattr(settings, "scores"):
        settings = replace(settings, scores=(0.0, 10.0))
    if hasattr(settings, "parts"):
        settings = replace(settings, parts={kind: Schema(kind=kind, columns={}) for kind in MIXED})
    return cls(encoders, settings)
