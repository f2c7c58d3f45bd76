"""Small rows of every kind, and methods built at their smoke size on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from counterpoint.data.nodes import Nodes
from counterpoint.data.rowset import Made
from counterpoint.data.schema import Row, Schema
from counterpoint.data.windows import Series, Windows
from counterpoint.encoders.base import build as build_encoder
from counterpoint.methods.base import Method
from counterpoint.modalities import base as modalities
from counterpoint.modalities.graph import small
from counterpoint.modalities.text import example as text

MIXED = ("pairs", "scored")
"""Kinds of the sources of mixed rows: those that every method of mixed rows learns from."""


def series(steps: int = 160, seed: int = 0) -> Series:
    """Three channels of waves in noise."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(steps)[:, None] * 2 * np.pi / np.array([6, 8, 12])) * [1, 5, 0.1]
    return Series(values=waves + 0.2 * rng.normal(size=waves.shape), names=("a", "b", "c"))


WHOLE: dict[str, Callable[..., Nodes | Windows]] = {
    "graph": lambda seed, n=12: Nodes(small(np.random.default_rng(seed), n)),
    "series": lambda seed, n=0: Windows(series(seed=seed), length=32, horizon=16),
}
"""Modality -> the rows of what is no table of items."""


def rows(kind: str, n: int, modality: str = "text", seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    if modality in WHOLE:
        return list(WHOLE[modality](seed, n)[:n])
    if kind == "mixed":  # a batch of it is of one source
        return [{**row, "source": seed % len(MIXED)} for row in rows(MIXED[seed % len(MIXED)], n, modality, seed)]
    item = modalities.of(modality).example
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
                row = {m.name: m.example(rng) for m in modalities.discover().values() if m.shape == "rows"}
            case _:
                raise AssertionError(f"no rows of kind {kind} yet: add them here")
        out.append({**row, "row": i})
    return out


def texts() -> Iterator[str]:
    rng = np.random.default_rng(9)
    return iter([text(rng, 20) for _ in range(200)])


def source(modality: str) -> Nodes | Windows | Made:
    """Rows that encoders of a modality are built from."""
    if modality in WHOLE:
        return WHOLE[modality](0)
    if modality == "text":
        return Made([{"text": text} for text in texts()])
    return Made([rows("items", 1, modality, seed)[0] for seed in range(40)])


def build(
    cls: type[Method], modality: str, seed: int = 0, *, settings: Mapping[str, Any] | None = None, still: bool = False
) -> Method:
    """The method at its smoke size; encoders are those of its recipe. settings: others of its own. still: without
    dropout."""
    torch.manual_seed(seed)
    recipe = cls.recipe("smoke")
    recipe = replace(recipe, config=replace(recipe.config, **(settings or {})))
    if still:
        recipe = without_dropout(recipe)
    if "towers" in cls.spec.needs:
        encoders: Any = {stream: build_encoder(c, source(stream)) for stream, c in recipe.encoder.items()}
    else:
        config = recipe.encoder_of(modality)
        encoders = build_encoder(without_dropout(config) if still else config, source(modality))
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
