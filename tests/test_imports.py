"""Arrows point one way: each part of the house may import only the parts below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "counterpoint"
BASE = {"errors", "_version", "processes", "files", "terminal"}
# Part -> the parts it may import. `encoders` and `views` need the batch types of `data`, nothing more of it.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "processes": set(),
    "files": set(),
    "terminal": set(),
    "kernels": {"errors"},
    "objectives": {"kernels"},
    "modalities": set(),
    "data": {"modalities"},
    "views": {"data", "modalities"},
    "encoders": {"data", "modalities", "kernels"},
    "memory": {"data", "objectives"},
    "train": {"data", "kernels", "objectives", "memory"},
    "evaluate": {"data", "modalities", "views", "encoders", "objectives", "search"},
    "search": {"data", "modalities", "encoders"},
    "decode": {"data", "encoders"},
    "methods": {
        "data",
        "modalities",
        "views",
        "encoders",
        "kernels",
        "objectives",
        "memory",
        "train",
        "decode",
        "search",
    },
    "proofs": {
        "data",
        "modalities",
        "views",
        "encoders",
        "kernels",
        "objectives",
        "memory",
        "train",
        "decode",
        "search",
        "methods",
        "evaluate",
    },
    "report": {"evaluate"},
}
BELOW["workflow"] = {*BELOW, "workflow"}
BELOW["cli"] = {*BELOW, "demo"}
BELOW["demo"] = {*BELOW} - {"cli"}
BELOW["docs"] = {*BELOW} - {"docs"}
BELOW["__init__"] = {"workflow", "data"}
BELOW["__main__"] = {"cli"}


def part(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path: Path) -> set[str]:
    """Parts of the library that a file imports, at any depth of nesting."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import; write the full name"
            names = [f"{node.module}.{a.name}" for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("counterpoint.") and n.count(".") >= 1}
    return found


FILES = sorted(p for p in SOURCE.rglob("*.py") if part(p) in BELOW)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_only_what_lies_below(path: Path) -> None:
    own = part(path)
    allowed = BELOW[own] | BASE | {own}
    assert imported(path) <= allowed, f"{own} may not import {sorted(imported(path) - allowed)}"


def test_the_guard_sees_imports(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from counterpoint.methods.base import find\n    import counterpoint.cli.fit\n")
    assert imported(bad) == {"methods", "cli"}


def test_nothing_below_methods_knows_a_methods_name() -> None:
    from counterpoint.methods.base import discover

    names = set(discover())
    for path in FILES:
        if "methods" in BELOW[part(path)] or part(path) == "methods":  # above
            continue
        strings = {
            n.value
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
        assert not strings & names, f"{path} names {strings & names}"


# Files of proofs that are no proof of a method: what all have in common, and data that some read.
HELPERS = {"base.py", "multimodal/digits.py", "text/catalogues.py"}


def test_a_proof_stands_where_its_method_stands() -> None:
    files = {p.relative_to(SOURCE / "proofs").as_posix() for p in (SOURCE / "proofs").rglob("*.py")}
    files = {name for name in files if not name.endswith("__init__.py")}
    assert files >= HELPERS
    for name in files - HELPERS:
        assert (SOURCE / "methods" / name).exists(), f"proofs/{name} proves no methods/{name}; a helper is listed above"
        assert "proof = Proof(" in (SOURCE / "proofs" / name).read_text(), f"proofs/{name} holds no proof"
    for path in (SOURCE / "methods").rglob("*.py"):
        assert "Proof(" not in path.read_text(), f"{path}: the experiment stands in proofs/"


HEAVY_OR_ABSENT = {"torchvision", "torchaudio", "timm", "lightning", "pytorch_lightning", "accelerate"}


def test_no_import_of_what_cannot_be_had() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            )
            assert not {m.split(".")[0] for m in modules} & HEAVY_OR_ABSENT, path
