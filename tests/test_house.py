"""The house stays in order: no circles, every package in the table of arrows, modalities named in their own files.

`python scripts/house.py` prints the same figures. A list of exceptions may only shrink: a test fails as soon as one of
them is not needed any more.
"""

from __future__ import annotations

from scripts import house

from tests.test_imports import BELOW

NAMED_OUTSIDE: dict[str, set[str]] = {
    # `graph` and `series` are kinds of rows too.
    "graph": {"data/schema.py", "search/index.py", "workflow/words.py"},
    "series": {"data/schema.py", "data/steps.py", "data/windows.py", "workflow/words.py"},
    # The key under which answers, hits, indexes and drawings hold a text, and the name of a column.
    "text": {
        "cli/index.py", "cli/search.py", "data/roles.py", "decode/generator.py", "docs/pages.py", "report/collect.py",
        "report/diagnosis.py", "report/figures.py", "report/page.py", "search/index.py", "search/intact.py",
        "workflow/settings.py", "workflow/share.py",
    },
}  # fmt: skip
"""A word that is a modality's name -> files outside its own in which it stands, and means something else there."""

LONG_METHODS = {
    "signals/coconut.py", "signals/ts_forecasting.py", "signals/w2v_bert.py", "text/codiemb.py", "text/defsent_plus.py",
    "text/matryoshka_2d.py", "text/moe_embeddings.py", "vision/obow.py",
}  # fmt: skip
"""Method files of more than 200 lines."""

TWICE: set[str] = set()
"""Names that two files have though they are neither a modality nor a verb."""


def test_no_files_import_each_other() -> None:
    assert house.circles() == []


def test_a_circle_would_be_seen(monkeypatch, tmp_path) -> None:
    package = tmp_path / "library"
    package.mkdir()
    (package / "one.py").write_text("def f():\n    from library.two import g\n")
    (package / "two.py").write_text("import library.one\n")
    (package / "three.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import library.four\nimport library.one\n"
    )
    (package / "four.py").write_text("import library.three\n")
    monkeypatch.setattr(house, "SOURCE", package)
    monkeypatch.setattr(house, "files", lambda folder=package: sorted(folder.rglob("*.py")))
    assert house.circles() == [["library.one", "library.two"]]


def test_every_package_has_a_row_of_arrows() -> None:
    packages = {p.name for p in house.SOURCE.iterdir() if (p / "__init__.py").exists()}
    assert packages <= set(BELOW)


def test_a_modality_is_named_in_its_own_files_alone() -> None:
    found = {name: set(files) for name, files in house.named_outside().items() if files}
    assert found == NAMED_OUTSIDE


def test_a_method_has_two_hundred_lines_at_most() -> None:
    long = {name for name, lines in house.method_lines().items() if lines > house.LINES_OF_A_METHOD}
    assert long == LONG_METHODS


def test_a_file_name_stands_once() -> None:
    assert set(house.repeated_names()) == TWICE
