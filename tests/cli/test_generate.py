"""`counterpoint generate`, behind `fit` on texts written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from counterpoint.workflow.models import language_model
from tests.conformance.rows import texts
from tests.workflow import made
from tests.workflow.conftest import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from counterpoint import fit

    folder = tmp_path_factory.mktemp("lm")
    (folder / "notes.txt").write_text("\n".join(texts()), encoding="utf-8")
    told: list[str] = []
    settings = {"steps": 30, "tensorboard": False}
    fit(
        folder / "notes.txt",
        out=folder / "run",
        method="contrastive-search",
        size="smoke",
        train=settings,
        say=told.append,
    )
    assert any("counterpoint generate" in str(line) for line in told)
    assert any("As a language model it has the perplexity" in str(line) for line in told)
    return folder


def test_a_text_is_continued(run: Run, trained: Path) -> None:
    for decode in ("contrastive", "greedy", "nucleus", "beam"):
        said = run("generate", trained / "run", "the quick brown", "", "--decode", decode, "--max-new", "8", "--json")
        assert said.code == 0, said.all
        found = [json.loads(line) for line in said.out.splitlines()]
        assert [f["prefix"] for f in found] == ["the quick brown", ""]
        assert all(f["text"].strip() and f["tokens"] <= 8 for f in found)
    said = run("generate", trained / "run", "the quick brown", "--max-new", "8", "--sampled", "2", "--seed", "4")
    assert said.code == 0, said.all
    assert said.out.startswith("the quick brown ")


def test_fewer_tokens_are_written_where_no_more_fit(run: Run, trained: Path) -> None:
    said = run("generate", trained / "run", "the quick brown", "--decode", "greedy")
    assert said.code == 0, said.all
    assert "positions for 64 tokens" in said.err
    said = run("generate", trained / "run", "fox " * 80)
    assert said.code == 2
    assert "shorten the prefix" in said.err


def test_states_that_are_alike_are_told(run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.workflow.generate.isotropy", lambda *a, **k: 0.12)
    said = run("generate", trained / "run", "the quick brown", "--max-new", "4")
    assert said.code == 0, said.all
    assert "isotropy 0.12, below 0.3" in said.err
    said = run("generate", trained / "run", "the quick brown", "--max-new", "4", "--decode", "greedy")
    assert "isotropy" not in said.err


def test_it_is_an_encoder_too(run: Run, trained: Path) -> None:
    said = run("encode", trained / "run", trained / "notes.txt", "--out", trained / "v.npy")
    assert said.code == 0, said.all
    said = run("index", trained / "run", trained / "notes.txt", "--overwrite")
    assert said.code == 0, said.all
    said = run("search", trained / "run", "birds sing at dawn", "--mode", "dense", "--k", "1", "--json")
    assert said.code == 0, said.all
    assert json.loads(said.out)["rank"] == 1


def test_training_goes_on_from_a_model(trained: Path, tmp_path: Path) -> None:
    from counterpoint import fit

    begun = language_model(trained / "run")
    found = fit(
        trained / "notes.txt", out=tmp_path / "more", method="contrastive-search", encoder=str(trained / "run"),
        size="smoke", train={"steps": 1, "tensorboard": False}, say=lambda _: None,
    )  # fmt: skip
    assert found.method.encoder.tokenizer.get_vocab() == begun.tokenizer.get_vocab()


def test_what_cannot_write_is_refused(run: Run, trained: Path, tmp_path: Path) -> None:
    from counterpoint import fit

    pairs = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))
    fit(pairs, out=tmp_path / "run", size="smoke", train={"steps": 1, "tensorboard": False}, say=lambda _: None)
    said = run("generate", tmp_path / "run", "the quick brown")
    assert said.code == 2
    assert "gives embeddings and cannot write" in said.err
    assert run("generate", trained / "run").code == 2
    assert "There is nothing to continue" in run("generate", trained / "run").err
    said = run("fit", pairs, "--method", "contrastive-search", "--out", tmp_path / "other")
    assert said.code == 2
    assert "needs single texts" in said.err
    static = ("--method", "contrastive-search", "--encoder", "static")
    said = run("fit", trained / "notes.txt", *static, "--out", tmp_path / "static")
    assert said.code == 2
    assert "causal language model" in said.err
