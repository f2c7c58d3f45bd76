"""Docstrings: what is public, where a summary ends, and that copies count once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from counterpoint.data.sets import registry
from counterpoint.data.sets.docstrings import PACKAGES, Docstring, harvest, held_out, versions
from counterpoint.errors import DataError

SOURCE = '''
def area(shape):
    """Area of
    a shape.

    In square metres.

    Never negative.
    """


class Circle:
    """A round shape."""

    def fit(self):
        """Find the circle's centre.

        By least squares."""

    def _hidden(self):
        """Not for the public."""

    def short(self):
        """Too short."""


class Other:
    def fit(self):
        """Find the circle's centre.

        By least squares."""
'''


def test_what_is_harvested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shapes_of_a_test"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "flat.py").write_text(SOURCE)
    (package / "tests" / "more.py").write_text(SOURCE.replace("round", "very round"))
    monkeypatch.syspath_prepend(tmp_path)
    where = ("shapes_of_a_test.flat", "shapes_of_a_test")
    assert harvest(("shapes_of_a_test",)) == (
        Docstring("Area of a shape.", "In square metres. Never negative.", "area", "", *where),
        Docstring("A round shape.", "", "Circle", "", *where),
        Docstring("Find the circle's centre.", "By least squares.", "fit", "Circle", *where),
    )
    assert "shapes_of_a_test" not in sys.modules


def test_no_body_that_is_held_out_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bodies_of_a_test.py").write_text(
        "\n".join(f'def f{i}():\n    """Summary number {i}.\n\n    The body of {i // 2} is this."""' for i in range(8))
    )
    monkeypatch.setattr("counterpoint.data.sets.docstrings.folder_of", lambda package: tmp_path)
    known, held = held_out(("bodies_of_a_test",), 3, min_words=6)
    assert len(held) == 3
    assert not {d.body for d in known} & {d.body for d in held}
    assert len({d.body for d in (*known, *held)}) == 4
    assert held_out(("bodies_of_a_test",), 3, min_words=7) == ([], [])


def test_a_package_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"'no_such_package'\. Type `pip install no_such_package`"):
        harvest(("no_such_package",))
    with pytest.raises(DataError, match="no folder of a package 'this'"):
        harvest(("this",))


def test_the_registered_set_names_the_versions() -> None:
    entry = registry.find("docstrings")
    assert entry.local is not None
    assert f"numpy {sys.modules['numpy'].__version__}" in versions(PACKAGES)
    assert entry.edition == f"docstrings ({versions(PACKAGES)})"
    assert registry.find("cranfield").edition == "cranfield"
