"""Files and folders that appear whole or not at all, written beside their place and then moved there; and a lock."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from counterpoint.errors import ConfigError

_TRIES = 100  # of moving a folder where others write too


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name in the same folder, with the same suffix, to write to. It takes the place of ``path`` when the block ends,
    and is removed when the block fails."""
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, said: str) -> None:
    with whole_file(path) as aside:
        aside.write_text(said, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def whole_folder(path: Path, new: Path) -> None:
    """Move the folder ``new`` to ``path``. What stood there goes only once the new one stands.

    Two renames, as no system has one for folders; if the second fails the first is undone. Of several that write at
    once, the last one's stands, whole.
    """
    for _ in range(_TRIES):
        if _swapped(path, new):
            return
    raise OSError(errno.EEXIST, "other writers of this folder were quicker each time", str(path))


def _swapped(path: Path, new: Path) -> bool:
    """Whether the new folder stands; else another writer's has come between the two renames."""
    old = path.with_name(f".{path.name}.old-{uuid.uuid4().hex[:8]}")
    with suppress(FileNotFoundError):
        path.rename(old)
    stands = True
    try:
        new.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            if old.exists():
                old.rename(path)
            raise
        stands = False
    shutil.rmtree(old, ignore_errors=True)
    return stands


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, this process alone works in the folder, which need not exist yet.

    The lock goes with the process, however that ends, so nothing is left to clean up; the file that carries it lies
    beside the folder (``.NAME.lock``) and is removed at the end. Where the system has no such locks (Windows, some
    network drives) nothing is locked. Raises `ConfigError` where another process is at work there.
    """
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:
        yield
        return
    path = folder.absolute()
    path = path.with_name(f".{path.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        held = path.open("a")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.close()
            raise ConfigError(
                f"Another process is at work in {folder}. Wait until it has ended, stop it, or name another folder."
            ) from error
        except OSError:  # a drive without locks
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held.fileno()), path.stat()):
                break
        held.close()  # whoever held it has just removed the file: a new one would be locked by others
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        held.close()
