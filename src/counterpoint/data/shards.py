"""WebDataset shards: tar files in which the members ``KEY.EXT`` of one KEY are the columns of one row."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from counterpoint.data.formats import PICKLES
from counterpoint.data.images import ARROW, SUFFIXES, damage
from counterpoint.data.log import Log
from counterpoint.errors import DataError

ROWS = 1_000  # per table


def shard_tables(path: Path, log: Log) -> Iterator[pa.Table]:
    """Rows of a shard: ``image`` from image members, ``text`` from .txt, ``label`` from .cls, columns from .json.

    Pickled and unknown members are left out and counted; rows whose image cannot be read are skipped and listed.
    """
    rows: list[dict[str, Any]] = []
    some = False
    for key, members in _samples(path):
        row = _row(path, key, members, log)
        if row is not None:
            rows.append(row)
        if len(rows) == ROWS:
            yield _table(rows)
            some, rows = True, []
    if rows:
        yield _table(rows)
    elif not some:
        raise DataError(f"{path} holds no rows: no members like 000.jpg, 000.txt, 000.cls or 000.json were readable.")


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, extension -> bytes), members of one key lying next to each other. Nothing is unpacked to disk."""
    key = ""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if not member.isfile() or name.name.startswith("."):
                    continue
                stem, _, extension = name.name.partition(".")
                this = str(name.parent / stem)
                if this != key and members:
                    yield key, members
                    members = {}
                key = this
                stream = tar.extractfile(member)
                members[extension.lower()] = b"" if stream is None else stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole tar file ({error}). Copy or write the shard again.") from error
    if members:
        yield key, members


def _row(path: Path, key: str, members: dict[str, bytes], log: Log) -> dict[str, Any] | None:
    row: dict[str, Any] = {"key": key}
    try:
        for extension, data in members.items():
            if "." + extension in SUFFIXES:
                image = {"bytes": data, "path": f"{key}.{extension}"}
                if reason := damage(image, whole=False):
                    log.skip(f"{path.name}:{key}.{extension}", reason)
                    return None
                row["image"] = image
            elif extension in ("txt", "text", "caption"):
                row["text"] = data.decode("utf-8")
            elif extension in ("cls", "label"):
                label = data.decode("utf-8").strip()
                row["label"] = int(label) if label.lstrip("-").isdigit() else label
            elif extension == "json":
                row = {**json.loads(data), **row}
            else:
                pickled = "." + extension in PICKLES or extension == "pyd"
                log.skip(
                    f"{path.name}:*.{extension}",
                    "pickled or raw objects are never loaded" if pickled else "unknown member",
                )
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise DataError(f"{path}: member {key}.{extension} cannot be read ({error}). Write the shard again.") from error
    return row if len(row) > 1 else None


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(n for row in rows for n in row))
    return pa.table({n: pa.array([r.get(n) for r in rows], type=ARROW if n == "image" else None) for n in names})
