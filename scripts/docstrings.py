"""What the docstrings of the library leave unsaid: objects without one, parameters that it does not name, no example.

Command: python scripts/docstrings.py [PACKAGE | FILE ...]: how many of each per package; with arguments, every one.
The guards in tests/test_docstrings.py and tests/test_examples.py use the same functions.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts import house

Function = ast.FunctionDef | ast.AsyncFunctionDef

ELSEWHERE = ("cli/", "docs/", "proofs/", "workflow/", "demo.py", "__main__.py")
"""Not for import: the command line and what stands on top of the library, which `--help` and the site describe."""

INNER = ("kernels/", "objectives/engine/")
"""How the engine computes. Its face is `objectives.contrast` and, of these folders, the files of `FACE`."""

FACE = ("kernels/__init__.py", "kernels/attention.py", "kernels/backend.py", "objectives/engine/byproducts.py")

KNOWN = frozenset({"train", "state_dict", "load_state_dict", "zero_grad", "add_param_group", "extra_repr"})
"""Methods of torch's own classes: what they do and take is written there."""


@dataclass(frozen=True)
class Public:
    """A public function, class or method. where: ``file.py::Qualified.name``. names: what its docstring has to name."""

    where: str
    node: Function | ast.ClassDef
    names: tuple[str, ...]
    kind: str
    doc: str | None

    @property
    def unsaid(self) -> list[str]:
        """The names that do not stand in the docstring as words."""
        return [n for n in self.names if not named(n, self.doc or "")]


def named(name: str, doc: str) -> bool:
    """Whether a docstring names a parameter: as a word; ``a``, which is one of English too, with a mark beside it."""
    word = re.escape(name)
    return (
        re.search(rf"(?<![\w.]){word}(?=[:,)`]|\s*=)|[`(,*]\s*{word}\b" if name == "a" else rf"\b{word}\b", doc)
        is not None
    )


def parameters(node: Function, *, bound: bool) -> tuple[str, ...]:
    """The names of a function's parameters, without ``self`` (where it is ``bound``), ``*args`` and ``**kwargs``."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return tuple(a.arg for a in given[bound:] if not a.arg.startswith("_"))


def decorated(node: Function | ast.ClassDef, name: str) -> bool:
    """Whether a decorator of that name stands above, however it is written."""
    return any(re.search(rf"\b{name}\b", ast.unparse(d)) for d in node.decorator_list)


@cache
def classes() -> dict[tuple[str, str], ast.ClassDef]:
    """Every class of the library by its module and its name."""
    return {
        (house.module(p), n.name): n for p in house.files() for n in house.tree(p).body if isinstance(n, ast.ClassDef)
    }


def bases(node: ast.ClassDef, path: Path) -> Iterator[ast.ClassDef]:
    """The classes of the library that a class inherits from, near ones first."""
    tree, here = house.tree(path), house.module(path)
    brought = {
        a.asname or a.name: (str(n.module), a.name)
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom)
        for a in n.names
    }
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        module, name = brought.get(name, (here, name))
        if (above := classes().get((module, name))) is not None:
            yield above
            yield from bases(above, house.SOURCE.parent.joinpath(*module.split(".")).with_suffix(".py"))


def inherited(node: ast.ClassDef, path: Path, method: str) -> bool:
    """Whether a base class of the library says what a method does, or torch does."""
    return method in KNOWN or any(
        isinstance(m, Function) and m.name == method and ast.get_docstring(m)
        for base in bases(node, path)
        for m in base.body
    )


def fields(node: ast.ClassDef) -> tuple[str, ...]:
    """What a class is made from: the fields of a dataclass, or the parameters of its ``__init__``.

    A field under which a string stands has its own docstring.
    """
    names: list[str] = []
    if decorated(node, "dataclass") or any(ast.unparse(b) == "NamedTuple" for b in node.bases):
        for here, after in zip(node.body, [*node.body[1:], None]):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name) and not said:
                free = ("ClassVar" in ast.unparse(here.annotation)) or "init=False" in ast.unparse(here)
                names += [] if free or here.target.id.startswith("_") else [here.target.id]
    for m in node.body:
        if isinstance(m, Function) and m.name == "__init__":
            names += [n for n in parameters(m, bound=True) if not named(n, ast.get_docstring(m) or "")]
    return tuple(names)


def public(path: Path) -> Iterator[Public]:
    """The public functions, classes and methods of a file. An override of a documented method may say nothing."""
    place = path.relative_to(house.SOURCE).as_posix()
    for node in house.tree(path).body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_") or decorated(node, "overload"):
            continue
        where, doc = f"{place}::{node.name}", ast.get_docstring(node)
        if isinstance(node, Function):
            yield Public(where, node, parameters(node, bound=False), "function", doc)
            continue
        above = "".join(ast.get_docstring(b) or "" for b in bases(node, path))
        yield Public(where, node, tuple(n for n in fields(node) if not named(n, above)), "class", doc)
        for m in node.body:
            if not isinstance(m, Function) or m.name.startswith("_") or decorated(m, "overload"):
                continue
            text = ast.get_docstring(m)
            value = decorated(m, "property") and named(m.name, above)  # the base class's docstring says what it is
            if decorated(m, "setter") or (text is None and (value or inherited(node, path, m.name))):
                continue
            # What the class's docstring names, or that of the method it overrides, need not be named again.
            over = [o for b in bases(node, path) for o in b.body if isinstance(o, Function) and o.name == m.name]
            said = " ".join([doc or "", *(ast.get_docstring(o) or "" for o in over)])
            names = (n for n in parameters(m, bound=not decorated(m, "staticmethod")) if not named(n, said))
            yield Public(f"{where}.{m.name}", m, tuple(names), "method", text)


def library() -> list[Path]:
    """The files that a user's program imports."""
    found = {p: p.relative_to(house.SOURCE).as_posix() for p in house.files()}
    return [
        p
        for p, name in found.items()
        if not name.startswith(ELSEWHERE) and (name in FACE or not name.startswith(INNER))
    ]


def unsaid() -> dict[str, list[str]]:
    """``file.py::Qualified.name`` -> what its docstring lacks: its names, or ``a docstring``."""
    found = {p.where: ["a docstring"] if p.doc is None else p.unsaid for path in library() for p in public(path)}
    return {where: lacks for where, lacks in found.items() if lacks}


def main(wanted: list[str]) -> None:
    """Print the counts; of the packages and files that are asked for, every object, its signature and docstring."""
    objects, lacking = Counter[str](), Counter[str]()
    for path in library():
        for p in public(path):
            package = p.where.partition("/")[0].partition("::")[0]
            lacks = ["a docstring"] if p.doc is None else p.unsaid
            objects[package] += 1
            lacking[package] += bool(lacks)
            if lacks and p.where.startswith(tuple(wanted or ["-"])):
                print(f"{p.where}: {', '.join(lacks)}")
    for package, count in objects.items():
        print(f"{package:14} {count:5} public, {lacking[package]:4} with something unsaid")


if __name__ == "__main__":
    main(sys.argv[1:])
