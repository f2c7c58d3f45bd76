"""What the method files say of themselves, read from their source: nothing of them is imported, so it takes no time.

`discover` in `counterpoint.methods.base` imports every method, and with it torch; a list of methods, or the page of
one, needs only what stands in the files.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from counterpoint import views
from counterpoint.errors import ConfigError
from counterpoint.modalities.base import discover

EVERY, VIEWED = "every", "every with views"
"""What a method may name in place of modalities: all of those whose items are rows, and all of these of which
``views/NAME.py`` has ``two_views``."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A method as its file describes it.

    name, title, paper, year, modalities, needs: as in its `Spec`. doc: the docstring of its module. settings: the
    fields of its ``Config`` as ``name = default``, in the words of the source. recipe: the source of `recipe`, its
    published configuration and the smaller ones. path: the file.
    """

    name: str
    title: str
    paper: str
    year: int
    modalities: tuple[str, ...]
    needs: tuple[str, ...]
    doc: str
    settings: tuple[str, ...]
    recipe: str
    path: Path


@cache
def pages() -> dict[str, Page]:
    """Every method of the library by name, in the order of the names.

    >>> pages()["simcse"].year
    2021
    """
    found = [page for path in sorted(Path(__file__).parent.glob("*/*.py")) for page in _pages(path)]
    return {page.name: page for page in sorted(found, key=lambda page: page.name)}


def page(name: str) -> Page:
    """The page of the method of this name. Raises `ConfigError`, listing those there are, where there is none."""
    if name not in pages():
        raise ConfigError(f"There is no method {name!r}. Type one of: {', '.join(pages())}.")
    return pages()[name]


def methods(name: str = "") -> dict[str, Page] | Page:
    """Every method's page by name, or that of one; the function behind ``counterpoint methods``."""
    return page(name) if name else pages()


def expanded(said: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a method learns from, where it may say `EVERY` or `VIEWED`.

    said: names, or a word for many of them.
    """
    rows = [m.name for m in discover().values() if m.shape == "rows"]
    words = {EVERY: rows, VIEWED: [name for name in rows if _has_views(name)]}
    return tuple(dict.fromkeys(name for one in said for name in words.get(one, [one])))


def _has_views(modality: str) -> bool:
    path = Path(views.__path__[0]) / f"{modality}.py"
    return path.exists() and "\ndef two_views(" in path.read_text(encoding="utf-8")


def _pages(path: Path) -> Iterator[Page]:
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        for decorator in node.decorator_list:
            if not (isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "method"):
                continue
            said = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords if k.arg in Page.__annotations__}
            said["modalities"] = expanded(said["modalities"])
            recipes = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "recipe"]
            yield Page(
                name=ast.literal_eval(decorator.args[0]),
                **said,
                doc=inspect.cleandoc(ast.get_docstring(module) or ""),
                settings=tuple(_fields(classes, _config(node))),
                recipe="".join(_dedented(source, r) for r in recipes),
                path=path,
            )


def _dedented(source: str, node: ast.FunctionDef) -> str:
    return textwrap.dedent(" " * node.col_offset + (ast.get_source_segment(source, node) or ""))


def _config(node: ast.ClassDef) -> str:
    """The name of the class that a method's ``Config`` is."""
    named = [n.value for n in node.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "Config"]
    return ast.unparse(named[0]) if named else "Config"


def _fields(classes: dict[str, ast.ClassDef], name: str) -> Iterator[str]:
    if name not in classes:
        return
    for base in classes[name].bases:
        yield from _fields(classes, ast.unparse(base))
    for field in classes[name].body:
        if isinstance(field, ast.AnnAssign):
            default = "" if field.value is None else f" = {ast.unparse(field.value)}"
            yield f"{ast.unparse(field.target)}{default}"
