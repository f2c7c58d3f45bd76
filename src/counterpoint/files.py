"""Files and folders that appear whole or not at all: written beside their place, then moved there."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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

    Two renames, as no system has one for folders; if the second fails the first is undone.
    """
    old = path.with_name(f".{path.name}.old-{uuid.uuid4().hex[:8]}")
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
