"""A worker that is killed while it trains on a stream, and is started again by the launcher: nothing is different."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.workflow import made

PROCESSES = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbs, in a folder with its data."""
    root = tmp_path_factory.mktemp("streams")
    for s, rows in enumerate((150, 40, 230)):
        made.jsonl(root / f"{s}.jsonl", made.rows("pairs", rows, seed=s))
    with launched(root, root / "whole") as process:
        assert process.wait(120) == 0
    return root / "whole"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its workers in /proc")
def test_a_killed_worker_changes_nothing(whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    with launched(whole.parent, cut) as process:
        wait_for_step(cut, 10, process)
        os.kill(worker(process, rank=1), signal.SIGKILL)
        assert process.wait(120) == 0
    assert figures(cut) == figures(whole)


class launched:
    """`fit` in several processes that are started anew when one dies; ended here whatever happens."""

    def __init__(self, data: Path, out: Path) -> None:
        launcher = (
            f"-m torch.distributed.run --standalone --nproc-per-node {PROCESSES} --max-restarts 2 -m counterpoint"
        )
        settings = "--streaming --size smoke --encoder static --batch 32 --epochs 2 --save-every 5 --log-every 5"
        command = [sys.executable, *launcher.split(), "fit", f"file://{data}/*.jsonl", "--out", str(out), "--resume"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COUNTERPOINT_CACHE": str(data / "cache")}
        self.process = subprocess.Popen([*command, *settings.split()], env=environment, start_new_session=True)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def records(out: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines(keepends=True)]
    except (FileNotFoundError, json.JSONDecodeError):  # of a line that is being written
        return []


def wait_for_step(out: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not any(record["step"] >= step for record in records(out)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.05)


def worker(launcher: subprocess.Popen[bytes], rank: int) -> int:
    """The process of this rank, by the launcher that is its parent."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher.pid and f"RANK={rank}".encode() in (path / "environ").read_bytes().split(b"\0"):
                return int(path.name)
        except (OSError, ValueError):
            continue
    raise AssertionError(f"no process of rank {rank}")


def figures(out: Path) -> dict[int, tuple[float, float]]:
    """Step -> loss and norm of the gradient; of steps that were taken again, the last."""
    return {r["step"]: (r["loss"], r["grad_norm"]) for r in records(out)}
