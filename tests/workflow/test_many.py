"""`torchrun -m counterpoint fit`: one voice, one folder, the result of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from counterpoint.cli import main
from counterpoint.encoders.layout import read_weights
from counterpoint.errors import ConfigError
from counterpoint.workflow.fit import open_folder
from counterpoint.workflow.run_folder import Asked
from tests.workflow import made

ROOT = Path(__file__).parents[2]


STEPS = ("--size", "smoke", "--steps", "8", "--log-every", "4", "--tensorboard", "False", "--batch", "25")
STEPS += ("--eval-every", "4", "--metric", "mrr@10")


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*start, "-m", "counterpoint", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Rows, the run of two processes that learned from them, and what these said."""
    root = tmp_path_factory.mktemp("many")
    data = made.jsonl(root / "rows.jsonl", made.rows("pairs"))
    done = torchrun("fit", str(data), "--out", str(root / "two"), "--parallel", "fsdp", *STEPS)
    assert done.returncode == 0, done.stderr
    return data, root / "two", done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes_speak_with_one_voice_and_leave_the_model_of_one(
    two: tuple[Path, Path, str], tmp_path: Path
) -> None:
    data, run, said = two
    assert main(["fit", str(data), "--out", str(tmp_path / "one"), *STEPS]) == 0
    for sentence in ("are held out", "Method in-batch", "Report: ", "Model: ", "step 8/8"):
        assert said.count(sentence) == 1, sentence
    one, other = (read_weights(folder / "model" / "model.safetensors") for folder in (tmp_path / "one", run))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name].numpy(), value.numpy(), atol=2e-5, err_msg=name)
    figures = [json.loads((folder / "metrics.json").read_text())["systems"] for folder in (tmp_path / "one", run)]
    assert figures[0].keys() == figures[1].keys()
    assert figures[1]["model"]["mrr@10"] == pytest.approx(figures[0]["model"]["mrr@10"], abs=0.02)


@pytest.mark.slow
def test_two_processes_refuse_with_one_voice(two: tuple[Path, Path, str]) -> None:
    data, run, _ = two
    again = torchrun("fit", str(data), "--out", str(run), *STEPS)
    assert again.returncode != 0
    assert again.stderr.count("already holds a run") == 1


def test_under_a_launcher_that_restarts_a_resume_may_begin_and_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(data=["rows"])
    with pytest.raises(ConfigError, match="no run"):
        open_folder(asked, tmp_path, resume=True, overwrite=False)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    opened = open_folder(asked, tmp_path, resume=True, overwrite=False)
    assert (opened.resume, opened.begun) == (False, False)
    with pytest.raises(ConfigError, match="every restart of the launcher"):
        open_folder(asked, tmp_path, resume=False, overwrite=True)
