"""Retrieval sets: a corpus, queries, and judgements, read from a folder in BEIR's layout."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

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
    root, notes = Path(folder), list[str]()
    corpus = _texts(_find(root, "corpus"), "doc_id", notes, "documents")
    queries = _texts(_find(root, "queries"), "query_id", notes, "queries")
    if empty := [q for q, text in queries.items() if not text.strip()]:
        notes.append(f"{len(empty):,} queries have no text, the first is {empty[0]!r}; they are left out.")
        queries = {q: text for q, text in queries.items() if text.strip()}
    if empty := sum(not text.strip() for text in corpus.values()):
        notes.append(f"{empty:,} documents have no text; nothing but chance finds them.")
    qrels: dict[str, dict[str, float]] = {}
    judged: dict[tuple[str, str], float] = {}
    stray, twice = 0, list[tuple[str, str]]()
    for query, document, gain in _judgements(root, split):
        if query not in queries or document not in corpus:
            stray += 1
        elif judged.setdefault((query, document), gain) != gain:
            twice.append((query, document))
        elif gain > 0:
            qrels.setdefault(query, {})[document] = gain
    if not qrels:
        raise DataError(
            f"{root}: no judgement joins a query and a document that are there ({stray:,} do not fit). "
            "Check that the ids of corpus, queries and qrels are written alike."
        )
    if twice:
        query, document = twice[0]
        notes.append(
            f"{len(twice):,} pairs are judged again with another gain, the first is query {query!r} with document "
            f"{document!r}; the first judgement of each counts."
        )
    if stray:
        notes.append(f"{stray:,} judgements name a query or document that is not there; they are left out.")
    if idle := len(queries) - len(qrels):
        notes.append(f"{idle:,} of {len(queries):,} queries have no relevant document; they are left out.")
    return Retrieval(corpus, {q: queries[q] for q in queries if q in qrels}, qrels, root.name, notes)


def _texts(path: Path, other: str, notes: list[str], what: str) -> dict[str, str]:
    """Id -> text; of an id that comes again, the first text stays, which is told."""
    found: dict[str, str] = {}
    again: list[str] = []
    for place, row in _objects(path):
        name, text = _id(row, other, place), _text(row)
        if found.setdefault(name, text) != text:
            again.append(name)
    if again:
        notes.append(
            f"{len(again):,} {what} have an id that another one has, the first is {again[0]!r}; the first text of each "
            "id counts."
        )
    return found


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
        for number, line in enumerate(_lines(path, stream), 1):
            if line.strip():
                place = f"{path}, line {number}"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{place}: not JSON ({getattr(error, 'msg', error)}).") from error
                if not isinstance(row, dict):
                    raise DataError(f"{place}: expected an object with _id and text, found a {type(row).__name__}.")
                yield place, row


def _lines(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    """Its lines; a compressed file can end early, or be damaged."""
    try:
        yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or cut short ({error}). Copy it again.") from error


def _id(row: dict[str, Any], other: str, place: str) -> str:
    for key in ("_id", other, "id"):
        if isinstance(row.get(key), str | int):
            return str(row[key])
    raise DataError(f"{place}: no field '_id' (nor {other!r}) with a text or a number; there are {', '.join(row)}.")


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
            if not isinstance(row.get("doc_id"), str | int):
                raise DataError(f"{place}: no text or number in the field 'doc_id'; there are {', '.join(row)}.")
            yield _id(row, "query_id", place), str(row["doc_id"]), _gain(row.get("gain", 1), place)
        return
    with open_text(path) as stream:
        for number, line in enumerate(_lines(path, stream), 1):
            try:
                fields = line.decode("utf-8").rstrip("\r\n").split("\t")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}, line {number}: not UTF-8 text ({error.reason}).") from error
            if fields == [""]:
                continue
            if len(fields) == 4:  # TREC's layout: query, 0, document, gain
                fields = [fields[0], fields[2], fields[3]]
            try:
                query, document, said = fields[0], fields[1], float(fields[2])
            except (IndexError, ValueError) as error:
                if number == 1:
                    continue  # the header
                raise DataError(
                    f"{path}, line {number}: expected query, document and gain separated by tabs, found {fields}."
                ) from error
            yield query, document, _gain(said, f"{path}, line {number}")


def _gain(said: Any, place: str) -> float:
    """How relevant a document is, a finite number."""
    try:
        gain = float(said)
    except (TypeError, ValueError):
        gain = math.nan
    if not math.isfinite(gain):
        raise DataError(f"{place}: the gain is {said!r}; expected a number, 0 for a document that is not relevant.")
    return gain
