"""Retrieval folders: the layout, its variants, and what does not fit together."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from counterpoint.data.sets.beir import is_retrieval, read_beir
from counterpoint.errors import DataError

DOCUMENTS = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "text": "two"}, {"_id": 3, "text": "three"}]
QUERIES = [{"_id": "q1", "text": "find"}, {"_id": "q2", "text": "idle"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t3\t1\nq1\td2\t0\nq1\tgone\t1\nnone\td1\t1\n"


JUDGED = [("q1", "d1", 2), ("q1", 3, 1), ("x", "d1", 1), ("q1", "gone", 1)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(r) for r in rows) + "\n"


def folder(root: Path, *, zipped: bool = False, qrels: str = QRELS, judged: str = "qrels/test.tsv") -> Path:
    for name, text in (("corpus.jsonl", lines(DOCUMENTS)), ("queries.jsonl", lines(QUERIES)), (judged, qrels)):
        path = root / (name + (".gz" if zipped else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return root


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("judged", "qrels"),
    [
        ("qrels/test.tsv", QRELS),
        ("qrels.tsv", "q1\t0\td1\t2\nq1\t0\t3\t1\nq1\t0\tgone\t1\nx\t0\td1\t1\n"),  # TREC's four columns, no header
        (
            "qrels.jsonl",
            lines([{"query_id": q, "doc_id": d, "gain": g} for q, d, g in JUDGED]),
        ),
    ],
)  # fmt: skip
def test_layouts(tmp_path: Path, zipped: bool, judged: str, qrels: str) -> None:
    found = read_beir(folder(tmp_path / "set", zipped=zipped, judged=judged, qrels=qrels))
    assert found.corpus == {"d1": "T\none", "d2": "two", "3": "three"}
    assert found.queries == {"q1": "find"}
    assert found.qrels == {"q1": {"d1": 2.0, "3": 1.0}}
    assert found.name == "set"
    assert found.notes[0].startswith("2 judgements name a query or document that is not there")
    assert found.notes[1].startswith("1 of 2 queries have no relevant document")
    assert is_retrieval(tmp_path / "set")


def test_folders_that_are_no_retrieval_set(tmp_path: Path) -> None:
    assert not is_retrieval(tmp_path / "none")
    with pytest.raises(DataError, match=r"lacks corpus.jsonl; it holds: not a folder"):
        read_beir(tmp_path / "none")
    root = folder(tmp_path / "set", judged="qrels/dev.tsv")
    with pytest.raises(DataError, match=r"lacks judgements: qrels/test.tsv. There are: dev. Type: --split dev"):
        read_beir(root)
    assert len(read_beir(root, split="dev").qrels) == 1
    (root / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nx\ty\t1\n")
    with pytest.raises(DataError, match=r"no judgement joins a query and a document that are there \(1 do not fit\)"):
        read_beir(root)
    (root / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1 d1 1\n")
    with pytest.raises(DataError, match=r"test.tsv, line 2: expected query, document and gain"):
        read_beir(root)
    (root / "queries.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(DataError, match=r"queries.jsonl, line 1: no field '_id'"):
        read_beir(root)
    (root / "corpus.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"corpus.jsonl, line 1: not JSON"):
        read_beir(root)


def retrieval(
    root: Path, *, documents: list[Any] | None = None, queries: list[Any] | None = None, judged: list[str] | None = None
) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "qrels").mkdir(exist_ok=True)
    texts = {"d1": "one", "d2": "two"}
    some = [{"_id": k, "text": v} for k, v in texts.items()] + (documents or [])
    asked = [{"_id": "q1", "text": "find"}, {"_id": "q2", "text": "look"}] + (queries or [])
    (root / "corpus.jsonl").write_text(lines(some))
    (root / "queries.jsonl").write_text(lines(asked))
    (root / "qrels" / "test.tsv").write_text(
        "\n".join(["query-id\tcorpus-id\tscore", "q1\td1\t1", "q2\td2\t2", *(judged or [])])
    )
    return root


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"documents": [{"_id": "d1", "text": "another"}]},
         r"corpus.jsonl, line 3: 1 documents have an id .* \(first: 'd1'\)"),
        ({"queries": [{"_id": "q2", "text": "another"}]},
         r"queries.jsonl, line 3: 1 queries have an id .* \(first: 'q2'\)"),
        ({"judged": ["q1\td1\t0", "q2\td2\t1"]},
         r"test.tsv, line 4: document 'd1' is judged for query 'q1' with 0, and before with 1 \(2 such lines\)"),
        ({"judged": ["q1\td2\tnan"]}, r"line 4: the gain of document 'd2' for query 'q1' is nan"),
        ({"judged": ["q1\td2\tinf"]}, r"line 4: the gain of document 'd2' for query 'q1' is inf"),
        ({"documents": [5]}, r"corpus.jsonl, line 3: expected an object like .* found 5"),
        ({"documents": ["text"]}, r"corpus.jsonl, line 3: expected an object like .* found 'text'"),
        ({"documents": [{"_id": None, "text": "x"}]}, r"corpus.jsonl, line 3: the id in '_id' is None"),
        ({"queries": [{"_id": ["x"], "text": "x"}]}, r"queries.jsonl, line 3: the id in '_id' is \['x'\]"),
        ({"documents": [{"_id": "x", "y": json.loads("[" * 99 + "]" * 99)}]}, r"line 3: it nests 100 levels"),
    ],
)  # fmt: skip
def test_judgements_that_contradict_each_other_and_lines_that_are_none(
    tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        read_beir(retrieval(tmp_path / "set", **more))


def test_what_stands_twice_and_what_is_empty_is_counted(tmp_path: Path) -> None:
    found = read_beir(
        retrieval(
            tmp_path / "set",
            documents=[{"_id": "d2", "text": "two"}, {"_id": "d3", "text": ""}, {"_id": 7, "text": "seven"}],
            queries=[{"_id": "q3", "text": " "}, {"_id": "q1", "text": "find"}],
            judged=["q1\td1\t1", "q3\td1\t1", "q2\t7\t1"],
        )
    )
    assert found.corpus == {"d1": "one", "d2": "two", "d3": "", "7": "seven"}
    assert found.queries == {"q1": "find", "q2": "look"}
    assert found.qrels == {"q1": {"d1": 1.0}, "q2": {"d2": 2.0, "7": 1.0}}
    assert found.notes == [
        "1 documents stand twice, word for word (first: 'd2'); each counts once.",
        "1 queries stand twice, word for word (first: 'q1'); each counts once.",
        "1 judgements stand twice (first: query 'q1', document 'd1'); each counts once.",
        "1 queries have no text (first: 'q3'); they are left out.",
        "1 documents have no text (first: 'd3'); they stay, and are hardly found.",
    ]
