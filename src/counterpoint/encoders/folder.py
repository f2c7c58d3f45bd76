"""Model folders: one layout that Counterpoint, sentence-transformers and transformers all read.

``counterpoint.json`` says the encoder's kind, configuration and version; the encoder writes its own files; where
sentence-transformers has modules for it, ``modules.json`` names them. Weights are safetensors, never pickles.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from counterpoint._version import __version__
from counterpoint.encoders.base import Encoder, find
from counterpoint.encoders.layout import Stage, read_json, read_modules, write_json, write_modules
from counterpoint.encoders.lora import merged
from counterpoint.errors import ModelError
from counterpoint.files import whole_folder

CARD = "counterpoint.json"


def save(encoder: Encoder, folder: Path | str) -> None:
    """Write a model folder. It appears whole or not at all: a model that was there before survives a failed write."""
    folder = Path(folder)
    _check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        _write(encoder, aside)
        _sync(aside)
        whole_folder(folder, aside)
    except OSError as error:
        raise ModelError(
            f"The model could not be written to {folder}: {error}. What was there before is untouched."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(folder: Path | str) -> Encoder:
    """The encoder of a folder: Counterpoint's own, or any text model of sentence-transformers or transformers."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder}.")
    if (folder / CARD).exists():
        held = read_json(folder / CARD)
        try:
            kind, config = held["kind"], held["config"]
        except (TypeError, KeyError) as error:
            raise ModelError(
                f"{folder / CARD} says neither kind nor config of the encoder; save the model again."
            ) from error
        encoder = find(kind).read(folder, config)
        encoder.normalize = bool(held.get("normalize", True))
        if prompts := held.get("prompts"):
            encoder.prompts = dict(prompts)
    elif [name for name, _ in read_modules(folder)][:1] == ["StaticEmbedding"]:
        encoder = _static(folder)
    else:
        from counterpoint.encoders.text import TextTransformer

        encoder = TextTransformer.from_pretrained(folder)
    return encoder.eval()


def _write(encoder: Encoder, folder: Path) -> None:
    if not encoder.kind:
        raise ModelError(f"{type(encoder).__name__} has no `kind`, the name a folder knows it by; give the class one.")
    encoder = merged(encoder)
    stages = encoder.write(folder)
    if stages:
        if encoder.normalize:
            path = f"{len(stages)}_Normalize"
            (folder / path).mkdir()
            stages = [*stages, Stage(type="sentence_transformers.models.Normalize", path=path)]
        write_modules(folder, stages, prompts=encoder.prompts)
    write_json(
        folder / CARD,
        {
            "kind": encoder.kind,
            "modality": encoder.modality,
            "dim": encoder.dim,
            "normalize": encoder.normalize,
            "prompts": dict(encoder.prompts),
            "config": asdict(encoder.config),
            "version": __version__,
        },
    )
    (folder / "README.md").write_text(_readme(encoder, stages), encoding="utf-8")


def _readme(encoder: Encoder, stages: Sequence[Stage]) -> str:
    weights = sum(p.numel() for p in encoder.parameters())
    header = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"] if stages else []
    item = '["a text"]' if encoder.modality == "text" else f"[a_{encoder.modality}]"
    lines = [
        "---",
        *header,
        "tags: [counterpoint, feature-extraction]",
        "---",
        f"# A {encoder.modality} encoder",
        "",
        f"A `{encoder.kind}` of Counterpoint {__version__}: {weights:,} weights, {encoder.dim}-wide embeddings, "
        + ("unit length." if encoder.normalize else "not normalised."),
        "",
        "```python",
        "from counterpoint.encoders.folder import load",
        "",
        f"embeddings = load(FOLDER).encode({item})  # numpy, (1, {encoder.dim})",
        "```",
    ]
    if stages:
        lines += [
            "",
            "The same embeddings without Counterpoint:",
            "",
            "```python",
            "from sentence_transformers import SentenceTransformer",
            "",
            f"embeddings = SentenceTransformer(FOLDER).encode({item})",
            "```",
        ]
    for role, prompt in encoder.prompts.items():
        lines += ["", f"Prompt of the role `{role}`: `{prompt}`"]
    return "\n".join(lines) + "\n"


def _static(folder: Path) -> Encoder:
    from counterpoint.encoders.layout import read_prompts
    from counterpoint.encoders.static import StaticText

    modules = read_modules(folder)
    names = [name for name, _ in modules]
    if any(name != "Normalize" for name in names[1:]):
        raise ModelError(
            f"{folder} is made of the modules {', '.join(names)}; Counterpoint reads StaticEmbedding and Normalize."
        )
    encoder = StaticText.from_sentence_transformers(modules[0][1])
    encoder.prompts, encoder.normalize = read_prompts(folder), "Normalize" in names
    return encoder


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder} is a file; give the path of a folder.")
    if folder.is_dir() and any(folder.iterdir()):
        marks = (CARD, "modules.json", "config.json")
        if not any((folder / mark).exists() for mark in marks):
            raise ModelError(f"{folder} holds other things than a model; give the path of a new folder.")


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
