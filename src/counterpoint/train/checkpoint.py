"""Checkpoints that survive a kill, a full disk and a damaged block.

A checkpoint is a folder: one ``GROUP.safetensors`` per group of tensors, ``state.json``, and ``SHA256SUMS`` over all of
them (``sha256sum -c`` reads it). It is written beside its final name, synced to the disk and renamed, so a folder with
the final name is always whole. Nothing in it is a pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from counterpoint.errors import ModelError
from counterpoint.files import aside_of

_SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Checkpoint:
    """groups: name -> tensors by name (on the CPU). state: what is not a tensor, as JSON.

    path: of the folder.
    """

    path: Path
    groups: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(path: Path, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write a checkpoint to the folder ``path``, whole or not at all; one that stood there before is replaced.

    Raises `ModelError` where it cannot be written; what was there before is then untouched.

    groups: name -> tensors by name. state: what is not a tensor, as JSON can hold it.
    """
    aside = aside_of(path)
    try:
        aside.mkdir(parents=True)
        for name, tensors in groups.items():
            save_file(_separate(tensors), aside / f"{name}.safetensors")
        (aside / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        for file in aside.glob("*.safetensors"):  # otherwise for their owner alone, whatever the umask says
            file.chmod((aside / "state.json").stat().st_mode & 0o777)
        files = sorted(aside.iterdir())
        (aside / _SUMS).write_text("".join(f"{_digest(f)}  {f.name}\n" for f in files), encoding="utf-8")
        for file in (*files, aside / _SUMS, aside):
            _sync(file)
        remove([path] if path.exists() else [])
        aside.rename(path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        bytes_needed = sum(t.nbytes for tensors in groups.values() for t in tensors.values())
        reason = (
            f"the disk is full; it needs {bytes_needed / 1e6:,.1f} MB. Free some space"
            if full
            else f"{error}. See to that folder"
        )
        raise ModelError(
            f"The checkpoint {path} could not be written: {reason}; the checkpoints written before are untouched."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint; `ModelError` says which file is missing or damaged.

    path: of the folder.
    """
    try:
        lines = [line.split("  ", 1) for line in (path / _SUMS).read_text("utf-8").splitlines()]
        sums = {name: digest for digest, name in lines}
        if unlisted := {p.name for p in path.iterdir()} - {*sums, _SUMS}:
            raise ModelError(f"The checkpoint {path} is damaged: {_SUMS} does not list {', '.join(sorted(unlisted))}.")
        for name, digest in sums.items():
            if _digest(path / name) != digest:
                raise ModelError(f"The checkpoint {path} is damaged: {name} does not match its checksum.")
        groups = {n.removesuffix(".safetensors"): load_file(path / n) for n in sums if n.endswith(".safetensors")}
        return Checkpoint(path, groups, json.loads((path / "state.json").read_text("utf-8")))
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"The checkpoint {path} is damaged: {error}.") from error


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint ``step-N`` in ``folder`` that is whole, with a warning for each damaged one passed over.

    None where there never was one; `ModelError` where there are some and all are damaged.
    """
    damage = []
    for path in reversed(numbered(folder, "step")):
        try:
            return load(path)
        except ModelError as error:
            damage.append(str(error))
            warnings.warn(f"{error} Going back to the one before it.", stacklevel=2)
    if damage:
        raise ModelError(
            f"No checkpoint in {folder} can be read. {' '.join(damage)} Start the run again with --overwrite."
        )
    return None


def numbered(folder: Path, kind: str) -> list[Path]:
    """The checkpoints ``KIND-N`` in ``folder``, in the order of N.

    folder: of a run's checkpoints. kind: ``step`` or ``best``.
    """
    found = [p for p in folder.glob(f"{kind}-*") if re.fullmatch(rf"{kind}-\d+", p.name)]
    return sorted(found, key=number)


def number(path: Path) -> int:
    """The number of a checkpoint, from the name of its path."""
    return int(path.name.rpartition("-")[2])


def remove(paths: Iterable[Path]) -> None:
    """Delete checkpoints. Each is renamed first, so that a kill never leaves half of one under its final name.

    paths: of their folders.
    """
    for path in paths:
        aside = path.rename(aside_of(path))
        shutil.rmtree(aside, ignore_errors=True)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, none sharing memory with another: tied weights are written twice and loaded into one."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        value = tensor.detach().to("cpu").contiguous()
        pointer = value.untyped_storage().data_ptr()
        out[name] = value.clone() if pointer in seen else value
        seen.add(pointer)
    return out


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
