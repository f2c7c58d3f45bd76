"""Docstrings of installed packages: a summary line and the text below it, for every public function and class.

Real pairs of a short text and the longer one it belongs to, and a glossary at once: a name such as ``fit`` stands in
many classes, each time with a definition of its own. The sources are read with `ast`; nothing is imported or run. What
is found depends on the packages' versions, so evidence names them (`versions`).
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.data.sets.code import first_paragraph, parsed, source_files
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets


PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "torch")
"""What the registered set reads: each of them is there wherever this library is."""


@dataclass(frozen=True, slots=True)
class Docstring:
    """summary: the first paragraph on one line. body: the rest on one line ('' where there is none). name: of the
    function or class; owner: the class it belongs to ('' for none). package: the top-level module; module: dotted."""

    summary: str
    body: str
    name: str
    owner: str
    module: str
    package: str


def folder_of(package: str) -> Path | None:
    """Where an importable package lies, or None (also for a module of one file). Nothing is imported."""
    spec = importlib.util.find_spec(package)
    folders = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(folders))) if folders else None


def versions(packages: Iterable[str]) -> str:
    """``numpy 2.4.1, scipy 1.17.0``: the distributions that the packages came with."""
    owners = metadata.packages_distributions()
    return ", ".join(f"{p} {metadata.version(owners[p][0])}" if p in owners else p for p in packages)


@cache
def harvest(packages: tuple[str, ...] = PACKAGES, *, min_words: int = 3) -> tuple[Docstring, ...]:
    """Docstrings of everything public, in the order of package, file and line; of equal texts only the first.

    min_words: a docstring with a shorter summary is left out. Names that begin with ``_``, and all within them, are not
    public. Raises `DataError` for a package that is not installed. packages: by the names they are imported by.
    """
    seen: set[tuple[str, str]] = set()
    out = []
    for package in packages:
        folder = folder_of(package)
        if folder is None:
            raise DataError(
                f"There is no folder of a package {package!r}. Type `pip install {package}`, or name another."
            )
        for path in source_files(folder):
            module = ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
            for found in _in_file(path, module, package):
                if len(found.summary.split()) >= min_words and (key := (found.summary, found.body)) not in seen:
                    seen.add(key)
                    out.append(found)
    return tuple(out)


def held_out(
    packages: tuple[str, ...] = PACKAGES, n: int = 1_000, *, min_words: int = 30, seed: int = 0
) -> tuple[list[Docstring], list[Docstring]]:
    """Docstrings with a body of ``min_words`` words and more: those to train on, and n drawn ones whose bodies are
    nowhere among them. Both in random order.

    packages: by the names they are imported by. seed: of the draw and the order.
    """
    found = [d for d in harvest(packages) if len(d.body.split()) >= min_words]
    mixed = [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
    unseen = {d.body for d in mixed[:n]}
    return [d for d in mixed[n:] if d.body not in unseen], mixed[:n]


def pairs(packages: tuple[str, ...] = PACKAGES) -> datasets.Dataset:
    """Those that have a body, as rows.

    packages: by the names they are imported by.
    """
    import datasets

    return datasets.Dataset.from_list([asdict(d) for d in harvest(packages) if d.body])


def _in_file(path: Path, module: str, package: str) -> Iterator[Docstring]:
    def visit(body: Iterable[ast.stmt], owner: str) -> Iterator[Docstring]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if node.name.startswith("_"):
                    continue
                text = ast.get_docstring(node) or ""
                summary = first_paragraph(text)
                body = " ".join(text.split())[len(summary) :].strip()
                yield Docstring(summary, body, node.name, owner, module, package)
                if isinstance(node, ast.ClassDef):
                    yield from visit(node.body, node.name)
            elif isinstance(node, ast.If | ast.Try | ast.With):
                yield from visit([*node.body, *getattr(node, "orelse", ())], owner)

    found = parsed(path)
    if found is not None:
        yield from visit(found[1].body, "")
