"""Cells go as the pattern says, on top of those that were missing; the probe sees what the encoder sees of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.missingness import hide, importance, missingness

RNG = np.random.default_rng(0)


def tables(n: int = 120) -> tuple[list[dict[str, Any]], np.ndarray]:
    """``told`` says the class, ``hint`` does in two of three rows, ``noise`` never does."""
    labels = np.arange(n) % 2
    out = []
    for label in labels:
        hint = label if RNG.random() < 2 / 3 else 1 - label
        out.append({"noise": float(RNG.normal()), "told": "ab"[label], "hint": float(hint)})
    return out, labels


class Raw(Encoder):
    """The cells as they are, 0 where they are missing."""

    modality: ClassVar[str] = "table"

    @dataclass(frozen=True)
    class Config:
        pass

    def __init__(self) -> None:
        super().__init__()
        self.config, self.dim = self.Config(), 3
        self.one = torch.nn.Parameter(torch.ones(()))

    def collate(self, items: Any, role: str | None = None) -> torch.Tensor:
        value = {"a": -1.0, "b": 1.0, None: 0.0}
        items = [item.get("table", item) for item in items]
        return torch.tensor(
            [[t["noise"] or 0.0, value[t["told"]], 0.0 if t["hint"] is None else t["hint"] - 0.5] for t in items]
        )

    def forward(self, data: Any) -> torch.Tensor:
        return data * self.one


def test_cells_go_with_the_probability_asked_for() -> None:
    rows, _ = tables(2_000)
    rows[0]["told"] = None
    gone = np.array([[cell is None for cell in t.values()] for t in hide(rows, 0.3, np.random.default_rng(1))])
    assert gone.mean(0) == pytest.approx([0.3] * 3, abs=0.04)
    assert gone[0, 1]
    assert hide(rows, 0.0, np.random.default_rng(1)) == rows


def test_an_order_takes_whole_columns_and_the_rest_of_an_item_stays() -> None:
    items = [{"image": "picture", "table": {"a": 1, "b": 2, "c": 3, "d": 4}}]
    (item,) = hide(items, 0.5, np.random.default_rng(0), order=["c", "a", "b", "d"])
    assert item == {"image": "picture", "table": {"a": None, "b": 2, "c": None, "d": 4}}
    assert items[0]["table"]["a"] == 1


def test_a_forest_knows_which_column_counts() -> None:
    rows, labels = tables()
    weight = importance(rows, labels)
    assert weight["told"] > 0.7
    assert weight["hint"] < weight["told"]
    assert sum(weight.values()) == pytest.approx(1)
    with pytest.raises(DataError, match="each table needs its label"):
        importance(rows, labels[:3])


def test_the_curve_falls_with_what_is_taken_away() -> None:
    (train, labels), (test, truth) = tables(), tables()
    curves = {
        pattern: missingness(Raw(), train, labels, test, truth, pattern=pattern, rates=(0.0, 0.34, 0.9), draws=2)
        for pattern in ("values", "most", "least")
    }
    assert all(curve[0.0] == 1 for curve in curves.values())
    assert curves["least"][0.34] == 1  # the noise went, or the hint
    assert 0.5 < curves["most"][0.34] < 0.85  # what is left is the hint
    assert 0.7 < curves["values"][0.34] < 0.95
    assert curves["values"][0.9] < curves["values"][0.34]
    items = [{"image": None, "table": t} for t in train], [{"image": None, "table": t} for t in test]
    same = missingness(Raw(), items[0], labels, items[1], truth, rates=(0.34,), draws=2)
    assert same[0.34] == curves["values"][0.34]


def test_whole_columns_are_the_same_in_training_and_test() -> None:
    (train, labels), (test, truth) = tables(), tables()
    found = [
        missingness(Raw(), train, labels, test, truth, pattern="features", rates=(0.67,), seed=s)[0.67]
        for s in range(6)
    ]
    assert max(found) == 1.0  # what tells is the column that was left
    assert min(found) < 0.8


def test_what_cannot_be_meant_is_refused() -> None:
    rows, labels = tables()
    with pytest.raises(ConfigError, match="no pattern 'all'"):
        missingness(Raw(), rows, labels, rows, labels, pattern="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no share of cells"):
        missingness(Raw(), rows, labels, rows, labels, rates=(1.0,))
