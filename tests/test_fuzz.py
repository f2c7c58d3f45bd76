"""Whatever is done to a file: a sentence, or what is left of it; no traceback, no crash, no hang, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL")
pytest.importorskip("usearch")

COUNT = int(os.environ.get("COUNTERPOINT_FUZZ", "2000"))
"""Mutations; more with COUNTERPOINT_FUZZ=20000."""
PARTS = 8
MOST_MIB = 1_500
"""Resident memory, of which torch and the readers take a third before any file is read."""


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_are_refused_with_a_sentence_or_read(part: int) -> None:
    words = [sys.executable, "-m", "tests.fuzz", "0", str(COUNT), str(PARTS), str(part)]
    run = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.returncode == 0, f"it crashed: {run.stderr[-2000:]}"
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["tried"] == len(range(part, COUNT, PARTS))
    assert not found["failures"]
    assert found["refused"] > found["tried"] // 5
    assert found["read"] > found["tried"] // 5
    assert found["most_mib"] < MOST_MIB
