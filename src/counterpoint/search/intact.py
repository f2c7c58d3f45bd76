"""Whether the files of an index are what an index has: each fault is a sentence with the file and what to type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from counterpoint.errors import CounterpointError, ModelError
from counterpoint.search.hybrid import Share
from counterpoint.search.quantise import DTYPES, Dtype, Vectors

READABLE = (1, 2)
RANGES = {"embeddings": "ranges", "full": "full-ranges"}
_READ = ("rows.parquet", "bm25.json", *(f"{name}.npy" for name in RANGES.values()))
"""Files that are read whole when an index is opened, so their checksums cost little."""
_STORED = {"float32": "float32", "float16": "float16", "int8": "int8", "binary": "int8", "ubinary": "uint8"}

_Check = Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _dtype(value: Any) -> bool:
    return isinstance(value, str) and value in DTYPES


def _files(value: Any) -> bool:
    sizes = [held.get("bytes") if isinstance(held, dict) else None for held in value.values()] if _object(value) else []
    return bool(sizes) and all(isinstance(size, int) for size in sizes)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


_KEYS: dict[str, tuple[_Check, str]] = {
    "rows": (_whole, "a number from 1"),
    "dim": (_whole, "a number from 1"),
    "dtype": (_dtype, f"one of {', '.join(DTYPES)}"),
    "text": (_name, "the name of a column, or null"),
    "bm25": (_flag, "true or false"),
    "ann": (_flag, "true or false"),
    "model": (_name, "a path, or null"),
    "files": (_files, "the size of each file in bytes"),
}
_LATER: dict[str, tuple[_Check, str]] = {
    "width": (_whole, "a number from 1"),
    "rescore": (lambda value: value is None or _dtype(value), f"one of {', '.join(DTYPES)}, or null"),
    "oversample": (_whole, "a number from 1"),
    "hybrid": (_object, "an object"),
    "items": (_object, "an object"),
}
"""Keys that indexes of the first versions lack."""


def again(folder: Path) -> str:
    """What to type where an index cannot be used.

    folder: of the index.
    """
    return f"Build it again: counterpoint index MODEL DATA --out {folder} --overwrite"


def damaged(folder: Path, what: str) -> ModelError:
    """what: a clause that names the file.

    folder: of the index.
    """
    return ModelError(f"The index {folder} is damaged: {what}. {again(folder)}")


@contextmanager
def reading(folder: Path, name: str) -> Iterator[None]:
    """Whatever goes wrong while a file of the index is read becomes a sentence that names it.

    folder: of the index. name: of the file.
    """
    try:
        yield
    except CounterpointError as error:
        raise ModelError(f"{error} {again(folder)}") from error
    except Exception as error:  # readers of foreign files raise all sorts of errors on damaged ones
        raise damaged(folder, f"{name} cannot be read ({type(error).__name__}: {str(error)[:200]})") from error


def settings(folder: Path) -> dict[str, Any]:
    """What ``index.json`` holds, every key of the type that it must have. Raises ModelError.

    folder: of the index.
    """
    file = folder / "index.json"
    if not file.is_file():
        raise ModelError(f"{folder} is not an index (it has no index.json). Build one: counterpoint index --help")
    with reading(folder, "index.json"):
        held = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(held, dict):
        raise damaged(folder, f"index.json holds {str(held)[:80]!r} and no settings")
    if held.get("format") not in READABLE:
        raise ModelError(
            f"The index {folder} has format {str(held.get('format'))[:80]}, this version of counterpoint reads format "
            f"{READABLE[0]} to {READABLE[-1]}. {again(folder)}"
        )
    for key, (fits, expected) in (_KEYS | {k: rule for k, rule in _LATER.items() if k in held}).items():
        if key not in held or not fits(held[key]):
            said = f"says {key}={str(held[key])[:80]!r}" if key in held else f"does not say {key}"
            raise damaged(folder, f"index.json {said}; expected {expected}")
    if held.get("rescore") and not {"width", "oversample"} <= set(held):
        raise damaged(folder, "index.json says rescore, but not width and oversample, which go with it")
    if held.get("width", held["dim"]) < held["dim"]:
        raise damaged(folder, f"index.json says dim={held['dim']}, which is more than width={held['width']}")
    if "hybrid" in held:
        with reading(folder, "index.json"):
            Share.from_json(held["hybrid"], where=f"{file}, at the key 'hybrid',")
    return held


def check_files(folder: Path, files: dict[str, dict[str, Any]], *, spared: str) -> None:
    """Raise ModelError for a file that is missing or not as it was written, but for one that can be done without.

    Files that are mapped, not read, are known by their size alone.

    folder: of the index. files: name -> size and checksum. spared: the name of the one.
    """
    for name, held in files.items():
        if name != spared and (state := changed(folder / name, held, checksum=Path(name).name in _READ)):
            raise damaged(folder, f"{name} {state}")


def changed(file: Path, held: dict[str, Any], *, checksum: bool = True) -> str:
    """How a file differs from what was written: '' where it does not. checksum: read it all, where its checksum is
    known.

    file: its path. held: its size and checksum as they were written.
    """
    if not file.is_file():
        return "is missing"
    if file.stat().st_size != held["bytes"]:
        return "is cut short or changed"
    known = held.get("sha256")
    return "has changed" if checksum and known is not None and known != sha256(file) else ""


def may_write(folder: Path, overwrite: bool) -> None:
    """Raise ModelError where a folder is no place for an index: it holds other things, or an index that shall stay.

    folder: that is asked for. overwrite: an index there is to be replaced.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "index.json").is_file():
        raise ModelError(f"{folder} exists and is not an index, so it is left alone. Choose another folder.")
    if not overwrite:
        raise ModelError(
            f"{folder} holds an index already. Choose another folder, or pass overwrite=True (--overwrite)."
        )


