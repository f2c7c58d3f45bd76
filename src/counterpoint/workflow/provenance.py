"""Where a figure comes from: which code, at which commit, on which machine."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from counterpoint._version import __version__

PACKAGE = Path(__file__).parents[1]


def sources(*modules: str) -> list[Path]:
    """The files of this library that these modules are made of: their own, and whatever those import, however deep."""
    found: dict[str, Path] = {}
    ahead = list(modules)
    while ahead:
        name = ahead.pop()
        path = None if name in found else _file(name)
        if path is not None:
            found[name] = path
            ahead += _imports(path)
    return sorted(found.values())


def fingerprint(files: Sequence[Path]) -> str:
    """16 hexadecimal digits that differ where the files do, in content or in name."""
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def commit(files: Sequence[Path]) -> str:
    """The short hash of the commit, with ``+`` behind it where one of the files differs from it; without git, the
    library's version."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository, which says nothing of this library.
        git("ls-files", "--error-unmatch", "_version.py")
        changed = git("status", "--porcelain", "--", *map(str, files))
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"


def hardware() -> str:
    """The processor, how many of its cores this process may use, and the GPU where there is one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{_processor()}, {cores} cores{gpu}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _file(module: str) -> Path | None:
    """The file of a module of this library; None for anything else, such as a name that a module defines."""
    package, _, rest = module.partition(".")
    if package != PACKAGE.name or not rest:
        return None
    path = PACKAGE.joinpath(*rest.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


@functools.cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_imported(ast.parse(path.read_text(encoding="utf-8"))))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
