"""Files and folders that appear whole or not at all, written beside their place and then moved there; and a lock."""

from __future__ import annotations

import errno
import hashlib
import importlib
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

from counterpoint.errors import ConfigError

_TRIES = 100  # of moving a folder where others write too


_ASIDE = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(\.[^.]*)?", re.DOTALL)
_swept: set[Path] = set()


def aside_of(path: Path) -> Path:
    """A new name in the folder of ``path``, with its suffix, that says which process it belongs to: two processes that
    write one file never share it, and what a killed one leaves is removed by the next that writes there."""
    sweep(path.parent)
    return path.with_name(f".{path.stem[:60]}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix[:60]}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name in the same folder, with the same suffix, to write to. It takes the place of ``path`` when the block ends,
    and is removed when the block fails."""
    aside = aside_of(path)
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """As `whole_file`, of a folder, which is there already and empty when the block begins.

    path: of the folder.
    """
    aside = aside_of(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        whole_folder(path, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: Path, said: str) -> None:
    """As `whole_file`, of a file that holds ``said`` alone. path: of the file."""
    with whole_file(path) as aside:
        aside.write_text(said, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """As `whole_file`, of a file that holds a value as indented JSON. path: of the file."""
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
    except BaseException as error:  # also where the process is asked to end just now
        if not isinstance(error, OSError) or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            if old.exists() and not path.exists():
                old.rename(path)
            raise
        stands = False
    with suppress(FileNotFoundError):
        gone = old.rename(aside_of(path))  # from now on it may be swept: it is not the only one any more
        shutil.rmtree(gone, ignore_errors=True)
    return stands


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
