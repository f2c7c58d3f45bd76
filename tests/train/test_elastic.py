"""`torchrun --max-restarts`: processes die, the launcher starts them again, and the run ends as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.train.checkpoint import load

ROOT = Path(__file__).parents[2]


def launch(folder: Path, deaths: dict[str, dict[str, int]]) -> str:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    command = [*launcher, "--monitor-interval=0.1", "-m", "tests.train.elastic", str(folder), json.dumps(deaths)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stderr


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = ("seconds", "rows_per_s")
    return load(folder / "end").groups["method"], [{k: v for k, v in r.items() if k not in times} for r in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which nobody dies."""
    folder = tmp_path_factory.mktemp("whole")
    launch(folder, {})
    return folder


@pytest.mark.slow
def test_one_killed_then_both_and_the_run_ends_as_if_it_had_never_stopped(whole: Path, tmp_path: Path) -> None:
    said = launch(tmp_path / "killed", {"0": {"1": 5}, "1": {"0": 8, "1": 8}})
    assert said.count("exitcode: -9") >= 2
    (weights, log), (again, log_again) = outcome(whole), outcome(tmp_path / "killed")
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert log_again == log
    assert [r["step"] for r in log] == list(range(15))
