"""The files of a model folder: weights without pickles, configurations as JSON, sentence-transformers' modules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from counterpoint.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One module of sentence-transformers' ``modules.json``. type: its class there. path: its folder, '' = the root."""

    type: str
    path: str


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({error}). The model folder is damaged or incomplete."
        ) from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Tensors to safetensors; those that share memory are written apart."""
    save_file({k: v.detach().cpu().clone().contiguous() for k, v in weights.items()}, path, {"format": "pt"})


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The weights {path} cannot be read: {error}. The file is missing, damaged or incomplete."
        ) from error


def refuse_pickles(folder: Path) -> None:
    """A folder of weights that only pickle can read is refused: loading a pickle runs the code inside it."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt") for p in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder} holds its weights as a pickle ({', '.join(pickles)}), and loading a pickle runs the code in "
            "it, so Counterpoint never does. If you trust the file, convert it where that is safe and load the result: "
            'python -c "from transformers import AutoModel; '
            f'AutoModel.from_pretrained({str(folder)!r}, use_safetensors=False).save_pretrained({str(folder)!r})"'
        )
    raise ModelError(f"{folder} holds no weights: expected model.safetensors.")


def revive(cls: type, values: Mapping[str, Any]) -> Any:
    """A configuration from JSON: lists become tuples where the dataclass says so; unknown fields are an error."""
    known, hints = {f.name for f in fields(cls)}, get_type_hints(cls)
    if unknown := sorted(set(values) - known):
        raise ModelError(
            f"The model's {cls.__name__} holds {', '.join(map(repr, unknown))}, which this version of Counterpoint "
            "does not know. The folder was written by another version: upgrade Counterpoint."
        )
    return cls(**{k: tuple(v) if get_origin(hints[k]) is tuple else v for k, v in values.items()})


def write_modules(folder: Path, stages: Sequence[Stage], *, prompts: Mapping[str, str]) -> None:
    """``modules.json`` and ``config_sentence_transformers.json``."""
    rows = [{"idx": i, "name": str(i), "path": s.path, "type": s.type} for i, s in enumerate(stages)]
    write_json(folder / "modules.json", rows)
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": dict(prompts), "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def read_modules(folder: Path) -> list[tuple[str, Path]]:
    """(class name, its folder) of each sentence-transformers module, in order; empty where there is no list."""
    if not (folder / "modules.json").exists():
        return []
    found = []
    for row in read_json(folder / "modules.json"):
        path = (folder / row["path"]).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ModelError(f"{folder}/modules.json names a path outside the folder: {row['path']!r}.")
        found.append((row["type"].rpartition(".")[2], path))
    return found


def read_prompts(folder: Path) -> dict[str, str]:
    """The prompts a sentence-transformers folder holds, by name."""
    path = folder / "config_sentence_transformers.json"
    prompts = read_json(path).get("prompts") or {} if path.exists() else {}
    return {name: text for name, text in prompts.items() if text}
