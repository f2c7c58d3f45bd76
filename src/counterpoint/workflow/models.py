"""Encoders: built from a configuration, loaded from folders, saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from counterpoint.data.rows import Rows
from counterpoint.data.stream import Stream
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError, ModelError

FINE_TUNE: dict[str, Any] = {"batch": 64, "lr": 2e-5, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.01}
"""Settings for an encoder that was trained before: small steps, so that what it knows is kept."""

FROM_SCRATCH: dict[str, Any] = {"batch": 128, "lr": 5e-4, "warmup": 0.1, "weight_decay": 0.01}
"""Settings for a transformer from random weights."""


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


def model_path(path: Path | str) -> Path:
    """The model folder of a run folder, or the folder itself."""
    path = Path(path)
    return path / "model" if (path / "model").is_dir() else path


def load_towers(path: Path | str) -> dict[str, Encoder]:
    """The encoders of a run folder or a model folder, by modality."""
    root = model_path(path)
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
        raise ModelError(
            f"{path} holds the towers {', '.join(towers)}; {stream or 'none'} was asked for. Name one of them."
        )
    return towers[stream]


def save_towers(towers: Mapping[str, Encoder], folder: Path) -> None:
    """One encoder: the folder itself is its model folder. Several: a folder each, named by stream."""
    for stream, encoder in towers.items():
        model_folder.save(encoder, folder if len(towers) == 1 else folder / stream)
