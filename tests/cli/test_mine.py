"""`counterpoint mine`: files in, files out, what it says; and training on what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.workflow import made
from tests.workflow.conftest import Run, run

__all__ = ["run"]
WINDOW = ("--ranks", "1-20", "--ratio", "none", "--number", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", made.rows("pairs", 40))


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    from counterpoint import fit

    folder = data.parent / "run"
    fit(data, out=folder, size="smoke", train={"steps": 2, "tensorboard": False}, say=lambda _: None)
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_rows_with_their_negatives_are_trained_on(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "mined.jsonl"
    said = run("mine", model, data, "--out", out, *WINDOW)
    assert said.code == 0, said.all
    before, after = lines(data), lines(out)
    assert [{k: v for k, v in row.items() if k != "negatives"} for row in after] == before
    assert all(len(row["negatives"]) == 2 for row in after)  # type: ignore[arg-type]
    counts = json.loads((tmp_path / "mined.jsonl.stats.json").read_text())
    assert (counts["pairs"], counts["mined"]) == (40, 80)
    assert "80 negatives for 40 pairs" in said.all
    whole = out.read_bytes()
    again = run("mine", model, data, "--out", out, *WINDOW)
    assert out.read_bytes() == whole
    assert "blocks of work were done before" in again.all
    trained = run("fit", out, "--out", tmp_path / "run", "--method", "in-batch", "--size", "smoke", "--steps", 2,
                  "--tensorboard", "False")  # fmt: skip
    assert trained.code == 0, trained.all
    assert "negatives" in json.loads((tmp_path / "run" / "config.json").read_text())["schema"]["columns"]


def test_words_a_corpus_a_guide_and_scores(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    pairs = made.jsonl(tmp_path / "p.jsonl", [{"anchor": "red rose", "positive": "a rose"}] * 2)
    corpus = made.jsonl(tmp_path / "c.jsonl", [{"text": t} for t in ("red car", "A ROSE!", "the red sea", "green", "")])
    out = tmp_path / "mined.parquet"
    said = run("mine", "bm25", pairs, "--corpus", corpus, "--out", out, "--ranks", "1-9", "--scores")
    assert said.code == 0, said.all
    table = pq.read_table(out).to_pylist()
    assert [set(row["negatives"]) for row in table] == [{"red car", "the red sea"}] * 2
    assert [len(row["negative_scores"]) for row in table] == [2, 2]
    assert "none of which was judged" in said.all
    judge = ("--guide", model, "--margin", "0.1", "--scores")
    guided = run("mine", "bm25", pairs, "--corpus", corpus, "--out", out, "--ranks", "1-9", *judge)
    assert guided.code == 0, guided.all
    for row in pq.read_table(out).to_pylist():
        limit = min(row["positive_score"] - 0.1, row["positive_score"] - 0.05 * abs(row["positive_score"]))
        assert all(score <= limit + 1e-6 for score in row["negative_scores"])


def test_former_negatives_give_way(run: Run, model: Path, tmp_path: Path) -> None:
    rows = [{**row, "negative": "old"} for row in made.rows("pairs", 30)]
    said = run("mine", model, made.jsonl(tmp_path / "p.jsonl", rows), "--out", tmp_path / "m.jsonl", *WINDOW)
    assert "those that are mined take their place" in said.all
    assert all("negative" not in row and "old" not in row["negatives"] for row in lines(tmp_path / "m.jsonl"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--out", "m.csv"), "written as .jsonl or .parquet"),
        (("--out", "m.jsonl", "--ranks", "9"), "expected the first and the last rank"),
        (("--out", "m.jsonl", "--ranks", "100-200"), "so none has rank 100. Give more of them"),
        (("--out", "m.jsonl", "--ratio", "high"), "a share such as 0.95, or none"),
        (("--out", "m.jsonl", "--block", "0"), "at least one text"),
    ],
)
def test_slips_are_named(run: Run, model: Path, data: Path, words: tuple[str, ...], sentence: str) -> None:
    said = run("mine", model, data, *words)
    assert (said.code, sentence in said.all) == (2, True), said.all


def test_rows_that_are_no_pairs(run: Run, model: Path, tmp_path: Path) -> None:
    texts = made.jsonl(tmp_path / "t.jsonl", made.rows("texts", 20))
    said = run("mine", model, texts, "--out", tmp_path / "m.jsonl")
    assert (said.code, "Negatives are mined for pairs of texts" in said.all) == (2, True), said.all
