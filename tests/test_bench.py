"""The pages that quote benchmarks say what bench/results say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def written(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "bench" / "_readme.py", *words], capture_output=True, text=True, timeout=60
    )


def test_the_pages_are_current() -> None:
    done = written(ROOT, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "figure", "page", "said"),
    [
        ("mine", 1234.0, "docs/mining.md", "| CPU time, first, s | 1,234 |"),
        ("cheap", 0.123, "docs/cheap-vectors.md", "| 384 float32 | 0.123 |"),
        ("tile", 9.876, "docs/engine.md", "| 9.876 ms |"),
    ],
)
def test_a_new_figure_reaches_its_page_and_nothing_else_of_it(
    tmp_path: Path, name: str, figure: float, page: str, said: str
) -> None:
    for part in ("bench", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("methods", "verbs", "__pycache__"))
    results = tmp_path / "bench" / "results" / f"{name}.json"
    rows = json.loads(results.read_text())
    rows[0]["ours"] = figure
    results.write_text(json.dumps(rows))
    stale = written(tmp_path, "--check")
    assert stale.returncode == 1
    assert page in stale.stderr
    before = (tmp_path / page).read_text()
    assert said not in before
    assert written(tmp_path).returncode == 0
    after = (tmp_path / page).read_text()
    assert said in after
    assert written(tmp_path, "--check").returncode == 0
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
