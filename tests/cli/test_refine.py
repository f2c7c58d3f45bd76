"""`counterpoint refine`: from sentences to a file that `fit` learns from, by a server and by a model on disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.decode.generator import Local, Prompt
from counterpoint.decode.seq2seq import Seq2SeqLM
from counterpoint.decode.triplets import CONTRADICTED, ENTAILED
from counterpoint.encoders import folder
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from tests.decode.folders import made
from tests.encoders.samples import TEXTS

SENTENCES = [f"Sentence number {i} is about the {w}." for i, w in enumerate(["sea", "sky", "sun", "moon", "rain"])]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Writes by rule; is silent about the sky, and does not know how the sun is scored. Gives the prompts it saw."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            seen.append(prompt)
            question = prompt.rpartition("\n\n")[2]
            about = question.partition("about the ")[2].partition(".")[0]
            if "Number:" in question:
                text = "no idea" if about == "sun" else "0.4" if "Second: No" in question else "4.5"
            else:
                text = ("It says something of the " if "Also true" in question else "No word is lost on the ") + about
            reply = json.dumps(
                {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
            ).encode()
            if about == "sky":
                reply = b"filtered"
            self.send_response(400 if about == "sky" else 200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("COUNTERPOINT_LLM_URL", f"http://127.0.0.1:{http.server_port}/v1")
    monkeypatch.setenv("COUNTERPOINT_LLM_MODEL", "small")
    monkeypatch.setenv("COUNTERPOINT_LLM_KEY", "secret-key")
    yield seen
    http.shutdown()
    http.server_close()


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES) + "\n")
    return tmp_path / "sentences.txt"


def test_from_sentences_to_a_run(server: list[str], sentences: Path, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "triplets.jsonl"
    command = ["refine", sentences, "--generator", "endpoint", "--out", out, "--price", 1, 2]
    said = run(*command)
    assert said.code == 0, said.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["anchor"] for r in rows] == [SENTENCES[0], SENTENCES[3], SENTENCES[4]]
    assert rows[0] == {
        "anchor": SENTENCES[0],
        "positive": "It says something of the sea",
        "negative": "No word is lost on the sea",
    }
    assert "18 prompts asked, 0 remembered; 144 tokens read and 48 written, at a cost of 0.0002" in said.out
    assert "Dropped 1: no answer." in said.out
    assert "Dropped 1: no score." in said.out
    assert "No answer to 2: The server refuses the prompt (400)" in said.out
    assert "secret-key" not in said.out + said.err + (tmp_path / "triplets.jsonl.answers").read_text()

    before = len(server)
    refused = run(*command)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    again = run(*command, "--overwrite")
    assert "2 prompts asked, 16 remembered" in again.out  # those without an answer
    assert len(server) == before + 2
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows

    judged = run(
        "refine", out, "--generator", "endpoint", "--out", tmp_path / "kept.jsonl", "--cache", f"{out}.answers"
    )
    assert "0 prompts asked, 6 remembered" in judged.out
    assert (tmp_path / "kept.jsonl").read_text() == out.read_text()
    trained = run("fit", out, "--method", "multicsr", "--size", "smoke", "--out", tmp_path / "run")
    assert trained.code == 0, trained.err


def test_a_model_on_this_machine(sentences: Path, tmp_path: Path, run: Any) -> None:
    torch.manual_seed(0)
    config = CausalLMConfig(layers=1, width=16, heads=2, max_length=512, vocabulary=200)
    folder.save(CausalLM.from_texts(TEXTS * 3, config), tmp_path / "lm")
    out = tmp_path / "triplets.jsonl"
    words = ["--generator", tmp_path / "lm", "--max-new", 4, "--limit", 2, "--alpha", 0.5]
    said = run("refine", sentences, "--out", out, *words)
    assert said.code == 2  # one that was never trained knows no numbers
    assert "prompts asked, 0 remembered" in said.out
    assert "No triplet is left" in said.err or "None of " in said.err
    assert not out.exists()
    assert (tmp_path / "triplets.jsonl.answers").exists()


def test_a_model_with_an_encoder_and_a_decoder(sentences: Path, tmp_path: Path, run: Any) -> None:
    """The folder says which kind it is; what is kept is what the model writes, with and without an adverse prompt."""
    lm = Seq2SeqLM.from_pretrained(made(tmp_path / "t5"))
    out, answers = tmp_path / "triplets.jsonl", tmp_path / "triplets.jsonl.answers"
    sides = [template.format(SENTENCES[0]) for template in (ENTAILED, CONTRADICTED)]
    for alpha in (0.0, 0.5):
        prompts = [Prompt(one, other) for one, other in (sides, sides[::-1])] if alpha else [Prompt(x) for x in sides]
        expected = {text.text for _, text in Local(lm, "t5", alpha=alpha).answers(prompts, max_new=4)}
        answers.unlink(missing_ok=True)
        words = ["--generator", tmp_path / "t5", "--max-new", 4, "--limit", 1, "--alpha", alpha]
        said = run("refine", sentences, "--out", out, *words)
        assert said.code in (0, 2), said.err  # one that was never trained knows no numbers
        assert {json.loads(line)["text"] for line in answers.read_text().splitlines()[:2]} == expected
        again = run("refine", sentences, "--out", out, "--overwrite", *words)
        assert "0 prompts asked" in again.out
    assert "Flan-T5" in run("refine", "--help").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--generator", "endpoint", "--alpha", 1], "gives texts, not the probabilities"),
        (["--generator", "endpoint", "--alpha", -1], "--alpha -1"),
        (["--generator", "endpoint", "--limit", 0], "at least one row"),
        (["--generator", "endpoint", "--column", "label"], "no column 'label'"),
        (["--generator", "/nowhere/at/all"], "no folder"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[Any], sentence: str, server: list[str], sentences: Path, tmp_path: Path, run: Any
) -> None:
    said = run("refine", sentences, "--out", tmp_path / "t.jsonl", *words)
    assert said.code == 2
    assert sentence in said.err
    assert server == []


def test_without_an_address_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, sentences: Path, tmp_path: Path, run: Any
) -> None:
    monkeypatch.delenv("COUNTERPOINT_LLM_URL", raising=False)
    monkeypatch.delenv("COUNTERPOINT_LLM_MODEL", raising=False)
    said = run("refine", sentences, "--out", tmp_path / "t.jsonl", "--generator", "endpoint")
    assert said.code == 2
    assert "export COUNTERPOINT_LLM_URL=https://host/v1 COUNTERPOINT_LLM_MODEL=name" in said.err
