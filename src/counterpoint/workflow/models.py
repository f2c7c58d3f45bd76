"""Encoders: built from a configuration, loaded from folders, saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from counterpoint.data.schema import RowSet
from counterpoint.data.stream import Stream
from counterpoint.decode.seq2seq import Seq2SeqLM
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import Encoder, build, choices, modalities, picked
from counterpoint.encoders.causal import CausalLM
from counterpoint.encoders.text import TextTransformer
from counterpoint.errors import ConfigError, ModelError
from counterpoint.modalities.base import of
from counterpoint.modalities.text import TEXT

Beginning: TypeAlias = Literal["recipe", "scratch", "pretrained", "adapted"]
"""How an encoder begins: as its recipe says, as a transformer from random weights, with weights trained before, or with
such weights that stay while low-rank adapters beside them learn."""

SETTINGS: dict[Beginning, dict[str, Any]] = {
    "recipe": {},
    "scratch": {"batch": 128, "lr": 5e-4, "warmup": 0.1, "weight_decay": 0.01},
    # Small steps, so that what the encoder knows is kept.
    "pretrained": {"batch": 64, "lr": 2e-5, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.01},
    "adapted": {"batch": 64, "lr": 2e-4, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.0},
}
"""Settings of the training run that replace the recipe's."""


def choice_for(stream: str, encoder: str, streams: Iterable[str]) -> str:
    """The choice for one tower: ``encoder`` holds for all, or names towers, ``text=FOLDER,image=auto`` (others: auto).

    Raises `ConfigError` for a tower that these rows do not have.
    """
    named = dict(re.findall(r"(?:^|,)(\w+)=([^,]*)", encoder))
    if not named or not re.match(r"\w+=", encoder) or Path(encoder).exists():
        return encoder
    if unknown := sorted(named.keys() - set(streams)):
        raise ConfigError(
            f"--encoder {encoder} names the tower {unknown[0]!r}; these rows have {' and '.join(streams)}."
        )
    return named.get(stream) or "auto"


def make_encoder(
    modality: str, choice: str, recipe: Any, rows: RowSet | Stream, *, smoke: bool = False
) -> tuple[Encoder, Beginning]:
    """The encoder of one modality, and how it begins.

    choice: ``auto`` (the recipe's), one of the modality's words (see `counterpoint.encoders.base.choices`), a folder or
    a hub id. recipe: the configuration of a method's own encoder. smoke: a fresh one is as small as can be.
    """
    if choice == "auto":
        return build(recipe, rows), "recipe"
    if (cls := picked(modality, choice, recipe)) is not None:
        return build(cls.configured(choice, recipe, smoke=smoke), rows), cls.begins
    return trained(modality, choice, recipe), "pretrained"


def trained(modality: str, source: str, recipe: Any) -> Encoder:
    """The encoder of a folder or a hub id; recipe: as of `make_encoder`."""
    reader, root = picked(modality, "transformer", recipe), model_path(source)
    if reader is CausalLM:
        return language_model(source)
    if root.is_dir() and (ours(root) or reader is TextTransformer):
        towers = load_towers(source)
        if modality not in towers:
            raise ConfigError(
                f"{source} encodes {' and '.join(towers)}; these rows hold {of(modality).many}. Name another model, or "
                "leave --encoder out."
            )
        return towers[modality]
    if not root.exists() and (picks := [of(m).many for m in modalities() if source in choices(m)]):
        raise ConfigError(f"--encoder {source} picks an encoder of {' or '.join(picks)}. {others(modality)}")
    try:
        if reader is TextTransformer:  # perhaps with further modules of sentence-transformers behind it
            return model_folder.load(pretrained.locate(source))
        return (reader or Encoder).published(source)
    except (ConfigError, ModelError) as error:
        if root.exists() and isinstance(error, ModelError):  # a model was meant, and is damaged
            raise
        raise type(error)(f"{error} {others(modality)}") from error


def others(modality: str) -> str:
    """What can be typed after ``--encoder`` for rows of a modality."""
    words = ", ".join(choices(modality))
    return f"For {of(modality).many}, --encoder takes {words}, or a model folder; or leave it out."


# --- folders ---------------------------------------------------------------------------------------------------


def model_path(path: Path | str) -> Path:
    """The model folder of a run folder, or the folder itself."""
    path = Path(path)
    return path / "model" if (path / "model").is_dir() else path


def ours(root: Path) -> bool:
    """Whether a model folder was written here: one encoder, or a folder for each."""
    return (root / model_folder.CARD).exists() or bool(parts(root))


def parts(root: Path) -> list[Path]:
    """The folders of a model of several encoders; one that a killed process was writing has a name with a dot."""
    return sorted(p.parent for p in root.glob(f"[!.]*/{model_folder.CARD}"))


def load_towers(path: Path | str) -> dict[str, Encoder]:
    """The encoders of a run folder or a model folder, by modality."""
    root = model_path(path)
    if not root.is_dir():
        raise ModelError(f"There is no model folder {path}. Give the folder that `counterpoint fit --out` wrote.")
    if (root / "config.json").exists() and any((root / name).is_dir() for name in ("checkpoints", "start")):
        raise ModelError(f"The run in {path} has no model yet. Finish it first: counterpoint fit --out {path} --resume")
    if not (root / model_folder.CARD).exists() and (found := parts(root)):
        return {p.name: model_folder.load(p) for p in found}
    encoder = model_folder.load(root)
    return {encoder.modality: encoder}


def load(path: Path | str, stream: str | None = None) -> Encoder:
    """The encoder of a run folder, a model folder, or any sentence-transformers or transformers folder.

    stream: which tower, where there are several (``text``, ``image``).
    """
    towers = load_towers(path)
    if stream is None and len(towers) == 1:
        return next(iter(towers.values()))
    if stream is None:
        raise ModelError(f"{path} holds the towers {', '.join(towers)}. Name one of them with --stream (stream=).")
    if stream not in towers:
        raise ModelError(f"{path} encodes {' and '.join(towers)}, not {stream}.")
    return towers[stream]


def language_model(path: Path | str) -> CausalLM:
    """The causal language model of a run folder, a model folder, a transformers folder, or a hub id."""
    root = model_path(path)
    if not (ours(root) or (root / "checkpoints").is_dir()):
        return CausalLM.from_pretrained(path)
    encoder = load(path, TEXT)
    if not isinstance(encoder, CausalLM):
        raise ModelError(
            f"{path} holds a {type(encoder).__name__}, which gives embeddings and cannot write. Give a causal language "
            "model, such as GPT-2, or what a method that trains one has written."
        )
    return encoder


def writer(path: Path | str) -> CausalLM | Seq2SeqLM:
    """What can answer prompts: as `language_model`, or a folder or hub id of a model with an encoder and a decoder."""
    root = model_path(path)
    if ours(root) or (root / "checkpoints").is_dir():
        return language_model(path)
    folder = pretrained.locate(path)
    return Seq2SeqLM.from_pretrained(folder) if pretrained.writes_apart(folder) else CausalLM.from_pretrained(folder)


def save_towers(towers: Mapping[str, Encoder], folder: Path) -> None:
    """One encoder: the folder itself is its model folder. Several: a folder each, named by stream."""
    for stream, encoder in towers.items():
        model_folder.save(encoder, folder if len(towers) == 1 else folder / stream)
