"""Folders of plain documents: each file is one, cut into passages; or, in folders named by classes, one row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from counterpoint.data.files import options, textfile
from counterpoint.data.files.options import Reading
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities.text import TEXT

SUFFIXES = (".md", ".markdown", ".txt")
PASSAGE = 1_000
"""Characters of a passage, at most, where its sentences allow."""
PER_CLASS = 5
"""Documents that sub-folders hold on average, from which they are taken for classes."""


def inside(folder: Path) -> list[Path]:
    """The documents below a folder, sorted by path; hidden ones are left out."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and p.is_file() and not any(x[0] in "._" for x in p.relative_to(folder).parts)
    )


def table(root: Path, paths: Sequence[Path], reading: Reading, log: Log) -> Any:
    """Passages of documents with the file that each is from, ``text`` and ``file_name``; or whole documents and their
    ``label``. Empty ones are left out and listed in the log.

    root: the folder that names are relative to. paths: of the documents. reading: what is said of them. log: of the
    rows.
    """
    import datasets

    texts = {p: t for p in paths if (t := _text(p, reading)).strip()}
    for path in (p for p in paths if p not in texts):
        log.skip(str(path.relative_to(root)), "nothing in the document")
    if not texts:
        raise DataError(f"{root}: none of its {len(paths):,} documents holds any text.")
    names = {p: str(p.relative_to(root)) for p in texts}
    if classes := _classes(root, list(texts)):
        log.note(f"{root} holds documents in {len(classes)} sub-folders, which are taken for their classes.")
        return datasets.Dataset.from_dict(
            {TEXT: list(texts.values()), "label": [p.parent.name for p in texts], "file_name": list(names.values())}
        )
    rows = [(passage, names[p]) for p, text in texts.items() for passage in passages(text)]
    log.note(
        f"{root} holds {len(texts):,} documents, cut into {len(rows):,} passages of about {PASSAGE:,} characters at "
        "most. (Where each line is a row, name the files: '*.txt'.)"
    )
    return datasets.Dataset.from_dict({TEXT: [r[0] for r in rows], "file_name": [r[1] for r in rows]})


def passages(text: str, size: int = PASSAGE) -> Iterator[str]:
    """Paragraphs put together up to a size, a heading with what follows it; longer ones are cut between sentences.

    text: of a document. size: in characters.

    >>> list(passages("# A\\n\\none two.\\n\\nthree four.", size=16))
    ['# A\\n\\none two.', 'three four.']
    """
    held = ""
    for part in _paragraphs(text, size):
        heading = bool(re.fullmatch(r"#{1,6} .*(\n#{1,6} .*)*", held))
        if held and not heading and (len(held) + len(part) + 2 > size or part.startswith("#")):
            yield held
            held = ""
        held = f"{held}\n\n{part}" if held else part
    if held:
        yield held


def _paragraphs(text: str, size: int) -> Iterator[str]:
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # what is said about a page before it
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = paragraph.strip()
        while len(paragraph) > size:
            ends = [m.end() for m in re.finditer(r"[.!?…。]+[\"')\]]*\s+|[。！？]", paragraph[:size])]
            cut = ends[-1] if ends else paragraph.rfind(" ", 1, size) + 1 or size
            yield paragraph[:cut].strip()
            paragraph = paragraph[cut:].strip()
        if paragraph:
            yield paragraph


def _classes(root: Path, paths: Sequence[Path]) -> set[str]:
    """The sub-folders of texts, where they all lie in such, and in each of them many do."""
    folders = {p.parent.name for p in paths}
    apart = all(p.parent.parent == root and p.suffix.lower() == ".txt" for p in paths)
    return folders if apart and len(folders) > 1 and len(paths) >= PER_CLASS * len(folders) else set()


def _text(path: Path, reading: Reading) -> str:
    with textfile.open_text(path, reading) as stream:
        data = stream.read(options.most_row_bytes() + 1)
    if len(data) > options.most_row_bytes():
        raise DataError(options.too_long(str(path)))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: its text is not of the encoding that it begins with. Type --encoding NAME") from error
