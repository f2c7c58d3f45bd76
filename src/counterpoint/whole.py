"""Files and folders that appear whole or not at all: written beside their place, then moved there.

What is being written has a name of its own, so that two processes that write one file never share it. It is removed
when the writing fails. What a process that was killed has left is removed by the next one that writes there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_ASIDE = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(\.[^.]*)?", re.DOTALL)
_swept: set[Path] = set()


def aside(path: Path) -> Path:
    """A new name in the folder of ``path``, with its suffix, that says which process it belongs to."""
    sweep(path.parent)
    return path.with_name(f".{path.stem[:60]}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix[:60]}")


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A name in the same folder, with the same suffix, to write to. It takes the place of ``path`` when the block ends,
    and is removed when the block fails."""
    new = aside(path)
    try:
        yield new
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """As `file`, of a folder, which is there already and empty when the block begins."""
    new = aside(path)
    try:
        new.mkdir(parents=True)
        yield new
        folder(path, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def text(path: Path, said: str) -> None:
    with file(path) as new:
        new.write_text(said, encoding="utf-8")


def as_json(path: Path, value: Any) -> None:
    text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def folder(path: Path, new: Path) -> None:
    """Move the folder ``new`` to ``path``. What stood there goes only once the new one stands.

    Two renames, as no system has one for folders; if the second fails the first is undone.
    """
    old = path.with_name(f".{path.name}.old-{uuid.uuid4().hex[:8]}")
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:  # also where the process is asked to end just now
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    if old.exists():
        gone = old.rename(aside(path))  # from now on it may be swept: it is not the only one any more
        shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that live no more were writing in a folder; once per folder and process.

    What other machines, and processes in other containers, are writing is left alone: nobody here can ask for them.
    """
    if os.name != "posix" or folder in _swept or not folder.is_dir():
        return
    _swept.add(folder)
    with suppress(OSError):
        for path in list(folder.iterdir()):
            found = _ASIDE.fullmatch(path.name)
            if found is None or found["machine"] != _machine() or _lives(int(found["pid"])):
                continue
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@cache
def _machine() -> str:
    """Eight digits for this machine since it was started, and for the container: within it process ids are unique."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's, or no process can have this number: leave it
        return True
    return True
