"""What a shell waits for: the verbs that need no training import neither torch nor what comes with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from counterpoint.encoders import folder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.search.index import Index
from tests.conformance.rows import texts

HEAVY = {"torch", "torch._dynamo", "transformers", "transformers.modeling_utils", "sklearn", "plotly", "datasets"}
SCRIPT = (
    "import sys; from counterpoint.cli import main\n"
    "code = main(sys.argv[1:])\n"
    "print(code, len(sys.modules), *sorted(set(sys.modules) & {heavy}), file=sys.stderr)"
)


def imported(words: Sequence[str]) -> tuple[int, set[str]]:
    """Modules that a command has imported when it is done: how many, and which heavy ones."""
    script = SCRIPT.replace("{heavy}", repr(HEAVY))
    run = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    code, count, *heavy = run.stderr.splitlines()[-1].split()
    assert code == "0", run.stderr
    return int(count), set(heavy)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    encoder = StaticText.from_texts(texts(), StaticTextConfig(dim=16))
    folder.save(encoder, tmp_path / "model")
    rows = [{"text": text} for text in texts()]
    Index.build(tmp_path / "index", rows, encoder=encoder, model=tmp_path / "model")
    return tmp_path / "index"


@pytest.mark.parametrize(("words", "most"), [(["--help"], 250), (["methods", "simcse"], 600), (["methods"], 600)])
def test_help_and_the_pages_of_methods(words: list[str], most: int) -> None:
    count, heavy = imported(words)
    assert not heavy
    assert count <= most


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_a_question_to_an_index_of_a_static_encoder(index: Path, mode: str) -> None:
    count, heavy = imported(["search", str(index), "the quick fox", "--mode", mode])
    assert not heavy
    assert count <= 2000


def test_a_look_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts()))
    _, heavy = imported(["data", "inspect", str(tmp_path / "rows.jsonl")])
    assert not heavy
