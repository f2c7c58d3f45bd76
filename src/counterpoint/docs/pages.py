"""Writes the documentation pages that derive from the code: methods, objectives, encoders, verbs. `make docs` calls it.

The pages are written into ``docs/`` (ignored by git) so that the site can never say anything the code does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import pkgutil
import pprint
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import counterpoint.objectives as objectives
from counterpoint.cli import main, verbs
from counterpoint.docs.pictures import pictures
from counterpoint.encoders.base import choices, modalities
from counterpoint.methods.base import discover
from counterpoint.objectives.base import is_objective
from counterpoint.report import evidence
from counterpoint.workflow.prove import proofs

Pages = dict[str, str]
"""Path below ``docs/`` -> text."""

MEANING = {
    "local": "each process computes on its own rows",
    "gather": "candidates are gathered from all processes",
    "global_statistic": "its statistics are taken over all processes",
}


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```\n"


def default(field: dataclasses.Field[object]) -> object:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def methods(measured: Path) -> Pages:
    """A page per method: its module's docstring, its evidence, its settings, its published recipe.

    measured: the folder of the evidence.
    """
    listed = [
        "# Methods\n\nTrain with one: `counterpoint fit DATA --method NAME`. What the last column says: "
        "[evidence](../evidence.md).\n\n| method | title | year | needs | claim |\n|---|---|---|---|---|\n"
    ]
    pages: Pages = {}
    for name, cls in discover().items():
        spec = cls.spec
        proved, found, picture = proofs()[name], measured / f"{name}.json", measured / f"{name}.svg"
        proof = json.loads(found.read_text(encoding="utf-8")) if proved and found.exists() else None
        drawn = f"{name}.evidence.svg" if proof and picture.exists() else ""
        if drawn:
            pages[f"methods/{drawn}"] = picture.read_text(encoding="utf-8")
        verdict = proof["verdict"] if proof else "no evidence yet"
        listed.append(f"| [{name}]({name}.md) | {spec.title} | {spec.year} | {', '.join(spec.needs)} | {verdict} |\n")
        settings = "".join(f"| `{f.name}` | `{default(f)!r}` |\n" for f in dataclasses.fields(cls.Config))
        pages[f"methods/{name}.md"] = (
            f"# {name}\n\n**{spec.title}**, {spec.year}, {spec.paper}. Needs: {', '.join(spec.needs)}.\n\n"
            f"{fenced(inspect.getdoc(sys.modules[cls.__module__]) or '')}\n"
            f"{evidence.markdown(proof, proved.arms if proved else {}, picture=drawn)}\n"
            f"## Settings\n\n`--set KEY=VALUE`\n\n| setting | default |\n|---|---|\n{settings}\n"
            f"## The published recipe\n\n{fenced(pprint.pformat(cls.recipe('published'), width=100), 'python')}"
        )
    pages["methods/index.md"] = "".join(listed)
    return pages


def found_objectives() -> list[tuple[str, Any]]:
    found = []
    for info in pkgutil.walk_packages(objectives.__path__, objectives.__name__ + "."):
        module = importlib.import_module(info.name)
        found += [(n, v) for n, v in vars(module).items() if is_objective(v) and v.__module__ == info.name]
    return sorted(found, key=lambda pair: (pair[1].__module__, pair[0]))


def objective_pages() -> Pages:
    """A page per objective: signature, docstring, behaviour across processes."""
    listed = [
        "# Objectives\n\nPure functions of embeddings.\n\n| objective | module | across processes |\n|---|---|---|\n"
    ]
    pages: Pages = {}
    for name, value in found_objectives():
        rank, module = value.rank.value, value.__module__
        listed.append(f"| [{name}]({name}.md) | `{module.rsplit('.', 1)[1]}` | {rank} |\n")
        signature = str(inspect.signature(value)).replace(", ", ",\n    ").replace("(", "(\n    ", 1)
        pages[f"objectives/{name}.md"] = (
            f"# {name}\n\n`from {module} import {name}` · across processes: *{rank}*, {MEANING.get(rank, rank)}.\n\n"
            f"{fenced(name + signature, 'python')}\n{fenced(inspect.getdoc(value) or '')}"
        )
    pages["objectives/index.md"] = "".join(listed)
    return pages


def encoder_page() -> str:
    """What can stand after ``--encoder``, for each modality."""
    lines = [
        "# Encoders\n\nA word after `--encoder` picks one with random weights; without it the method's recipe does. "
        "The first of a modality is what it has where a recipe says nothing.\n\n"
        "| rows hold | `--encoder` | class | what it is |\n|---|---|---|---|\n"
    ]
    for modality in modalities():
        words = choices(modality)
        for cls in dict.fromkeys(words.values()):
            named = ", ".join(f"`{word}`" for word, of in words.items() if of is cls)
            first = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            lines.append(f"| {modality} | {named} | `{cls.__module__}.{cls.__name__}` | {first} |\n")
    return "".join(lines)


def verb_pages() -> Pages:
    """A page per verb: exactly what `--help` prints."""
    listed = ["# The command line\n\n| verb | what it does |\n|---|---|\n"]
    pages: Pages = {}
    for verb, function in verbs().items():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main([verb, "--help"])
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
        listed.append(f"| [{verb}](counterpoint-{verb}.md) | {(inspect.getdoc(function) or '').splitlines()[0]} |\n")
        pages[f"verbs/counterpoint-{verb}.md"] = f"# counterpoint {verb}\n\n{fenced(plain)}"
    pages["verbs/index.md"] = "".join(listed)
    return pages


def write(folder: Path, *, measured: Path = Path("evidence")) -> list[Path]:
    """Write every generated page into `folder`; returns their paths. measured: the folder of the evidence."""
    pages = {
        **methods(measured),
        **objective_pages(),
        **verb_pages(),
        "encoders.md": encoder_page(),
        "pairings.md": pictures(),
    }
    for part in ("methods", "objectives", "verbs"):
        shutil.rmtree(folder / part, ignore_errors=True)  # pages of what is gone go too
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


if __name__ == "__main__":
    print(f"{len(write(Path('docs')))} pages written into docs/")
