"""WebDataset shards: tar files in which the members ``KEY.EXT`` of one KEY are the columns of one row."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from counterpoint.data.files.formats import PICKLES, NoRowsError
from counterpoint.data.files.media import ARROW
from counterpoint.data.files.store import File
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities.base import discover, of_suffix
from counterpoint.modalities.text import TEXT

ROWS = 1_000  # per table


def shard_tables(path: File, log: Log) -> Iterator[pa.Table]:
    """Rows of a shard: images and recordings from such members, named as their modality, ``text`` from .txt, ``label``
    from .cls, columns from .json.

    Pickled and unknown members are left out and counted; rows whose file cannot be read are skipped and listed.

    path: of the tar file. log: of the rows.
    """
    rows: list[dict[str, Any]] = []
    some = False
    for row in shard_rows(path, log):
        if row is not None:
            rows.append(row)
        if len(rows) == ROWS:
            yield _table(rows)
            some, rows = True, []
    if rows:
        yield _table(rows)
    elif not some:
        raise NoRowsError(f"{path} holds no rows: no members like 000.jpg, 000.txt, 000.cls or 000.json were readable.")


def shard_rows(path: File, log: Log, *, at: int = 0, skip: int = 0) -> Iterator[dict[str, Any] | None]:
    """A row for each key from byte ``at`` on, after ``skip`` of them; None for one that holds nothing readable.

    path: of the tar file. log: of the rows.
    """
    members: dict[str, bytes] = {}
    key, passed = "", 0
    for this, extension, read, _ in _members(path, at):
        if this != key and key:
            if passed >= skip:
                yield _row(path, key, members, log)
            passed, members = passed + 1, {}
        key = this
        if passed >= skip:
            members[extension] = read()
    if key and passed >= skip:
        yield _row(path, key, members, log)


def shard_places(path: File, every: int) -> list[tuple[int, int]]:
    """(byte, rows from there to the next place), about ``every`` bytes apart; a compressed shard has one place.

    path: of the tar file. every: bytes.
    """
    places: list[list[int]] = []
    last = ""
    for key, _, _, offset in _members(path, 0):
        if key == last:
            continue
        last = key
        if not places or offset - places[-1][0] >= every:
            places.append([offset, 0])
        places[-1][1] += 1
    return [(at, rows) for at, rows in places]


def _members(path: File, at: int) -> Iterator[tuple[str, str, Callable[[], bytes], int]]:
    """(key, extension, how to read it, the byte it begins at) of each member. Nothing is unpacked to disk.

    Of a compressed file every member is said to begin at 0, as there is no other place to begin to read at.
    """
    with _whole(path), path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(at)
        with tarfile.open(fileobj=file, mode="r|gz" if compressed else "r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isfile() and not name.name.startswith("."):
                    stem, _, extension = name.name.partition(".")
                    begin = 0 if compressed else member.offset
                    yield str(name.parent / stem), extension.lower(), partial(_bytes, path, tar, member), begin


def _bytes(path: File, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _whole(path):
        stream = tar.extractfile(member)
        return b"" if stream is None else stream.read()


@contextmanager
def _whole(path: File) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is not a whole tar file ({error}). Copy or write the shard again.") from error


def _row(path: File, key: str, members: dict[str, bytes], log: Log) -> dict[str, Any] | None:
    row: dict[str, Any] = {"key": key}
    try:
        for extension, data in members.items():
            medium = of_suffix("." + extension)
            if medium is not None and medium.damage is not None:
                file = {"bytes": data, "path": f"{key}.{extension}"}
                if reason := medium.damage(file, whole=False):
                    log.skip(f"{path.name}:{key}.{extension}", reason)
                    return None
                row[medium.name] = file
            elif extension in ("txt", TEXT, "caption"):
                row[TEXT] = data.decode("utf-8")
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
    types = {m.name: ARROW for m in discover().values() if m.suffixes}
    return pa.table({n: pa.array([r.get(n) for r in rows], type=types.get(n)) for n in names})
