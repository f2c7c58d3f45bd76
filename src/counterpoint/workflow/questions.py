"""What asks an index: items of any modality, read from words and files, and the encoder of them.

A text is encoded without torch where that can be done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoint.encoders.query import StaticQueries
from counterpoint.errors import DataError, ModelError
from counterpoint.modalities.base import JOINED, Modality, of
from counterpoint.modalities.series import SERIES
from counterpoint.modalities.text import TEXT
from counterpoint.search.index import Encodes


def encoder_for(model: Path, modality: str = TEXT) -> Encodes:
    """What encodes the questions to an index that this model folder (or run folder) made.

    modality: of the questions. Raises `ModelError` where the folder is none, or holds no encoder of such items.
    """
    root = model / "model" if (model / "model").is_dir() else model
    if modality == TEXT:
        for folder in (root, root / modality):
            if (light := StaticQueries.read(folder)) is not None:
                return light
    from counterpoint.workflow.models import load_towers  # here, as it imports torch

    towers = load_towers(model)
    found = next((encoder for encoder in towers.values() if encoder.modality == modality), None)
    if found is None:
        known = [encoder.modality for encoder in towers.values()]
        ways = " or ".join(f"--{name}" if JOINED not in name else f"--item {name}=JSON" for name in known)
        raise ModelError(
            f"The model that built the index encodes {' and '.join(of(name).many for name in known)}, not "
            f"{of(modality).many}. Ask it with {ways}."
        )
    return found


def weights(model: Path | str) -> str:
    """SHA-256 over the weights of a run folder or model folder, by which an index knows the model that built it."""
    root, total = Path(model), hashlib.sha256()
    root = root / "model" if (root / "model").is_dir() else root
    for path in sorted(root.rglob("*.safetensors")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_item(name: str, value: Any) -> Any:
    """An item to search for.

    name: of its modality. value: the path of its file, JSON of its numbers or cells, its letters; or the item itself.
    Raises `DataError` for a file that is not there or damaged and for what is no JSON, `ConfigError` for a modality
    that there is not.
    """
    modality = of(name)
    if modality.shape == "whole":
        if modality.columns == "several":
            return value  # what it is depends on the model, see `item_for`
        raise DataError(f"An index cannot be asked with {modality.one}, which is a part of a whole.")
    if JOINED in name:
        cells = _json(modality, value) if isinstance(value, str) else value
        parts = name.split(JOINED)
        if not isinstance(cells, Mapping) or any(part not in cells for part in parts):
            raise DataError(f"{modality.one.capitalize()} is asked for as a JSON object with {' and '.join(parts)}.")
        return {part: read_item(part, cells[part]) for part in parts}
    if isinstance(value, str | Path):
        if modality.suffixes:
            value = _file(modality, value)
        elif not modality.written:
            value = _json(modality, str(value))
    elif modality.suffixes and not isinstance(value, bytes | Mapping):
        return value  # decoded already
    said = f"The {modality.noun} {str(value)[:80]!r}"
    if modality.columns == "several" and not isinstance(value, Mapping):
        raise DataError(f"{said} is no JSON object of columns and cells.")
    try:
        if modality.empty(value):
            raise DataError("holds nothing")
        return modality.item(value, {})
    except (OSError, DataError) as error:
        raise DataError(f"{said} {str(error).strip()}.".replace("..", ".")) from error


def item_for(encoder: Encodes, item: Any) -> Any:
    """An item that was read, as this encoder takes it: of a series, whose encoder knows how long its windows are, the
    window."""
    if getattr(encoder, "modality", TEXT) != SERIES:
        return item
    from counterpoint.workflow.series import window_from  # here, as it imports torch

    return window_from(encoder, item)  # type: ignore[arg-type]  # of this modality it is an encoder


def _file(modality: Modality, value: str | Path) -> str:
    path = Path(value).expanduser()
    if not path.is_file():
        raise DataError(f"There is no file {str(value)!r} (seen from {Path.cwd()}) that could hold {modality.one}.")
    return str(path)


def _json(modality: Modality, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        form = "an object of columns and cells" if modality.columns == "several" else "a list of numbers"
        form = form if JOINED not in modality.name else "an object"
        raise DataError(
            f"{value[:80]!r} is no JSON, as which {modality.one} is given: {form}, in quotes ({error})."
        ) from error