def sha256(file: Path) -> str:
    """Hexadecimal checksum of what a file holds."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def vectors(folder: Path, name: str, dtype: Dtype, *, rows: int, dim: int) -> Vectors:
    """Vectors of an index, their codes mapped from the file. name: ``embeddings`` or ``full``.

    folder: of the index. dtype: of the codes. rows, dim: how many there must be.
    """
    width, ranges = -(-dim // 8) if dtype in ("binary", "ubinary") else dim, f"{RANGES[name]}.npy"
    codes = array(folder, f"{name}.npy", _STORED[dtype], (rows, width), mapped=True)
    held = array(folder, ranges, "float32", (2, dim)) if (folder / ranges).exists() else None
    return Vectors(codes, dtype, dim, held)


def table(folder: Path, *, rows: int, text: str | None) -> pa.Table:
    """The rows of an index. text: a column that they must have.

    folder: of the index. rows: how many there must be.
    """
    with reading(folder, "rows.parquet"):
        found = pq.read_table(folder / "rows.parquet", memory_map=True)
    if len(found) != rows or (text is not None and text not in found.column_names):
        has = f"{len(found):,} rows of {', '.join(found.column_names)}"
        raise damaged(folder, f"rows.parquet has {has}; expected {rows:,} with {text or 'any columns'}")
    return found


def array(folder: Path, name: str, dtype: str, shape: tuple[int, ...], *, mapped: bool = False) -> np.ndarray:
    """An array of exactly this type and shape. Nothing is unpickled.

    folder: of the index. name: of the file, without its suffix. dtype: of the numbers. shape: it must have. mapped:
    left on disk.
    """
    with reading(folder, name):
        # Mode "c" (copy on write): nothing is ever written, but torch wants arrays that could be.
        found = np.load(folder / name, mmap_mode="c" if mapped else None, allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.dtype != dtype or found.shape != shape:
        what = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "no array"
        raise damaged(folder, f"{name} holds {what}; expected {dtype} of shape {shape}, as index.json says")
    return found
