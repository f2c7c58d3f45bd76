"""Every public function, class and method says what it does and names what it takes.

`python scripts/docstrings.py` prints the same figures, and with a package or a file behind it every gap. The list of
exceptions may only shrink: a test fails as soon as one of them is not needed any more.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import docstrings, house

UNSAID: set[str] = set()
"""``file.py::Qualified.name`` of what has no docstring yet, or one that does not name everything."""


def test_every_docstring_names_what_is_taken() -> None:
    unsaid = docstrings.unsaid()
    new = [f"{where}: {', '.join(lacks)}" for where, lacks in unsaid.items() if where not in UNSAID]
    assert not new, "say in the docstring (python scripts/docstrings.py FILE):\n" + "\n".join(new)
    assert unsaid.keys() >= UNSAID, f"no longer needed: {sorted(UNSAID - unsaid.keys())}"


def library(monkeypatch, folder: Path, **texts: str) -> dict[str, list[str]]:
    """What is unsaid in a library of these files."""
    package = folder / "library"
    package.mkdir()
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(house, "SOURCE", package)
    monkeypatch.setattr(house, "files", lambda: sorted(package.rglob("*.py")))
    docstrings.classes.cache_clear()
    try:
        return docstrings.unsaid()
    finally:
        docstrings.classes.cache_clear()


def test_a_gap_is_seen(monkeypatch, tmp_path) -> None:
    found = library(
        monkeypatch,
        tmp_path,
        one='def f(x, y, *more):\n    """Of x."""\ndef g(): ...\ndef _h(z): ...\n'
        'def k(a):\n    """Makes a list."""\ndef l(a, b):\n    """a, b: two numbers."""\n',
        two='from dataclasses import dataclass\n@dataclass\nclass A:\n    """x: said."""\n    x: int\n'
        "    y: int\n    z: int\n"
        '    """Said below."""\nclass B:\n    """Of n."""\n    def __init__(self, n, m): ...\n    def f(self): ...\n',
    )
    assert found == {
        "one.py::f": ["y"],
        "one.py::g": ["a docstring"],
        "one.py::k": ["a"],  # the article is no name
        "two.py::A": ["y"],
        "two.py::B": ["m"],
        "two.py::B.f": ["a docstring"],
    }


@pytest.mark.parametrize("said", ['"""Of x."""', '"""Nothing."""'])
def test_an_override_need_not_say_again_what_its_base_says(monkeypatch, tmp_path, said) -> None:
    found = library(
        monkeypatch,
        tmp_path,
        base=f'class Base:\n    """A base."""\n    def f(self, x):\n        {said}\n',
        derived="from library.base import Base as Above\n"
        'class Derived(Above):\n    """Derived."""\n    def f(self, x): ...\n    def forward(self, x): ...\n',
    )
    expected = {"derived.py::Derived.forward": ["a docstring"]}
    assert found == (expected if "x" in said else {"base.py::Base.f": ["x"]} | expected)
