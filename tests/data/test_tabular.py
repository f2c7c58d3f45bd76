"""Rows of a table: what their cells are, and which column holds classes."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError

RNG = np.random.default_rng(0)
N = 120
CLASS = np.repeat([0, 1, 2], N // 3)
NOISE = {f"x{i}": (RNG.normal(size=N) + 4 * CLASS).tolist() for i in range(4)}
FEW = {"job": ["clerk", "baker", "smith"] * 40, "town": ["ulm", "bonn"] * 60, "age": ["18-30", "31-50", ">50"] * 40}
WORDS = [("setosa", "virginica", "versicolor")[c] for c in CLASS]

TABLES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("numbers, and words in the last column", {**NOISE, "kind": WORDS}, {"table": list(NOISE), "label": "kind"}),
    ("numbers, and a class by name", {"species": WORDS, **NOISE}, {"table": list(NOISE), "label": "species"}),
    ("numbers sorted by a class", {**NOISE, "target": CLASS.tolist()}, {"table": list(NOISE), "label": "target"}),
    ("numbers alone, sorted by a class that is not there", NOISE, {"table": list(NOISE)}),
    ("categories alone", {**FEW, "income": ["low", "high"] * 60}, {"table": list(FEW), "label": "income"}),
    ("categories and numbers", {**FEW, **NOISE}, {"table": [*FEW, *NOISE]}),
    ("a name of each row", {"name": [f"person {i}" for i in range(N)], **NOISE}, {"table": list(NOISE)}),
    ("an id", {"id": list(range(N)), **NOISE, "label": WORDS}, {"table": list(NOISE), "label": "label"}),
    ("a number that is no class", {**NOISE, "target": RNG.normal(size=N).tolist()}, {"table": [*NOISE, "target"]}),
]


@pytest.mark.parametrize(("columns", "parts"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES])
def test_tables(columns: dict[str, Any], parts: dict[str, Any]) -> None:
    raw = datasets.Dataset.from_dict(columns)
    schema = infer(raw)
    assert schema.columns == parts
    assert schema.kind == ("labelled" if "label" in parts else "items")
    assert schema.modalities == {"table": "table"}
    row = Rows(raw, schema)[5]
    assert row["table"] == {name: raw[5][name] for name in parts["table"]}


def test_how_to_have_it_otherwise_is_said() -> None:
    why = infer(datasets.Dataset.from_dict({**NOISE, "kind": WORDS})).why
    assert "the last column, which holds few values" in why
    assert "without it: --columns table=x0+x1+x2+x3" in why


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"text": [f"a text {i}" for i in range(N)], **NOISE}, "texts"),
        ({"said": [f"some words that say something, {i}" for i in range(N)], "mood": ["good", "bad"] * 60}, "labelled"),
        ({"a": [f"words {i}" for i in range(N)], "b": [f"more {i}" for i in range(N)], "score": NOISE["x0"]}, "scored"),
        ({"text": WORDS, "label": CLASS.tolist()}, "labelled"),
    ],
)
def test_texts_that_say_something_are_no_cells(columns: dict[str, Any], kind: str) -> None:
    schema = infer(datasets.Dataset.from_dict(columns))
    assert schema.kind == kind
    assert "table" not in schema.columns


def test_one_column_is_no_table() -> None:
    with pytest.raises(DataError, match="No column holds"):
        infer(datasets.Dataset.from_dict({"n": NOISE["x0"], "label": WORDS}))


def test_a_series_is_still_one() -> None:
    steps = np.cumsum(RNG.normal(size=(N, 2)), axis=0)
    assert infer(datasets.Dataset.from_dict({"a": steps[:, 0].tolist(), "b": steps[:, 1].tolist()})).kind == "series"
    times = [f"2024-01-01 {i // 60:02d}:{i % 60:02d}:00" for i in range(N)]
    assert infer(datasets.Dataset.from_dict({"time": times, **NOISE})).kind == "series"
