"""Harvest and split: what counts as a pair, in which order, and that no package is on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterpoint.data.sets.code import CodePair, harvest, split
from counterpoint.errors import DataError

SOURCE = '''
import os


def documented(path):
    """Read the whole file
    at once.

    A second paragraph.
    """
    with open(path) as file:
        text = file.read()
    return text


class Shelf:
    def __init__(self):
        """Make an empty shelf here."""
        self.books = []
        self.size = 0
        self.open = True

    if os.name:

        async def put(self, book):
            """Put a book on the shelf."""
            self.books.append(book)
            self.size += 1
            return self.size


def silent(x):
    x = x + 1
    x = x * 2
    return x


def terse(x):
    """Too short."""
    y = x
    z = y
    return z


def small(x):
    """One line is not enough."""
    return x
'''


def write(root: Path, name: str, source: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")


def test_what_is_a_pair(tmp_path: Path) -> None:
    write(tmp_path, "shop/shelf.py", SOURCE)
    found = {p.name: p for p in harvest([tmp_path])}
    assert list(found) == ["documented", "Shelf.put", "silent", "terse"]  # no dunder, no body of one line
    pair = found["documented"]
    assert pair.text == "Read the whole file at once."
    assert "second paragraph" not in pair.code
    assert "Read the whole" not in pair.code
    assert pair.code.endswith("return text")
    assert (pair.package, Path(pair.file).name, pair.line) == (
        "shop",
        "shelf.py",
        SOURCE[1:].split("\n").index("def documented(path):") + 2,
    )
    assert found["Shelf.put"].text == "Put a book on the shelf."
    assert found["silent"].text == found["terse"].text == ""


def test_nothing_is_run_and_bad_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a/good.py", f"raise SystemExit('harvest must not run code')\n{SOURCE}")
    write(tmp_path, "a/python2.py", "print 'def '\n")
    (tmp_path / "a" / "latin.py").write_bytes(b"def f():\n    x = '\xe9'\n")
    assert len(harvest([tmp_path])) == 4


@pytest.mark.parametrize("name", ["a/tests/x.py", "a/_vendor/x.py", "a/test_x.py", "a/third_party/b/x.py"])
def test_tests_and_copies_are_left_out(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, SOURCE)
    assert harvest([tmp_path]) == []


def test_generated_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a/x.py", f"# AUTO-GENERATED, DO NOT EDIT\n{SOURCE}")
    assert harvest([tmp_path]) == []


def test_of_equal_functions_the_first_package_keeps_one(tmp_path: Path) -> None:
    write(tmp_path, "b/x.py", SOURCE)
    write(tmp_path, "a/y.py", SOURCE)
    assert {p.package for p in harvest([tmp_path])} == {"a"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        harvest([tmp_path / "nowhere"])


def pairs(sizes: dict[str, int]) -> list[CodePair]:
    return [CodePair(f"{p} number {i}", f"{p}{i}", p, "f", "f.py", i) for p, n in sizes.items() for i in range(n)]


def test_packages_are_whole_and_giants_train() -> None:
    given = pairs({f"p{i}": 30 for i in range(40)} | {"giant": 200})
    found = split(given, test=200, dev=100, giant=100)
    held = {k: {given[i].package for i in getattr(found, k)} for k in ("train", "dev", "test")}
    assert held["train"] | held["dev"] | held["test"] == {p.package for p in given}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not held[a] & held[b]
    assert "giant" in held["train"]
    assert (len(found.test), len(found.dev)) == (210, 120)  # whole packages of 30 until the quota is met


def test_one_more_package_moves_only_the_margin() -> None:
    before = split(pairs({f"p{i}": 30 for i in range(40)}), test=200, dev=100, giant=100).parts
    after = split(pairs({f"p{i}": 30 for i in range(40)} | {"new": 30}), test=200, dev=100, giant=100).parts
    assert sum(before[p] != after[p] for p in before) <= 2  # one pushed from test to dev, one from dev to train


def test_copies_of_held_out_docstrings_do_not_train() -> None:
    given = pairs({f"p{i}": 30 for i in range(40)})
    test = given[split(given, test=200, dev=100, giant=100).test[0]]
    source = next(p for p in given if split(given, test=200, dev=100, giant=100).parts[p.package] == "train")
    copy = CodePair(test.text, "another body", source.package, "g", "g.py", 1)
    found = split([*given, copy], test=200, dev=100, giant=100)
    assert len(given) not in found.train


def test_several_processes_find_what_one_does(tmp_path: Path) -> None:
    """From some number of files on, processes of their own read them."""
    for i in range(520):
        body = f'    """Add number {i} to the sum of both."""\n    c = a + b\n    d = {i}\n    return c + d\n'
        write(tmp_path, f"shop/part_{i}.py", f"def add_{i}(a, b):\n{body}")
    one, two = (harvest([tmp_path], workers=n) for n in (1, 2))
    assert len(one) == 520
    assert two == one
