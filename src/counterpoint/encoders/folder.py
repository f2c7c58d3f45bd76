"""Model folders: one layout that Counterpoint, sentence-transformers and transformers all read.

``counterpoint.json`` says the encoder's kind, configuration and version; the encoder writes its own files; where
sentence-transformers has modules for it, ``modules.json`` names them. Weights are safetensors, never pickles.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from counterpoint._version import __version__
from counterpoint.encoders import layout, modules, pretrained
from counterpoint.encoders.base import Encoder, find
from counterpoint.encoders.border import expect, read_object, reading, shortened
from counterpoint.encoders.layout import Stage, write_json
from counterpoint.encoders.lora import merged
from counterpoint.encoders.staged import staged
from counterpoint.errors import ModelError
from counterpoint.files import new_folder
from counterpoint.modalities.text import TEXT

CARD = "counterpoint.json"


def save(encoder: Encoder, folder: Path | str) -> None:
    """Write a model folder. It appears whole or not at all: a model that was there before survives a failed write.

    encoder: of any class. folder: made where it is missing.

    >>> from counterpoint.encoders.vectors import VectorConfig, Vectors
    >>> encoder = Vectors(VectorConfig(features=4, dim=2))
    >>> save(encoder, "model")
    >>> bool((load("model").encode([[1.0, 2, 3, 4]]) == encoder.encode([[1.0, 2, 3, 4]])).all())
    True
    """
    folder = Path(folder)
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with new_folder(folder) as aside:
            _write(encoder, aside)
            layout.like(aside, aside / CARD)
            _sync(aside)
    except OSError as error:
        raise ModelError(
            f"The model could not be written to {folder}: {error}. What was there before is untouched."
        ) from error


def load(folder: Path | str) -> Encoder:
    """The encoder of a folder: Counterpoint's own, or any text model of sentence-transformers or transformers.

    Every setting of a sentence-transformers folder is followed or refused by its name; see `encoders.modules`.
    Raises `ModelError` for a folder that is damaged, naming the file.

    folder: that `save` wrote, or another library.

    >>> from counterpoint.encoders.static import StaticText
    >>> save(StaticText.example(), "model")
    >>> load("model").encode("a cat").shape
    (16,)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder}.")
    with reading(folder):
        encoder = _ours(folder) if (folder / CARD).exists() else _theirs(folder)
    encoder.origin = str(folder)
    if encoder.similarity != "cosine" and not (encoder.similarity == "dot" and encoder.normalize):
        warnings.warn(
            f"The embeddings of {folder} are meant to be compared by {encoder.similarity} (similarity_fn_name). "
            "Counterpoint's search, eval and mine compare by the cosine; compare the embeddings yourself, or train the "
            "model for the cosine.",
            stacklevel=2,
        )
    return encoder.eval()


def _ours(folder: Path) -> Encoder:
    """The encoder that the card describes."""
    path = folder / CARD
    held = read_object(path)
    if missing := sorted({"kind", "config"} - set(held)):
        raise ModelError(f"{path} does not say the {' and '.join(missing)} of the encoder; save the model again.")
    kind, config = (expect(held[key], of, f"{path}, {key!r},") for key, of in (("kind", str), ("config", dict)))
    prompts = expect(held.get("prompts") or {}, dict, f"{path}, 'prompts',")
    for name, text in prompts.items():
        expect(text, str, f"{path}, the prompt {name!r},")
    with layout.bounded(folder):
        encoder = find(kind).read(folder, config)
    encoder.normalize = expect(held.get("normalize", True), bool, f"{path}, 'normalize',")
    if prompts:
        encoder.prompts = prompts
    if (default := held.get("default_prompt")) is not None:
        encoder.default_prompt = expect(default, str, f"{path}, 'default_prompt',")
        encoder.prompt(None)
    encoder.similarity = expect(held.get("similarity", "cosine"), str, f"{path}, 'similarity',")
    if "dim" in held and held["dim"] != encoder.dim:
        raise ModelError(
            f"{path} says dim={shortened(held['dim'])}, and its encoder gives {encoder.dim}: the folder is "
            "damaged. Save the model again."
        )
    return encoder


def _theirs(folder: Path) -> Encoder:
    """The encoder of a folder of sentence-transformers or transformers."""
    from counterpoint.encoders.static import StaticText
    from counterpoint.encoders.text import TextTransformer

    if not (folder / modules.LISTING).exists() or modules.listed(folder)[0][0] != "StaticEmbedding":
        found = pretrained.read(folder)
        transformer = TextTransformer.of(found)
        return transformer if found.said is None else staged(transformer, found.said.stages)
    said = modules.read(folder)
    encoder = StaticText.from_sentence_transformers(said.first)
    encoder.prompts, encoder.default_prompt = dict(said.prompts), said.default_prompt
    encoder.similarity = said.similarity
    return staged(encoder, said.stages)


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
        modules.write(
            folder,
            stages,
            prompts=encoder.prompts,
            default_prompt=encoder.default_prompt,
            similarity=encoder.similarity,
        )
    write_json(
        folder / CARD,
        {
            "kind": encoder.kind,
            "modality": encoder.modality,
            "dim": encoder.dim,
            "normalize": encoder.normalize,
            "prompts": dict(encoder.prompts),
            "default_prompt": encoder.default_prompt,
            "similarity": encoder.similarity,
            "config": asdict(encoder.config),
            "version": __version__,
        },
    )
    (folder / "README.md").write_text(_readme(encoder, stages), encoding="utf-8")


def _readme(encoder: Encoder, stages: Sequence[Stage]) -> str:
    weights = sum(p.numel() for p in encoder.parameters())
    header = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"] if stages else []
    item = '["a text"]' if encoder.modality == TEXT else f"[a_{encoder.modality}]"
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
        default = ", put also where no role is named" if role == encoder.default_prompt else ""
        lines += ["", f"Prompt of the role `{role}`{default}: `{prompt}`"] if prompt else []
    return "\n".join(lines) + "\n"


def check_replaceable(folder: Path) -> None:
    """Refuse to write a model over something else.

    folder: that is asked for.
    """
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
