"""From raw rows to an encoder that is trained, measured and reported: what `counterpoint fit` does, as one function."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.data.infer import infer
from counterpoint.data.inspect import leakage
from counterpoint.data.loader import Loader, StreamLoader
from counterpoint.data.log import Log
from counterpoint.data.read import Source, read
from counterpoint.data.rows import Rows, Stream
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled
from counterpoint.data.schema import Schema
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.methods.base import Method, Recipe, find
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Result, Trainer

LONG = 60
"""Median words from which texts count as documents: their parts can then be contrasted with each other."""

FINE_TUNE: dict[str, Any] = {"batch": 64, "lr": 2e-5, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.01}
"""Settings for an encoder that was trained before: small steps, so that what it knows is kept."""

FROM_SCRATCH: dict[str, Any] = {"batch": 128, "lr": 5e-4, "warmup": 0.1, "weight_decay": 0.01}
"""Settings for a transformer from random weights."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves: the trained method, its folder, the final figures, and how the run ended."""

    method: Method
    folder: Path
    metrics: dict[str, Any]
    result: Result
    notes: list[str] = field(default_factory=list)


def choose(schema: Schema, rows: Rows | Stream) -> tuple[str, str]:
    """The method for rows of this shape, and the sentence that says why."""
    if schema.kind == "texts":
        words = statistics.median(len(t.split()) for t in rows.texts(1000))
        if words >= LONG:
            return "contriever", f"{schema.why} The texts are long (median {words:.0f} words): their crops are contrasted."
        return "simcse", f"{schema.why} The texts are short (median {words:.0f} words): two dropout draws are contrasted."
    name = {
        "pairs": "in-batch",
        "scored": "graded",
        "labelled": "supcon",
        "images": "directpred",
        "towers": "two-tower",
    }[schema.kind]
    return name, schema.why


def check(cls: type[Method], schema: Schema) -> None:
    """Refuse rows a method cannot learn from, saying what it needs."""
    spec, modalities = cls.spec, set(schema.modalities.values())
    if schema.kind not in spec.needs:
        raise ConfigError(
            f"The method {spec.name} needs {' or '.join(spec.needs)}; these rows hold {schema.kind} ({schema.why}) "
            "Leave --method out and the columns decide, or say which column plays which part with --columns."
        )
    if not modalities <= set(spec.modalities):
        raise ConfigError(
            f"The method {spec.name} learns from {' and '.join(spec.modalities)}; "
            f"these rows hold {' and '.join(sorted(modalities))}."
        )


def settings(cls: type[Method], base: Any, given: Mapping[str, str]) -> Any:
    """The method's Config with ``KEY=VALUE`` settings applied; values are read as JSON, else as text."""
    known = {f.name: f for f in dataclasses.fields(cls.Config)}
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in known:
            raise ConfigError(f"The method {cls.spec.name} has no setting {key!r}. It has: {', '.join(known)}.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        present = getattr(base, key)
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(present):
            raise ConfigError(
                f"The setting {key} of {cls.spec.name} is of the kind {type(present).__name__} (now {present!r}); "
                f"{text!r} was given. Type for instance: --set {key}={json.dumps(present)}"
            )
        values[key] = value
    return dataclasses.replace(base, **values)


def build_encoder(config: Any, texts: Iterator[str]) -> Encoder:
    """A fresh encoder from its configuration; text encoders learn their vocabulary from `texts`."""
    match config:
        case StaticTextConfig():
            return StaticText.from_texts(texts, config)
        case TextTransformerConfig():
            return TextTransformer.from_texts(texts, config)
        case ConvNetConfig():
            return ConvNet(config)
        case ImageTransformerConfig():
            return ImageTransformer(config)
        case _:
            raise ConfigError(f"{type(config).__name__} is no configuration of an encoder.")


def make_encoder(modality: str, choice: str, recipe: Any, rows: Rows | Stream) -> tuple[Encoder, str]:
    """The encoder of one modality: ``auto`` (the recipe's), ``static``, ``transformer``, or a folder or hub id.

    Returns it with how it starts: ``recipe``, ``scratch`` or ``pretrained``.
    """
    if choice == "auto":
        return build_encoder(recipe, rows.texts(200_000)), "recipe"
    if choice == "static" and modality == "text":
        return build_encoder(StaticTextConfig(), rows.texts(200_000)), "recipe"
    if choice == "transformer":
        fresh = TextTransformerConfig() if modality == "text" else ImageTransformerConfig()
        return build_encoder(fresh, rows.texts(200_000)), "scratch"
    if Path(choice).is_dir() and modality in (towers := load_towers(choice)):
        return towers[modality], "pretrained"
    if modality == "text":
        return TextTransformer.from_pretrained(choice), "pretrained"
    return ImageTransformer.from_pretrained(choice), "pretrained"


def load_towers(path: Path | str) -> dict[str, Encoder]:
    """The encoders of a run folder or a model folder, by modality."""
    path = Path(path)
    root = path / "model" if (path / "model").is_dir() else path
    if not root.is_dir():
        raise ModelError(f"There is no model folder {path}. Give the folder that `counterpoint fit --out` wrote.")
    parts = [p for p in sorted(root.iterdir()) if (p / "counterpoint.json").exists()]
    if parts and not (root / "counterpoint.json").exists():
        return {p.name: model_folder.load(p) for p in parts}
    encoder = model_folder.load(root)
    return {encoder.modality: encoder}


def load(path: Path | str, stream: str | None = None) -> Encoder:
    """The encoder of a run folder, a model folder, or any sentence-transformers or transformers folder.

    stream: which tower, where there are several (``text``, ``image``).
    """
    towers = load_towers(path)
    if stream is None and len(towers) == 1:
        return next(iter(towers.values()))
    if stream not in towers:
        raise ModelError(f"{path} holds the towers {', '.join(towers)}; {stream or 'none'} was asked for. Name one of them.")
    return towers[stream]


def save_towers(towers: Mapping[str, Encoder], folder: Path) -> None:
    """One encoder: the folder itself is its model folder. Several: a folder each, named by stream."""
    for stream, encoder in towers.items():
        model_folder.save(encoder, folder if len(towers) == 1 else folder / stream)


def make_sampler(cls: type[Method], schema: Schema, rows: Rows, config: TrainConfig) -> Sampler:
    """Batches that suit the rows: no duplicates among candidates, several rows per class, like lengths together."""
    if schema.kind == "pairs":
        return NoDuplicates(rows, batch=config.batch, seed=config.seed)
    if schema.kind == "labelled":
        return PxK(rows, batch=config.batch, seed=config.seed)
    if schema.kind in ("texts", "scored"):
        return LengthBucketed(rows, batch=config.batch, seed=config.seed)
    return Shuffled(len(rows), batch=config.batch, seed=config.seed)
