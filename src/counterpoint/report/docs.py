"""Writes the documentation pages that derive from the code: methods, objectives, pairings, verbs. `make docs` calls it.

The pages are written into ``docs/`` (ignored by git) so that the site can never say anything the code does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import pkgutil
import re
import sys
from pathlib import Path

import counterpoint.objectives as objectives
from counterpoint.cli import main, verbs
from counterpoint.methods.base import discover
from counterpoint.objectives.base import is_objective
from counterpoint.report.pairs import pictures

MEANING = {
    "local": "each process computes on its own rows",
    "gather": "candidates are gathered from all processes",
    "global_statistic": "its statistics are taken over all processes",
}


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```\n"


def methods() -> str:
    """One section per method: its module's docstring, its settings, its recipes."""
    out = ["# Methods\n", "Generated from the code. Train with one: `counterpoint fit DATA --method NAME`.\n"]
    for name, cls in discover().items():
        spec = cls.spec
        out.append(f"\n## {name}\n\n**{spec.title}**, {spec.year}, {spec.paper}. Needs: {', '.join(spec.needs)}.\n")
        out.append(fenced(inspect.getdoc(sys.modules[cls.__module__]) or ""))
        out.append("| setting | default |\n|---|---|\n")
        out.extend(f"| `{f.name}` | `{f.default!r}` |\n" for f in dataclasses.fields(cls.Config))
    return "".join(out)


def found_objectives() -> list[tuple[str, object]]:
    found = []
    for info in pkgutil.walk_packages(objectives.__path__, objectives.__name__ + "."):
        module = importlib.import_module(info.name)
        found += [(n, v) for n, v in vars(module).items() if is_objective(v) and v.__module__ == info.name]
    return sorted(found, key=lambda pair: (pair[1].__module__, pair[0]))


def objective_pages() -> str:
    """One section per objective: signature, docstring, behaviour across processes."""
    out = ["# Objectives\n\nPure functions of embeddings. Generated from their docstrings.\n"]
    for name, value in found_objectives():
        rank = value.rank.value
        out.append(f"\n## {name}\n\n`{value.__module__}` · across processes: *{rank}* ({MEANING.get(rank, rank)})\n\n")
        out.append(fenced(f"{name}{inspect.signature(value)}", "python"))
        out.append(fenced(inspect.getdoc(value) or ""))
    return "".join(out)


def verb_pages() -> str:
    """One section per verb: exactly what `--help` prints."""
    out = ["# The command line\n\nOne section per verb: what `counterpoint VERB --help` prints.\n"]
    for verb in verbs():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main([verb, "--help"])
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
        out.append(f"\n## {verb}\n\n{fenced(plain)}")
    return "".join(out)


def write(folder: Path) -> list[Path]:
    """Write every generated page into `folder`; returns their paths."""
    pages = {
        "methods.md": methods(),
        "objectives.md": objective_pages(),
        "verbs.md": verb_pages(),
        "pairings.md": pictures(),
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


if __name__ == "__main__":
    for page in write(Path("docs")):
        print(page)
