"""Retrieval sets: a corpus, queries, and judgements, read from a folder in BEIR's layout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterpoint.data.files.textfile import open_text
from counterpoint.errors import DataError


@dataclass(frozen=True)
class Retrieval:
    """corpus: document id -> text. queries: query id -> text. qrels: query id -> {document id: gain}, all gains > 0.

    Every query in ``qrels`` is in ``queries`` and has a relevant document; every judged document is in ``corpus``.
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, float]]
    name: str = ""
    notes: list[str] = field(default_factory=list)


def read_beir(folder: str | Path, *, split: str = "test") -> Retrieval:
    """A folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (or qrels.jsonl, qrels.tsv); each also as .gz.

    Documents: ``_id`` (or ``doc_id``), ``title``, ``text``; a title is put before its text. Queries: ``_id`` (or
    ``query_id``), ``text``. Judgements: query, document, gain. Queries without a relevant document are left out, as are
    judgements of documents that are not there; both are counted in ``notes``.
    """
    root = Path(folder)
    corpus = {_id(r, "doc_id", p): _text(r) for p, r in _objects(_find(root, "corpus"))}
    queries = {_id(r, "query_id", p): str(r.get("text") or "") for p, r in _objects(_find(root, "queries"))}
    qrels: dict[str, dict[str, float]] = {}
    stray = 0
    for query, document, gain in _judgements(root, split):
        if query not in queries or document not in corpus:
            stray += 1
        elif gain > 0:
            qrels.setdefault(query, {})[document] = gain
    if not qrels:
        raise DataError(
            f"{root}: no judgement joins a query and a document that are there ({stray:,} do not fit). "
            "Check that the ids of corpus, queries and qrels are written alike."
        )
    notes = []
    if stray:
        notes.append(f"{stray:,} judgements name a query or document that is not there; they are left out.")
    if idle := len(queries) - len(qrels):
        notes.append(f"{idle:,} of {len(queries):,} queries have no relevant document; they are left out.")
    return Retrieval(corpus, {q: queries[q] for q in queries if q in qrels}, qrels, root.name, notes)


def is_retrieval(folder: str | Path) -> bool:
    """Whether a folder has the files of a retrieval set."""
    names = [p.name for p in Path(folder).iterdir()] if Path(folder).is_dir() else []
    return all(any(n.startswith(f"{stem}.jsonl") for n in names) for stem in ("corpus", "queries"))


def _find(root: Path, stem: str) -> Path:
    for name in (f"{stem}.jsonl", f"{stem}.jsonl.gz"):
        if (root / name).exists():
            return root / name
    there = ", ".join(sorted(p.name for p in root.iterdir())) if root.is_dir() else "not a folder"
    raise DataError(
        f"{root} lacks {stem}.jsonl; it holds: {there or 'nothing'}. "
        "A retrieval set is a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv."
    )


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each line."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error.msg}).") from error
                yield f"{path}, line {number}", row


def _id(row: dict[str, Any], other: str, place: str) -> str:
    for key in ("_id", other, "id"):
        if key in row:
            return str(row[key])
    raise DataError(f"{place}: no field '_id' (nor {other!r}); there are {', '.join(row)}.")


def _text(row: dict[str, Any]) -> str:
    return "\n".join(str(part) for part in (row.get("title"), row.get("text")) if part)


def _judgements(root: Path, split: str) -> Iterator[tuple[str, str, float]]:
    plain = (f"qrels/{split}.tsv", "qrels.tsv", "qrels.jsonl")
    path = next((root / n for name in plain for n in (name, name + ".gz") if (root / n).exists()), None)
    if path is None:
        there = ", ".join(sorted(p.stem for p in root.glob("qrels/*.tsv*")))
        raise DataError(
            f"{root} lacks judgements: qrels/{split}.tsv."
            + (f" There are: {there}. Type: --split {there.split(', ')[0]}" if there else "")
        )
    if ".jsonl" in path.name:
        for place, row in _objects(path):
            yield _id(row, "query_id", place), str(row["doc_id"]), float(row.get("gain", 1))
        return
    with open_text(path) as stream:
        for number, fields in enumerate(csv.reader(io.TextIOWrapper(stream, "utf-8"), delimiter="\t"), 1):
            if not fields:
                continue
            if len(fields) == 4:  # TREC's layout: query, 0, document, gain
                fields = [fields[0], fields[2], fields[3]]
            try:
                query, document, gain = fields[0], fields[1], float(fields[2])
            except (IndexError, ValueError) as error:
                if number == 1:
                    continue  # the header
                raise DataError(
                    f"{path}, line {number}: expected query, document and gain separated by tabs, found {fields}."
                ) from error
            yield query, document, gain
