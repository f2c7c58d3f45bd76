"""Every kind of rows, from its files to a trained encoder that is measured, searched and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from counterpoint import load
from tests.workflow import made
from tests.workflow.conftest import Run

STEPS = ("--size", "smoke", "--steps", "8", "--log-every", "4", "--tensorboard", "False")


def fitted(run: Run, data: Path, out: Path, *more: object) -> str:
    """Train on a few steps; what is left must be whole, and what is said must end with what to type next."""
    said = run("fit", data, "--out", out, *STEPS, *more)
    assert said.code == 0, said.all
    metrics = json.loads((out / "metrics.json").read_text())
    model = metrics["systems"]["model"]
    assert metrics["steps"] == 8
    assert metrics["stopped"] == "finished"
    assert model
    assert all(np.isfinite(v) for v in model.values())
    assert len(metrics["systems"]) > 1, "nothing stands beside the model"
    assert metrics["intervals"].keys() == metrics["systems"].keys()
    for difference in metrics["differences"].values():
        low, high = difference["ci95"]
        assert low <= difference["value"] <= high
    assert "encoder before training" in metrics["systems"] or "random encoder" in metrics["systems"]
    told = said.out.index("The model is below") if "verdict" in metrics else 0
    assert (told > 0) == bool(metrics.get("below"))
    assert told < said.out.index("model − system")
    assert {"counterpoint", "torch", "python"} <= metrics["versions"].keys()
    assert {"read", "set-up", "train", "evaluate"} <= metrics["seconds"].keys()
    assert metrics["title"] in (out / "report.html").read_text()
    assert "model − system" in said.out
    assert "held out to measure on" in said.all
    assert said.out.index("Report: ") < said.out.index("Model: ") < said.out.index("Next:")
    return said.all


def encoded(run: Run, out: Path, data: Path, *more: object) -> np.ndarray:
    """The embeddings that `encode` writes."""
    said = run("encode", out, data, "--out", out / "v.npy", *more)
    assert said.code == 0, said.all
    return np.load(out / "v.npy", allow_pickle=False)


def searched(run: Run, out: Path, data: Path, column: str, question: str) -> list[dict[str, object]]:
    """The hits of a question, by the index of a run."""
    assert run("index", out, data, "--column", column).code == 0
    said = run("search", out, question, "--json", "--k", "3")
    assert said.code == 0, said.all
    return [json.loads(line) for line in said.out.splitlines()]


def same_in_onnx(run: Run, out: Path, texts: list[str], *more: object) -> None:
    """The exported ONNX file and its tokenizer give the embeddings of the encoder."""
    import onnxruntime
    from tokenizers import Tokenizer

    assert run("export", out, "--to", "onnx", "--out", out / "m.onnx", *more).code == 0
    session = onnxruntime.InferenceSession(str(out / "m.onnx"), providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    encoder = load(out, "text")
    tokenizer = Tokenizer.from_file(str(out / "m.tokenizer.json"))
    for text, expected in zip(texts, encoder.encode(texts)):
        ids = tokenizer.encode(text).ids
        given = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        (found,) = session.run(None, {k: v for k, v in given.items() if k in names})
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def same_in_sentence_transformers(folder: Path, out: Path, texts: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(theirs, load(out, "text").encode(texts), atol=1e-5)


def test_pairs(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs"))
    out = tmp_path / "run"
    said = fitted(run, data, out)
    assert "Method in-batch (In-batch ranking" in said
    assert "because the rows hold pairs: question and answer are names of the two sides of a pair." in said
    texts = [r["question"] for r in made.rows("pairs", 9, seed=5)]
    (tmp_path / "q.txt").write_text("\n".join(texts))
    np.testing.assert_allclose(encoded(run, out, tmp_path / "q.txt"), load(out).encode(texts), atol=1e-6)
    hits = searched(run, out, data, "answer", "captain of the boat at the pier")
    assert [h["rank"] for h in hits] == [1, 2, 3]
    assert set(hits[0]) == {"query", "rank", "score", "question", "answer"}
    measured = run("eval", out, data, "--json", tmp_path / "figures.json")
    assert measured.code == 0
    assert "Measured as pairs" in measured.out
    assert "bm25" in measured.out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["task"] == "retrieval"
    assert figures["counts"]["queries"] == 160
    same_in_onnx(run, out, texts)
    same_in_sentence_transformers(out / "model", out, texts)
    before = (out / "report.html").stat().st_mtime_ns
    assert run("report", out).code == 0
    assert (out / "report.html").stat().st_mtime_ns > before


def test_pairs_with_negatives_and_a_transformer(run: Run, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    data = made.jsonl(tmp_path / "triplets.jsonl", made.rows("negatives"))
    out = tmp_path / "run"
    assert "with negatives in negative" in fitted(run, data, out, "--encoder", "transformer")
    texts = [r["anchor"] for r in made.rows("negatives", 5, seed=5)]
    exported = tmp_path / "st"
    said = run("export", out, "--to", "sentence-transformers", "--out", exported)
    assert said.code == 0
    assert "the same embeddings" in said.out
    same_in_sentence_transformers(exported, out, texts)
    same_in_onnx(run, out, texts)
    tokens = AutoTokenizer.from_pretrained(exported)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(exported, add_pooling_layer=False).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    np.testing.assert_allclose(pooled.numpy(), load(out).encode(texts), atol=1e-5)


def test_texts(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "texts.jsonl", made.rows("texts"))
    said = fitted(run, data, tmp_path / "run")
    assert "Method simcse" in said
    assert "They are short (median 16 words), so whole texts are contrasted." in said
    assert "the first half of each text had to find its second half" in said


def test_long_texts(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = made.jsonl(tmp_path / "long.jsonl", ({"body": made.text(rng, t, 90)} for t in made.topics(rng, 120)))
    said = fitted(run, data, tmp_path / "run")
    assert "Method contriever" in said
    assert "They are long (median 90 words), so crops of a text are contrasted." in said


def test_scored_pairs(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "scored.jsonl", made.rows("scored"))
    out = tmp_path / "run"
    assert "Method graded" in fitted(run, data, out)
    said = run("eval", out, data)
    assert said.code == 0
    assert "Measured as scored" in said.out
    assert "Spearman" in said.out or "spearman" in said.out


def test_labelled_texts(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "labelled.jsonl", made.rows("labelled"))
    test = made.jsonl(tmp_path / "test.jsonl", made.rows("labelled", 27, seed=7))
    out = tmp_path / "run"
    said = run("fit", data, "--out", out, "--test", test, *STEPS)
    assert said.code == 0, said.all
    assert "Method supcon" in said.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["counts"]["test rows"] == 27
    cheap = {"majority", "TF-IDF of words", "TF-IDF of character n-grams", "encoder before training"}
    assert metrics["systems"].keys() == {"model", *cheap}
    assert json.loads((out / "config.json").read_text())["encoders"]["text"]["kind"] == "static-text"
    said = run("eval", out, test, "--train", data)
    assert said.code == 0, said.all
    for name in cheap:
        assert name in said.out


def test_labelled_images(run: Run, tmp_path: Path) -> None:
    data, out = made.pictures(tmp_path / "images", 120), tmp_path / "run"
    assert "image and its label" in fitted(run, data, out)
    assert encoded(run, out, data).shape == (120, load(out).dim)
    # Of the classes of the test folder one is missing: its numbers are others, its names decide.
    test = made.pictures(tmp_path / "test", 60, seed=3)
    for path in (test / "garden").iterdir():
        path.unlink()
    (test / "garden").rmdir()
    said = run("eval", out, test, "--train", data, "--json", tmp_path / "figures.json")
    assert said.code == 0, said.all
    figures = {f["metric"]: f["value"] for f in json.loads((tmp_path / "figures.json").read_text())["figures"]}
    assert figures["kNN accuracy"] == 1.0, "colours tell the classes apart, so their names were mixed up"


def test_images(run: Run, tmp_path: Path) -> None:
    data, out = made.pictures(tmp_path / "images", 120, classes=False), tmp_path / "run"
    (data / "broken.png").write_bytes(b"not an image")
    said = fitted(run, data, out)
    assert "Method directpred" in said
    assert "Skipped 1: not readable as an image (broken.png)." in said
    assert "one crop of each image had to find another" in said
    said = run("encode", out, data, "--out", tmp_path / "v.parquet")
    assert said.code == 0
    assert "broken.png" in said.out
    assert len(pq.read_table(tmp_path / "v.parquet")["embedding"][0]) == load(out).dim
    assert run("export", out, "--to", "onnx", "--out", tmp_path / "m.onnx").code == 0
    said = run("export", out, "--to", "sentence-transformers", "--out", tmp_path / "st")
    assert said.code == 2
    assert "encodes images" in said.all
    assert not (tmp_path / "st").exists()


def test_two_modalities(run: Run, tmp_path: Path) -> None:
    data, out = made.captioned(tmp_path / "captions"), tmp_path / "run"
    said = fitted(run, data, out)
    assert "Method two-tower" in said
    assert "two modalities of one thing: an image and a text (caption) of one thing." in said
    assert encoded(run, out, data, "--stream", "image").shape == encoded(run, out, data, "--stream", "text").shape
    assert searched(run, out, data, "caption", "rope and anchor")
    texts = ["rope and anchor", "seed"]
    same_in_onnx(run, out, texts, "--stream", "text")
    said = run("export", out, "--to", "sentence-transformers", "--out", tmp_path / "st", "--stream", "text")
    assert said.code == 0, said.all
    same_in_sentence_transformers(tmp_path / "st", out, texts)
    assert run("eval", out, data).code == 0
    assert "--stream" in run("encode", out, data, "--out", tmp_path / "v.npy").err


@pytest.mark.parametrize("streaming", [False, True])
def test_a_stream_learns_too(run: Run, tmp_path: Path, streaming: bool) -> None:
    """Streamed rows cannot be held out from; test rows are measured on all the same."""
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs"))
    test = made.jsonl(tmp_path / "held.jsonl", made.rows("pairs", 20, seed=4))
    flags = ["--streaming"] if streaming else []
    said = run("fit", data, "--out", tmp_path / "run", "--test", test, *STEPS, *flags)
    assert said.code == 0, said.all
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["queries"] == 20
    assert metrics["rows"] == (None if streaming else 160)
