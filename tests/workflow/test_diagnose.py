"""The verb on files of every kind: a table with a sentence each, JSON, a page; errors are sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import counterpoint
from counterpoint.errors import DataError
from counterpoint.workflow.diagnose import trained_at
from tests.workflow import made
from tests.workflow.conftest import Run

pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    data = made.jsonl(folder / "texts.jsonl", made.rows("texts", 60))
    training = {"steps": 3, "tensorboard": False}
    counterpoint.fit(data, out=folder / "run", method="simcse", size="smoke", train=training, say=lambda _: None)
    return folder / "run"


@pytest.mark.parametrize("kind", ["texts", "pairs", "scored", "labelled"])
def test_text_rows_of_every_kind(run: Run, model: Path, tmp_path: Path, kind: str) -> None:
    data = made.jsonl(tmp_path / f"{kind}.jsonl", made.rows(kind, 60))
    said = run("diagnose", model, data, "--json", tmp_path / "d.json")
    assert said.code == 0, said.all
    found = json.loads((tmp_path / "d.json").read_text())
    names = {f["name"] for f in found["findings"]}
    assert {"alignment", "uniformity", "hardness", "isotropy", "effective rank", "hubness", "duplicates"} <= names
    assert ("tolerance" in names) == (kind == "labelled")
    assert ("nearer than the positive" in names) == (kind in ("pairs", "scored"))
    assert found["temperature"] == pytest.approx(0.05)
    assert "At T = 0.05 the loss pushes" in said.all
    assert all(len(f["says"]) > 20 for f in found["findings"])
    if kind in ("texts", "labelled"):
        assert "another pass with dropout" in said.all


def test_the_page_is_one_file_with_pictures(run: Run, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 60))
    said = run("diagnose", model, data, "--html", tmp_path / "sub" / "d.html", "--temperature", "0.2")
    assert said.code == 0, said.all
    page = (tmp_path / "sub" / "d.html").read_text()
    assert "Negatives pushed" in page
    assert "At T = 0.2" in page
    assert "Nearer than the positive" in page
    assert "http-equiv" not in page


def test_images_and_two_modalities(run: Run, tmp_path: Path) -> None:
    pictures = made.pictures(tmp_path / "pictures", 24)
    training = {"steps": 2, "tensorboard": False}
    out = tmp_path / "images"
    counterpoint.fit(pictures, out=out, method="supcon", size="smoke", train=training, say=lambda _: None)
    found = counterpoint.diagnose(out, pictures)
    assert {"alignment", "tolerance"} <= {f.name for f in found.findings}
    assert "another crop" in " ".join(found.notes)
    captioned, towers = made.captioned(tmp_path / "captioned", 30), tmp_path / "towers"
    counterpoint.fit(captioned, out=towers, size="smoke", train=training, say=lambda _: None)
    assert "modality gap" in counterpoint.diagnose(towers, captioned)
    said = run("diagnose", out, captioned)
    assert said.code == 2
    assert "there is nothing for text" in said.all


def test_the_temperature_of_the_training(tmp_path: Path, model: Path) -> None:
    assert trained_at(model) == pytest.approx(0.05)
    assert trained_at(model / "model") is None
    (tmp_path / "config.json").write_text('{"settings": {"temperature": 0.3}}')
    assert trained_at(tmp_path) == 0.3
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "temperature": 0.2}\n{"step": 2, "temperature": 0.1}\n{}\n')
    assert trained_at(tmp_path) == 0.1


def test_a_retrieval_set_is_queries_and_their_answers(model: Path, tmp_path: Path) -> None:
    rows = made.rows("pairs", 30)
    made.jsonl(tmp_path / "corpus.jsonl", ({"_id": f"d{i}", "text": r["answer"]} for i, r in enumerate(rows)))
    made.jsonl(tmp_path / "queries.jsonl", ({"_id": f"q{i}", "text": r["question"]} for i, r in enumerate(rows)))
    (tmp_path / "qrels").mkdir()
    judged = "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(30))
    (tmp_path / "qrels" / "test.tsv").write_text(judged)
    found = counterpoint.diagnose(model, tmp_path)
    assert found.counts["pairs"] == 30
    assert "judged queries" in found.notes[0]


def test_what_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    two = made.jsonl(tmp_path / "two.jsonl", made.rows("texts", 2))
    data = made.jsonl(tmp_path / "texts.jsonl", made.rows("texts", 20))
    for words, sentence in (
        ((model, two), "at least 3"),
        ((model, data, "--temperature", "0"), "a temperature is positive"),
        ((model, data, "--limit", "1"), "at least 3 rows"),
        ((tmp_path / "nothing", data), "There is no model folder"),
        ((model, tmp_path / "nothing.jsonl"), "nothing.jsonl"),
    ):
        said = run("diagnose", *words)
        assert said.code == 2
        assert sentence in said.all
    with pytest.raises(DataError, match="graph"):
        counterpoint.diagnose(model, "cora")
