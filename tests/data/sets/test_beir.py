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


def test_ids_and_judgements_that_come_twice_are_told(tmp_path: Path) -> None:
    root = folder(tmp_path, qrels=QRELS + "q1\td1\t1\nq1\t3\t1\n")
    (root / "corpus.jsonl").write_text(lines([*DOCUMENTS, {"_id": "d2", "text": "another"}, DOCUMENTS[0]]))
    (root / "queries.jsonl").write_text(lines([*QUERIES, {"_id": "q1", "text": "other"}, {"_id": "q9", "text": " "}]))
    found = read_beir(root)
    said = " ".join(found.notes)
    assert found.corpus["d2"] == "two"
    assert found.queries["q1"] == "find"
    assert found.qrels["q1"]["d1"] == 2
    for part in ("1 documents have an id that another one has, the first is 'd2'", "1 queries have an id", "'q1'",
                 "1 pairs are judged again", "1 queries have no text, the first is 'q9'"):  # fmt: skip
        assert part in said, part


@pytest.mark.parametrize("gain", ["nan", "inf", "-inf", "1e999"])
def test_a_gain_is_a_finite_number(tmp_path: Path, gain: str) -> None:
    with pytest.raises(DataError, match="line 2: the gain is"):
        read_beir(folder(tmp_path, qrels=f"query-id\tcorpus-id\tscore\nq1\td1\t{gain}\n"))


@pytest.mark.parametrize(
    "line", ["5", "[1]", '"text"', "null", "[" * 5000, '{"_id": null, "text": "a"}', '{"_id": [1]}']
)
def test_a_line_that_is_no_object_with_an_id_is_named(tmp_path: Path, line: str) -> None:
    root = folder(tmp_path)
    (root / "corpus.jsonl").write_text(lines(DOCUMENTS) + line + "\n")
    with pytest.raises(DataError, match="line 4"):
        read_beir(root)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "queries.jsonl").write_bytes(b'{"_id": "q1", "text": "\xff"}\n')
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_beir(root)
