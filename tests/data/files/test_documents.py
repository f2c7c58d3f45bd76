"""Folders of documents: passages, classes, and what stays one row per line."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterpoint.data.files.documents import passages
from counterpoint.data.files.read import read
from counterpoint.data.log import Log
from counterpoint.errors import DataError


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_document_is_a_file(tmp_path: Path) -> None:
    root = write(tmp_path / "docs", {
        "a.md": "---\ntitle: x\n---\n# A\n\nOne two.\n\n## B\n\nThree four.\n", "sub/b.txt": "line one\nline two\n",
        "c.md": " \n", ".hidden.md": "no", "_build/d.md": "no",
    })  # fmt: skip
    log = Log()
    found = read(root, log=log)
    assert found.to_list() == [
        {"text": "# A\n\nOne two.", "file_name": "a.md"},
        {"text": "## B\n\nThree four.", "file_name": "a.md"},
        {"text": "line one\nline two", "file_name": "sub/b.txt"},
    ]
    assert "2 documents, cut into 3 passages" in " ".join(log.lines())
    assert "Skipped 1: nothing in the document (c.md)." in log.lines()
    assert read(root / "a.md")["text"][:] == ["# A\n\nOne two.", "## B\n\nThree four."]


def test_passages_lose_nothing_and_are_no_longer_than_they_may_be() -> None:
    words = [f"word{i}" for i in range(900)]
    sentences = " ".join(" ".join(words[i : i + 9]).capitalize() + "." for i in range(0, 900, 9))
    text = f"# Title\n\n{sentences[:3000]}\n\n{sentences[3000:]}"
    found = list(passages(text, 300))
    assert all(len(p) <= 310 for p in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert sum(p.endswith(".") for p in found) >= len(found) - 2  # cut between sentences
    assert list(passages("x" * 700, 300)) == ["x" * 300, "x" * 300, "x" * 100]


def test_sub_folders_of_many_texts_are_classes(tmp_path: Path) -> None:
    files = {f"{label}/{i}.txt": f"{label} {i}\n\nmore" for label in ("pos", "neg") for i in range(6)}
    log = Log()
    found = read(write(tmp_path / "reviews", files), log=log)
    assert len(found) == 12
    assert set(found["label"]) == {"pos", "neg"}
    assert found[0]["text"] == "neg 0\n\nmore"
    assert "2 sub-folders, which are taken for their classes" in " ".join(log.lines())
    split = {f"{part}/{name}": text for part in ("train", "test") for name, text in files.items()}
    assert len(read(write(tmp_path / "parts", split))) == 12
    assert len(read(tmp_path / "parts", split="test")) == 12


def test_lines_stay_rows_where_they_are_named_or_parts(tmp_path: Path) -> None:
    log = Log()
    parts = write(tmp_path / "parts", {"train.txt": "a\nb\n", "test.txt": "c\n"})
    assert read(parts, log=log)["text"][:] == ["a", "b"]
    assert f"Each line of {parts}/train.txt is a row." in log.lines()
    some = write(tmp_path / "some", {"x.txt": "a\nb\n", "y.txt": "c\n"})
    assert read(f"{some}/*.txt")["text"][:] == ["a", "b", "c"]
    with pytest.raises(DataError, match="none of its 2 documents holds any text"):
        read(write(tmp_path / "empty", {"a.md": "", "b.md": "\n"}))
