"""SCARF: what is corrupted, what finds what, and that it learns from a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint import fit
from counterpoint.errors import ConfigError
from counterpoint.methods.structure.scarf import SCARF, Config
from tests.conformance.rows import build, rows


def test_the_formula_written_out() -> None:
    m = build(SCARF, "table").eval()
    batch = m.views(rows("items", 6, "table"), np.random.default_rng(0))
    z, other = (F.normalize(m.head(m.encoder(batch.one(r).data)), dim=-1) for r in ("anchor", "positive"))
    logits = z @ other.T / m.config.temperature
    expected = -torch.log_softmax(logits, 1).diagonal().mean()
    assert torch.allclose(m.losses(batch)["contrast"], expected, atol=1e-6)


def test_the_share_of_cells_that_is_said_comes_from_other_rows_and_missing_cells_stay() -> None:
    m = SCARF(build(SCARF, "table").encoder, Config(corrupt=0.5))
    batch = m.views(rows("items", 64, "table"), np.random.default_rng(0))
    one, other = batch.one("anchor").data, batch.one("positive").data
    assert torch.equal(one["missing"], other["missing"])
    changed = torch.cat([one["codes"] != other["codes"], one["values"] != other["values"]], 1)
    assert changed.sum(1).max() <= 2  # half of four columns
    assert 0.2 < changed.float().mean() < 0.5
    for name in ("codes", "values"):  # nothing that the column does not hold
        for column in range(one[name].shape[1]):
            assert set(other[name][:, column].tolist()) <= set(one[name][:, column].tolist())


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="a share of the cells above 0"):
        Config(corrupt=0.0)


def table(path: Path, n: int = 240) -> Path:
    """Two groups of rows whose columns go together, a tenth of the cells missing."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["width", "length", "colour", "weight"])
        for _ in range(n):
            group = int(rng.integers(2))
            cells = [
                3 * group + rng.normal(),
                10 - 6 * group + rng.normal(),
                ["red", "blue"][group],
                5 * group + rng.normal(),
            ]
            writer.writerow(["" if rng.random() < 0.1 else c for c in cells])
    return path


def test_a_table_alone_is_learned_from_and_measured(tmp_path: Path) -> None:
    said: list[str] = []
    found = fit(
        table(tmp_path / "rows.csv"),
        out=tmp_path / "run",
        columns={"table": "width+length+colour+weight"},
        size="smoke",
        say=lambda line: said.append(str(line)),
    )
    assert found.metrics["method"] == "scarf"
    assert any("half of the cells of each row had to find the other half" in line for line in said)
    assert found.metrics["systems"]
