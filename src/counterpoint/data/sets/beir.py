"""Retrieval sets: a corpus, queries, and judgements, read from a folder in BEIR's layout."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterpoint.data.files.jsonfile import loads, mend
from counterpoint.data.files.textfile import open_text
from counterpoint.errors import DataError


@dataclass(frozen=True)
class Retrieval:
    """corpus: document id -> text. queries: query id -> text. qrels: query id -> {document id: gain}, all gains > 0.

    Every query in ``qrels`` is in ``queries`` and has a relevant document; every judged document is in ``corpus``.

    name: of the set. notes: sentences on what was left out.
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, float]]
    name: str = ""
    notes: list[str] = field(default_factory=list)


def read_beir(folder: str | Path, *, split: str = "test") -> Retrieval:
    """A folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (or qrels.jsonl, qrels.tsv); each also as .gz.

    Documents: ``_id`` (or ``doc_id``), ``title``, ``text``; a title is put before its text. Queries: ``_id`` (or
    ``query_id``), ``text``. Judgements: query, document, gain. Queries without text or without a relevant document are
    left out, as are judgements of documents that are not there; documents without text stay, and what is written twice
    counts once. All are counted in ``notes``.

    Raises `DataError` for an id that stands twice with different texts, for a document that a query judges twice with
    different gains, and for gains that are no numbers.

    folder: of the set. split: of its judgements.
    """
    root, notes = Path(folder), list[str]()
    corpus = _texts(_find(root, "corpus"), "doc_id", "documents", notes)
    queries = _texts(_find(root, "queries"), "query_id", "queries", notes)
    gains, stray = _gains(root, split, corpus, queries, notes)
    qrels: dict[str, dict[str, float]] = {}
    for (query, document), gain in gains.items():
        if gain > 0:
            qrels.setdefault(query, {})[document] = gain
    blank = [q for q in qrels if not queries[q].strip()]
    for query in blank:
        del qrels[query]
    if not qrels:
        raise DataError(
            f"{root}: no judgement joins a query and a document that are there ({stray:,} do not fit). "
            "Check that the ids of corpus, queries and qrels are written alike."
        )
    if stray:
        notes.append(f"{stray:,} judgements name a query or document that is not there; they are left out.")
    if blank:
        notes.append(f"{len(blank):,} queries have no text (first: {blank[0]!r}); they are left out.")
    if idle := len(queries) - len(qrels) - len(blank):
        notes.append(f"{idle:,} of {len(queries):,} queries have no relevant document; they are left out.")
    if empty := [d for d, text in corpus.items() if not text.strip()]:
        notes.append(f"{len(empty):,} documents have no text (first: {empty[0]!r}); they stay, and are hardly found.")
    return Retrieval(corpus, {q: queries[q] for q in queries if q in qrels}, qrels, root.name, notes)


def _texts(path: Path, other: str, what: str, notes: list[str]) -> dict[str, str]:
    """Id -> text, of documents or queries. Adds to the notes."""
    found: dict[str, str] = {}
    twice: list[str] = []
    other_text: list[tuple[str, str]] = []
    for place, row in _objects(path):
        key, text = _id(row, other, place), _text(row)
        if key in found and found[key] != text:
            other_text.append((key, place))
        elif key in found:
            twice.append(key)
        found.setdefault(key, text)
    if other_text:
        key, place = other_text[0]
        raise DataError(
            f"{place}: {len(other_text):,} {what} have an id that stands before with another text (first: {key!r}). "
            "Which one is meant decides what is measured: leave one out, or give each an id of its own."
        )
    if twice:
        notes.append(f"{len(twice):,} {what} stand twice, word for word (first: {twice[0]!r}); each counts once.")
    return found


def _gains(
    root: Path, split: str, corpus: dict[str, str], queries: dict[str, str], notes: list[str]
) -> tuple[dict[tuple[str, str], float], int]:
    """(query, document) -> gain, of those that are there; and the number of the others. Adds to the notes."""
    gains: dict[tuple[str, str], float] = {}
    stray, twice, wrong, unlike = 0, list[tuple[str, str]](), list[str](), list[str]()
    for place, query, document, gain in _judgements(root, split):
        pair = (query, document)
        if not math.isfinite(gain):
            wrong.append(f"{place}: the gain of document {document!r} for query {query!r} is {gain}")
        elif query not in queries or document not in corpus:
            stray += 1
        elif gains.get(pair, gain) != gain:
            unlike.append(
                f"{place}: document {document!r} is judged for query {query!r} with {gain:g}, and before with "
                f"{gains[pair]:g}"
            )
        else:
            twice += [pair] if pair in gains else []
            gains[pair] = gain
    if wrong:
        raise DataError(
            f"{wrong[0]} ({len(wrong):,} such lines). Gains are numbers, 0 for what is not relevant. Correct them, "
            "or leave them out."
        )
    if unlike:
        raise DataError(f"{unlike[0]} ({len(unlike):,} such lines). Keep one line for each query and document.")
    if twice:
        (query, document), *_ = twice
        notes.append(
            f"{len(twice):,} judgements stand twice (first: query {query!r}, document {document!r}); each counts once."
        )
    return gains, stray


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
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = mend(loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"{place}: not JSON ({error.msg}).") from error
            except (UnicodeDecodeError, DataError) as error:
                raise DataError(f"{place}: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f'{place}: expected an object like {{"_id": "1", "text": "..."}}, found {row!r:.60}.')
            yield place, row


def _id(row: dict[str, Any], other: str, place: str) -> str:
    for key in ("_id", other, "id"):
        if key in row:
            if row[key] is None or isinstance(row[key], list | dict) or not str(row[key]).strip():
                raise DataError(f"{place}: the id in {key!r} is {row[key]!r}. An id is a text or a number.")
            return str(row[key])
    raise DataError(f"{place}: no field '_id' (nor {other!r}); there are {', '.join(row)}.")


def _text(row: dict[str, Any]) -> str:
    return "\n".join(str(part) for part in (row.get("title"), row.get("text")) if part)


def _judgements(root: Path, split: str) -> Iterator[tuple[str, str, str, float]]:
    """(place, query, document, gain) of each line."""
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
            yield place, _id(row, "query_id", place), _document(row, place), _gain(row.get("gain", 1), place)
        return
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            fields = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
            if fields == [""]:
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
            yield f"{path}, line {number}", query, document, gain


def _document(row: dict[str, Any], place: str) -> str:
    if "doc_id" not in row:
        raise DataError(f"{place}: no field 'doc_id'; there are {', '.join(row)}.")
    return str(row["doc_id"])


def _gain(value: Any, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: the gain is {value!r}, which is no number.") from error
