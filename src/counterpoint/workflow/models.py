"""Encoders: built from a configuration, loaded from folders, saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from counterpoint.data.bags import Bags
from counterpoint.data.cells import Columns
from counterpoint.data.graph import Nodes
from counterpoint.data.rows import Rows
from counterpoint.data.schema import RowSet
from counterpoint.data.series import Windows
from counterpoint.data.stream import Stream
from counterpoint.decode.seq2seq import Seq2SeqLM
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders import pretrained
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.encoders.dna import DnaTransformer, DnaTransformerConfig
from counterpoint.encoders.graph import GAT, GCN, GATConfig, GCNConfig
from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.encoders.nodes import NodeMLP, NodeMLPConfig
from counterpoint.encoders.residual import ResidualText, ResidualTextConfig
from counterpoint.encoders.series import BACKBONES, SeriesConfig, SeriesEncoder, of_series
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.encoders.vectors import VectorConfig, Vectors
from counterpoint.errors import ConfigError, ModelError

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

VOCABULARY_FROM = 200_000
"""Texts that a vocabulary is learned from, at most."""
COLUMNS_FROM = 10_000
"""Rows that the columns of a table are learned from, at most."""


def build_encoder(config: Any, texts: Iterator[str]) -> Encoder:
    """A fresh encoder from its configuration; text encoders learn their vocabulary from `texts`."""
    match config:
        case ResidualTextConfig():
            return ResidualText.from_texts(texts, config)
        case StaticTextConfig():
            return StaticText.from_texts(texts, config)
        case TextTransformerConfig():
            return TextTransformer.from_texts(texts, config)
        case DnaTransformerConfig():
            return DnaTransformer.from_texts(texts, config)
        case KmerBagConfig():
            return KmerBag(config)
        case CausalLMConfig():
            return CausalLM.from_texts(texts, config)
        case ConvNetConfig():
            return ConvNet(config)
        case ImageTransformerConfig():
            return ImageTransformer(config)
        case AudioTransformerConfig():
            return AudioTransformer(config)
        case GATConfig():
            return GAT(config)
        case GCNConfig():
            return GCN(config)
        case NodeMLPConfig():
            return NodeMLP(config)
        case VectorConfig():
            return Vectors(config)
        case TableTransformerConfig():
            return TableTransformer(config)
        case SeriesConfig():
            return SeriesEncoder(config)
        case _:
            raise ConfigError(f"{type(config).__name__} is no configuration of an encoder.")


def fresh_config(modality: str, choice: str, recipe: Any, *, smoke: bool) -> Any:
    """The configuration of ``static`` or ``transformer``: the recipe's where it is one, else the default."""
    if choice == "static" and modality == "text":
        return recipe if isinstance(recipe, StaticTextConfig) else StaticTextConfig(token_dropout=0.3)
    if choice == "transformer" and modality == "text":
        if isinstance(recipe, TextTransformerConfig | CausalLMConfig):
            return recipe
        tiny = TextTransformerConfig(layers=2, width=64, heads=4, vocabulary=2000, max_length=64)
        return tiny if smoke else TextTransformerConfig()
    if choice == "static" and modality == "dna":
        return recipe if isinstance(recipe, KmerBagConfig) else KmerBagConfig()
    if choice == "transformer" and modality == "dna":
        small = DnaTransformerConfig(layers=2, width=128, heads=4, vocabulary=1000, max_length=512, positions="none")
        return recipe if isinstance(recipe, DnaTransformerConfig) else small
    if choice == "transformer" and modality == "table":
        return recipe
    if choice in BACKBONES and isinstance(recipe, SeriesConfig):
        return replace(recipe, backbone=choice)
    if choice == "transformer" and modality == "image":
        return recipe if isinstance(recipe, ImageTransformerConfig) else ImageTransformerConfig()
    raise ConfigError(
        f"--encoder {choice} is an encoder of text, and these rows hold {modality}s. Leave --encoder out, or type "
        "--encoder transformer, or name a model folder."
    )


def suited(config: Any, rows: RowSet | Stream) -> Any:
    """The configuration with what it must know of the rows: how wide their features are, what columns hold."""
    if isinstance(rows, Nodes):
        return replace(config, features=rows.graph.features.shape[1])
    if isinstance(rows, Windows) and isinstance(config, SeriesConfig):
        return of_series(config, rows.series)
    if isinstance(config, TableTransformerConfig) and not (config.categories or config.numbers):
        columns = columns_of(rows)
        return replace(config, categories=columns.categories, numbers=columns.numbers)
    if isinstance(config, VectorConfig) and not config.features:
        first = next(iter(rows)) if isinstance(rows, Rows | Bags) else None
        if first is None:
            raise ConfigError("A stream does not tell the width of its vectors. Give --no-streaming.")
        return replace(config, features=len(first["bag"][0] if "bag" in first else first["vector"]))
    return config


def columns_of(rows: RowSet | Stream) -> Columns:
    """The columns of the table in the rows, as many of them show them."""
    if not isinstance(rows, Rows | Stream):
        raise ConfigError("These rows are no table. Give the encoder its columns: Columns.fit(...).")
    names = list(rows.schema.columns["table"])
    if isinstance(rows, Stream):
        return Columns.fit(rows.values(names, COLUMNS_FROM))
    some = pa.array(np.linspace(0, len(rows) - 1, min(len(rows), COLUMNS_FROM)).astype(np.int64))
    return Columns.fit({name: rows.column(name).take(some).to_pylist() for name in names})


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
    """The encoder of one modality: ``auto`` (the recipe's), ``static``, ``transformer``, or a folder or hub id."""
    recipe = suited(recipe, rows)
    if choice == "auto":
        return build_encoder(recipe, rows.texts(VOCABULARY_FROM)), "recipe"
    if choice in ("static", "transformer") or (modality == "series" and choice in BACKBONES):
        config = fresh_config(modality, choice, recipe, smoke=smoke)
        begins: Beginning = "scratch" if choice == "transformer" else "recipe"
        return build_encoder(config, rows.texts(VOCABULARY_FROM)), begins
    if modality == "text" and isinstance(recipe, CausalLMConfig):
        return language_model(choice), "pretrained"
    if (root := model_path(choice)).is_dir():
        if modality == "text" or ours(root):
            towers = load_towers(choice)
            if modality not in towers:
                raise ConfigError(
                    f"{choice} encodes {' and '.join(towers)}; these rows hold {modality}s. Name another model, or "
                    "leave --encoder out."
                )
            return towers[modality], "pretrained"
    elif modality == "text":
        return model_folder.load(pretrained.locate(choice)), "pretrained"
    return ImageTransformer.from_pretrained(choice), "pretrained"


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
    encoder = load(path, "text")
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
