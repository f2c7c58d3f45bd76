"""The house in figures: arrows, circles, names, what a new modality touches, how long methods are.

Command: python scripts/house.py
The guards in tests/test_house.py use the same functions, so what is printed is what is guarded.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "counterpoint"
LINES_OF_A_METHOD = 200
OWN = ("modalities", "methods", "proofs", "data/sets")
"""Folders in which a modality may be named; its views and its encoders are the files of its name."""


def files(folder: Path = SOURCE) -> list[Path]:
    """Every Python file of the library."""
    return sorted(folder.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name of a file of the library."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Modules of the library that a file imports, however deep in it; those for type checkers alone are left out."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(whole & known.keys() or {node.module} & known.keys())
        elif isinstance(node, ast.Import):
            found.update({alias.name for alias in node.names} & known.keys())
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(tree(path))
    return found


def circles() -> list[list[str]]:
    """Groups of files that import each other, by whatever way round (strongly connected components of two or more)."""
    known = {module(p): p for p in files()}
    arrows = {name: sorted(imported(path, known) - {name}) for name, path in known.items()}
    reach: dict[str, set[str]] = {}
    for start in arrows:
        seen: set[str] = set()
        ahead = list(arrows[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += arrows[name]
        reach[start] = seen
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in arrows if a in reach[a]}
    return sorted(map(list, groups))


def modalities() -> list[str]:
    """The names of the modalities: the files of ``modalities/``."""
    return sorted(p.stem for p in (SOURCE / "modalities").glob("*.py") if p.stem not in ("__init__", "base"))


def literals(path: Path) -> Iterator[ast.Constant]:
    """String literals of a file that say something to the program: no docstrings."""
    said = {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node


def own(path: Path, names: list[str]) -> bool:
    """Whether a file may name a modality: it lies in a folder of `OWN`, or among the views or the encoders."""
    relative = path.relative_to(SOURCE).as_posix()
    return relative.startswith(tuple(f"{part}/" for part in OWN)) or (
        relative.startswith(("views/", "encoders/")) and path.stem not in ("base", "export", "folder")
    )


def named_outside() -> dict[str, dict[str, int]]:
    """Modality -> file outside of those that may name it -> how often it does so in a string."""
    names = modalities()
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    for path in files():
        if own(path, names):
            continue
        for node in literals(path):
            if node.value in found:
                found[node.value][path.relative_to(SOURCE).as_posix()] += 1
    return {name: dict(counts) for name, counts in found.items()}


def method_lines() -> dict[str, int]:
    """Method file -> its lines."""
    folder = SOURCE / "methods"
    return {
        p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8").count("\n")
        for p in files(folder)
        if p.parent != folder and p.stem != "__init__"
    }


def repeated_names() -> dict[str, list[str]]:
    """A file's name -> the places where it stands, for names that stand twice and are neither a modality nor a verb."""
    verbs = {p.stem for p in (SOURCE / "cli").glob("*.py")}
    places: dict[str, list[str]] = {}
    for path in files():
        relative = path.relative_to(SOURCE)
        if path.stem in ("__init__", "base") or path.stem in verbs or path.stem in modalities():
            continue
        if relative.parts[0] == "proofs":  # mirrors methods/
            continue
        places.setdefault(path.stem, []).append(relative.as_posix())
    return {name: where for name, where in places.items() if len(where) > 1}


def main() -> None:
    lines = method_lines()
    short = sum(n <= LINES_OF_A_METHOD for n in lines.values())
    total = sum(p.read_text(encoding="utf-8").count("\n") for p in files())
    print(f"files of the library               {len(files()):5}, {total:,} lines")
    print(f"circles of files                   {len(circles()):5}")
    print(f"names that stand twice             {len(repeated_names()):5}  {', '.join(repeated_names())}")
    print(f"method files of <= {LINES_OF_A_METHOD} lines        {short:5} of {len(lines)} ({short / len(lines):.0%})")
    named = named_outside()
    print(
        f"files changed for a new modality   {len(named['video']):5}  outside modalities/, views/ and encoders/video.py"
    )
    print("files in which the name of a modality stands outside its own, with another meaning (tests/test_house.py):")
    for name, counts in named.items():
        print(f"  {name:10} {len(counts):3}  {', '.join(f'{f} {n}' for f, n in counts.items())}")


if __name__ == "__main__":
    main()
