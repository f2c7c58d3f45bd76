"""Small rows of every kind, and methods built at their smoke size on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from counterpoint.data.audio import Recording
from counterpoint.data.cells import Columns
from counterpoint.data.nodes import Graph, Nodes
from counterpoint.data.schema import Row, Schema
from counterpoint.data.windows import Series, Windows
from counterpoint.encoders.graph import GraphConfig
from counterpoint.encoders.nodes import NodeMLPConfig
from counterpoint.encoders.series import SeriesConfig, of_series
from counterpoint.encoders.table import TableTransformerConfig
from counterpoint.encoders.vectors import VectorConfig
from counterpoint.methods.base import Method
from counterpoint.workflow.models import build_encoder

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


def with_columns(config: TableTransformerConfig) -> TableTransformerConfig:
    """The configuration with the columns of `table`."""
    tables = [table(np.random.default_rng(i)) for i in range(40)]
    columns = Columns.fit({name: [t[name] for t in tables] for name in tables[0]})
    return replace(config, categories=columns.categories, numbers=columns.numbers)


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


def build(
    cls: type[Method], modality: str, seed: int = 0, *, settings: Mapping[str, Any] | None = None, still: bool = False
) -> Method:
    """The method at its smoke size; encoders are those of its recipe. settings: others of its own. still: no dropout."""
    torch.manual_seed(seed)
    recipe = cls.recipe("smoke")
    recipe = replace(recipe, config=replace(recipe.config, **(settings or {})))
    if still:
        recipe = without_dropout(recipe)
    if "towers" in cls.spec.needs:
        configs = {
            s: with_columns(c) if isinstance(c, TableTransformerConfig) else c for s, c in recipe.encoder.items()
        }
        encoders: Any = {stream: build_encoder(c, texts()) for stream, c in configs.items()}
    else:
        config = recipe.encoder_of(modality)
        config = (
            replace(config, features=FEATURES)
            if isinstance(config, GraphConfig | NodeMLPConfig | VectorConfig)
            else config
        )
        config = of_series(config, series()) if isinstance(config, SeriesConfig) else config
        encoders = build_encoder(config, texts())
    config = recipe.config
    if hasattr(config, "labels"):
        config = replace(config, labels=("a", "b", "c"))
    if hasattr(config, "sources"):
        config = replace(config, sources=("a", "b"))
    if hasattr(config, "scores"):
        config = replace(config, scores=(0.0, 10.0))
    if hasattr(config, "parts"):
        config = replace(config, parts={kind: Schema(kind=kind, columns={}) for kind in MIXED})
    return cls(encoders, config)


def without_dropout(settings: Any) -> Any:
    """A configuration, and those in it, with every probability of dropout 0."""
    if isinstance(settings, Mapping):
        return {name: without_dropout(value) for name, value in settings.items()}
    if not is_dataclass(settings):
        return settings
    changed = {f.name: without_dropout(getattr(settings, f.name)) for f in fields(settings) if f.init}
    changed |= {name: 0.0 for name, value in changed.items() if name.endswith("dropout") and isinstance(value, float)}
    return replace(settings, **changed)
