"""The figures of docs/scale.md are those that its script prints, and the script's formulas are those of the library."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from counterpoint.data import sharding
from counterpoint.data.files import offsets

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/scale_arithmetic.py"


@pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout of the repository")
def test_the_page_quotes_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(SCRIPT), run_name="__main__")
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 8
    for table in tables:
        assert f"```text\n{table}\n```" in page


@pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout of the repository")
def test_the_script_assumes_what_the_reader_does() -> None:
    assumed = runpy.run_path(str(SCRIPT))
    assert assumed["PIECE"] == offsets.PIECE
    assert assumed["LANES"] == sharding.LANES[0]
    assert assumed["moved"](2) == (2 * 7 * 125_000 * 256 * 2, 3 * 7 * 125_000 * 256 * 2)
