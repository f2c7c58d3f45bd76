"""What a bulk job consists of: parquet files cut into units, each unit one file of the output, and the record of both.

A unit is a range of rows of one input file, whose output is written aside and renamed whole. What is done is therefore
what is there: a job that was killed goes on by doing the units whose file is missing. ``_config.json`` in the output
folder holds the settings and the inputs, so that nothing else is ever mixed in; its name begins with ``_`` because
readers of parquet folders pass over such files.
"""

from __future__ import annotations

import fnmatch
import json
import re
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from counterpoint._version import __version__
from counterpoint.errors import ConfigError, DataError
from counterpoint.files import locked

UNIT_ROWS = 2**16
"""Rows of a unit, at most: what a killed worker has to do again, and the size of an output file. Row groups of the
input do not matter: reading past rows of one costs little beside encoding."""

CONFIG = "_config.json"
FORMAT = 1
PART = "part-{:05}-{:05}.parquet"
"""Name of a unit's output: number of the input file, number of the unit in it. It sorts in the order of the rows."""


@dataclass(frozen=True, slots=True)
class Input:
    """A parquet file: where it is (path or URL), its bytes, what tells one version from another, and its rows
    (None: they could not be counted)."""

    path: str
    size: int
    version: str
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows ``start`` to ``stop`` of an input, and the name of the file that holds them with their embeddings."""

    path: str
    start: int
    stop: int
    part: str


@dataclass(frozen=True)
class Plan:
    """The units of a job in the order of the rows, the names of those that are done, and why inputs cannot be read."""

    units: list[Unit]
    done: frozenset[str]
    damaged: dict[str, str]


# --- inputs ----------------------------------------------------------------------------------------------------


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # no such protocol, or a package for it is missing
        raise DataError(f"{url} cannot be reached: {error}") from error
    return fs, path.rstrip("/")


def find(sources: Iterable[str], *, out: str) -> list[Input]:
    """The parquet files that paths, globs, folders and fsspec URLs stand for.

    Raises `DataError` for a source that is not there, and where the output folder lies among the inputs: the next run
    would take its own output for input.
    """
    target, root = filesystem(out)
    inputs: dict[str, Input] = {}
    for source in sources:
        fs, path = filesystem(source)
        inside = f"{root}/{PART.format(0, 0)}"
        if fs.protocol == target.protocol and _matches(fs, path, inside):
            raise DataError(f"--out {out} lies among the inputs ({source}). Give a folder elsewhere.")
        for name, info in _files(fs, path, source).items():
            if fs.protocol == target.protocol and name.startswith(f"{root}/"):
                raise DataError(f"--out {out} holds the input {name}. Give a folder elsewhere.")
            where = name if "file" in _protocols(fs) else fs.unstrip_protocol(name)
            version = next(
                (info[k] for k in ("ETag", "etag", "mtime", "LastModified", "last_modified") if k in info), ""
            )
            inputs.setdefault(where, Input(where, int(info["size"]), str(version)))
    return list(inputs.values())


def first_schema(inputs: Sequence[Input]) -> pa.Schema:
    """The columns of the first input that can be read, dictionary-encoded and view columns as what they mean."""
    why: dict[str, str] = {}
    for one in inputs:
        try:
            return pa.schema([_meant(field) for field in _footer(one.path).schema.to_arrow_schema()])
        except DataError as error:
            why[one.path] = str(error)
    raise DataError("No input can be read. " + " ".join(why.values()))


def _meant(field: pa.Field) -> pa.Field:
    type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, pa.large_string() if type_ == pa.string_view() else type_)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _matches(fs: Any, path: str, file: str) -> bool:
    """Whether a source stands for a file that need not be there yet."""
    if _magic(path):
        return re.fullmatch(glob_translate(path), file) is not None
    return file.startswith(f"{path}/") and not fs.isfile(path)


def _magic(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _files(fs: Any, path: str, source: str) -> dict[str, dict[str, Any]]:
    """Name -> what the store says of it, in the order of the names."""
    if _magic(path) and not fs.exists(path):
        matching = fs.glob(path, detail=True)
        found = {name: matching[name] for name in sorted(matching) if matching[name]["type"] == "file"}
        if not found:
            raise DataError(f"No file matches {source!r}.")
    elif fs.isdir(path):
        inside = fs.find(path, detail=True)
        parts = {name: name.removeprefix(path).strip("/").split("/") for name in sorted(inside)}
        shown = [name for name, steps in parts.items() if not any(step[:1] in (".", "_") for step in steps)]
        found = {name: inside[name] for name in shown if name.lower().endswith(".parquet")}
        if not found:
            raise DataError(f"The folder {source} holds no parquet files. Into a folder, parquet files are encoded.")
    elif fs.exists(path):
        found = {path: fs.info(path)}
    else:
        raise DataError(f"There is no file or folder {source!r}. Check the path.")
    if other := [name for name in found if not name.lower().endswith(".parquet")]:
        raise DataError(
            f"{other[0]} ({source}) is no parquet file. Into a folder, parquet files are encoded; other rows into one "
            "file: end --out with .parquet or .npy."
        )
    return found


def _footer(path: str) -> pq.FileMetaData:
    try:
        fs, name = filesystem(path)
        with fs.open(name, "rb") as file:
            return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        first = str(error).strip().splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as parquet ({first}).") from error


# --- the output folder -----------------------------------------------------------------------------------------


def prepare(
    inputs: Sequence[Input], out: str, *, settings: dict[str, Any], overwrite: bool = False, unit_rows: int = UNIT_ROWS
) -> Plan:
    """The units of a job and its record in the output folder, which is made, continued or, where asked, begun anew.

    A file keeps its number for ever, so that the name of a unit never changes. Raises `ConfigError` where the folder
    holds embeddings made otherwise or of other inputs, or something else.
    """
    fs, root = filesystem(out)
    fs.invalidate_cache()
    if fs.isfile(root):
        raise ConfigError(f"--out {out} is a file; name a folder.")
    names = {name.rsplit("/", 1)[-1] for name in fs.ls(root, detail=False)} if fs.isdir(root) else set()
    done = frozenset(fnmatch.filter(names, "part-*.parquet"))
    held = _held(fs, root, names, overwrite=overwrite)
    known: list[Input] = []
    if held is not None:
        _same_settings(out, held["settings"], settings)
        unit_rows, known = held["unit_rows"], [Input(**one) for one in held["inputs"]]
        known = _same_inputs(out, known, inputs, done)
    asked = {one.path for one in inputs}
    listed, damaged = _counted(known or list(inputs), asked)
    rows = [one.rows for one in listed if one.path in asked and one.rows is not None]
    if not rows:
        raise DataError("No input can be read. " + " ".join(damaged.values()))
    if not sum(rows) and not damaged:
        raise DataError(f"The inputs hold no rows ({len(rows)} files, the first of them {listed[0].path}).")
    tidy(out)
    if held is None:  # before the new record is written: parts of then never stand beside it
        for name in done:
            fs.rm_file(f"{root}/{name}")
        done = frozenset()
    now = {"format": FORMAT, "counterpoint": __version__, "settings": settings, "unit_rows": unit_rows}
    _write_config(fs, root, {**now, "inputs": [asdict(one) for one in listed]})
    units = [
        Unit(one.path, start, min(start + unit_rows, one.rows), PART.format(number, start // unit_rows))
        for number, one in enumerate(listed)
        if one.path in asked and one.rows is not None
        for start in range(0, max(one.rows, 1), unit_rows)  # a file without rows is a part without rows
    ]
    return Plan(units, done, damaged)


def alone(out: str) -> AbstractContextManager[None]:
    """Inside, no other process of this machine works on a job in this folder; other stores know no such locks."""
    fs, root = filesystem(out)
    return locked(Path(root)) if "file" in _protocols(fs) else nullcontext()


def tidy(out: str) -> None:
    """Remove what killed workers left half-written."""
    fs, root = filesystem(out)
    fs.invalidate_cache()
    for name in fs.ls(root, detail=False) if fs.isdir(root) else ():
        if name.rsplit("/", 1)[-1].startswith(".part-"):
            fs.rm_file(name)


def _held(fs: Any, root: str, names: set[str], *, overwrite: bool) -> dict[str, Any] | None:
    """The record of the job that wrote into the folder; None for a folder to begin with."""
    if CONFIG not in names:
        if others := sorted(n for n in names if not n.startswith(".part-")):
            raise ConfigError(
                f"The folder {root} holds other things than a job of `encode` ({', '.join(others[:3])}). Name another."
            )
        return None
    if overwrite:
        return None
    try:
        held: dict[str, Any] = json.loads(fs.cat_file(f"{root}/{CONFIG}"))
        readable = held["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        readable = False
    if not readable:
        raise ConfigError(f"{root}/{CONFIG} is damaged or of another version. Add --overwrite to begin anew.")
    return held


def _same_settings(out: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    if before["model"] != now["model"]:
        raise ConfigError(
            f"{out} holds embeddings of another model, or of this one before it was trained further. Add --overwrite "
            "to replace them, or name another folder."
        )
    if differ := [f"{k} was {before.get(k)} and is {v}" for k, v in now.items() if before.get(k) != v]:
        raise ConfigError(
            f"{out} holds embeddings made with other settings: {'; '.join(differ)}. Give the settings of then, add "
            "--overwrite to replace them, or name another folder."
        )


def _same_inputs(out: str, before: list[Input], now: Sequence[Input], done: Iterable[str]) -> list[Input]:
    """The inputs of the job. One of which nothing is done yet may have been repaired or removed."""
    current = {one.path: one for one in now}
    begun = {int(name.split("-")[1]) for name in done}
    known = {one.path for one in before}
    new = [f"{path} is new" for path in current if path not in known]
    listed = []
    for number, one in enumerate(before):
        found = current.get(one.path)
        if found is None and number in begun:
            new.append(f"{one.path}, from which part-{number:05}-*.parquet was written, is missing")
        elif found is not None and replace(found, rows=one.rows) != one:
            if number in begun:
                new.append(f"{one.path} has changed since part-{number:05}-*.parquet was written")
            one = found
        listed.append(one)
    if new:
        more = f" and {len(new) - 3:,} more" if len(new) > 3 else ""
        raise ConfigError(
            f"{out} holds embeddings of other inputs: {', '.join(new[:3])}{more}. Give the inputs of then; or "
            "remove the parts that were written from others; or add --overwrite to begin anew; or name another folder."
        )
    return listed


def _counted(inputs: list[Input], asked: set[str]) -> tuple[list[Input], dict[str, str]]:
    """The inputs with their rows, and why some have none to count."""
    damaged: dict[str, str] = {}

    def counted(one: Input) -> Input:
        if one.rows is not None or one.path not in asked:
            return one
        try:
            return replace(one, rows=_footer(one.path).num_rows)
        except DataError as error:
            damaged[one.path] = str(error)
            return one

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(counted, inputs)), damaged


def _write_config(fs: Any, root: str, content: dict[str, Any]) -> None:
    fs.makedirs(root, exist_ok=True)
    aside = f"{root}/.part-{CONFIG}.{uuid.uuid4().hex[:8]}"
    fs.pipe_file(aside, json.dumps(content, indent=1).encode())
    fs.mv(aside, f"{root}/{CONFIG}")
