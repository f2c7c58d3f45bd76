"""Corrupted cells come from the same column; hidden cells are gone, and only what was there is to be predicted."""

import numpy as np
import pytest
import torch

from counterpoint.errors import ConfigError
from counterpoint.views.table import corrupt_cells, mask_cells, some_cells


def cells(n: int = 200) -> dict[str, torch.Tensor]:
    """Row i holds i + 1 in every cell, so that a cell tells its row; one column is missing in every fourth row."""
    row = torch.arange(1, n + 1)
    missing = torch.zeros(n, 5, dtype=torch.bool)
    missing[::4, 1] = True
    codes = torch.stack((row, 1000 + row), 1).masked_fill(missing[:, :2], 0)
    return {"codes": codes, "values": torch.stack((row, 2 * row, 3 * row), 1).float(), "missing": missing}


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.1, 1), (0.3, 1), (0.5, 2), (0.9, 4), (1.0, 5)])
def test_the_share_of_each_row_is_rounded_down_but_never_to_nothing(rate: float, count: int) -> None:
    chosen = some_cells((50, 5), np.random.default_rng(0), rate=rate)
    assert (chosen.sum(1) == count).all()


def test_corrupted_cells_hold_what_other_rows_hold_in_that_column() -> None:
    before = cells()
    after = corrupt_cells(before, np.random.default_rng(0), rate=0.4)
    assert torch.equal(after["missing"], before["missing"])
    changed = torch.cat((after["codes"] != before["codes"], after["values"] != before["values"]), 1)
    assert (changed.sum(1) <= 2).all()
    assert 0.3 < changed.float().mean() < 0.4  # some rows draw themselves, or a cell that is missing
    for part in ("codes", "values"):
        for column in range(before[part].shape[1]):
            assert set(after[part][:, column].tolist()) <= set(before[part][:, column].tolist())
    assert not changed[:, 1][before["missing"][:, 1]].any()
    assert after["codes"][:, 1][~before["missing"][:, 1]].all()


def test_cells_can_be_drawn_from_other_rows_than_the_batch() -> None:
    pool = {"codes": torch.full((3, 2), 7), "values": torch.full((3, 3), -1.0), "missing": torch.zeros(3, 5).bool()}
    after = corrupt_cells(cells(), np.random.default_rng(0), rate=1.0, pool=pool)
    assert (after["values"] == -1).all()
    assert set(after["codes"][:, 1].tolist()) == {0, 7}


def test_hidden_cells_leave_nothing_behind() -> None:
    before = cells()
    after, hidden = mask_cells(before, np.random.default_rng(0), rate=0.6)
    assert ((after["missing"] & ~before["missing"]) == hidden).all()
    assert not (hidden & before["missing"]).any()  # there is nothing to predict
    assert not after["codes"][after["missing"][:, :2]].any()
    assert not after["values"][after["missing"][:, 2:]].any()
    assert torch.equal(after["values"][~after["missing"][:, 2:]], before["values"][~after["missing"][:, 2:]])


def test_no_rate_no_change_and_a_seed_gives_one_view() -> None:
    before = cells()
    same = corrupt_cells(before, np.random.default_rng(0), rate=0.0)
    assert all(torch.equal(same[k], before[k]) for k in before)
    one, two = (corrupt_cells(before, np.random.default_rng(4), rate=0.3) for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in before)
    with pytest.raises(ConfigError, match="share of the cells"):
        mask_cells(before, np.random.default_rng(0), rate=1.5)
