"""Several files as one set of rows."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from counterpoint.data.infer import infer
from counterpoint.data.mixed import Mixed
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError


def rows(**columns: Any) -> Rows:
    data = datasets.Dataset.from_dict(columns)
    return Rows(data, infer(data))


def pairs(n: int = 40, what: str = "q") -> Rows:
    return rows(anchor=[f"{what}{i}" if i != 1 else " " for i in range(n)], positive=[f"p{i}" for i in range(n)])


def scored(n: int = 30) -> Rows:
    return rows(a=[f"a{i}" for i in range(n)], b=[f"b{i}" for i in range(n)], score=[i / n for i in range(n)])


def test_rows_are_those_of_their_part_numbered_on() -> None:
    mixed = Mixed({"qa": pairs(4), "sts": scored(3)})
    assert len(mixed) == 6  # one anchor was empty
    assert mixed.schema.kind == "mixed"
    assert mixed.schema.sources == ("qa", "sts")
    assert [part.kind for part in mixed.schema.parts] == ["pairs", "scored"]
    found = mixed[np.array([5, 0, 3, 1])]
    assert [(r["row"], r["source"]) for r in found] == [(6, 1), (0, 0), (4, 1), (2, 0)]
    assert found[0] == {"a": "a2", "b": "b2", "score": 2 / 3, "source": 1, "row": 6}
    assert found[3]["anchor"] == "q2"
    assert [r["row"] for r in mixed] == [0, 2, 3, 4, 5, 6] == mixed.index.tolist()
    assert mixed[-1] == found[0]
    assert mixed.sources().tolist() == [0, 0, 0, 1, 1, 1]


def test_parts_of_one_kind_are_rows_of_that_kind_unless_their_classes_differ() -> None:
    assert Mixed({"x": pairs(4), "y": pairs(5)}).schema.kind == "pairs"
    one = rows(text=["a", "b", "c"], label=["x", "y", "x"])
    same = rows(text=["d", "e"], label=["y", "x"])
    other = rows(text=["d", "e"], label=["v", "w"])
    assert Mixed({"one": one, "same": same}).schema.kind == "labelled"
    assert Mixed({"one": one, "same": same}).labels().tolist() == [0, 1, 0, 1, 0]
    assert Mixed({"one": one, "other": other}).schema.kind == "mixed"


def test_each_part_gives_its_share_to_what_is_held_out() -> None:
    mixed = Mixed({"large": pairs(2000), "small": scored(150), "tiny": scored(40)})
    rest, held = mixed.split(300)
    assert np.bincount(held.sources(), minlength=3).tolist() == [100, 15, 0]
    assert held.schema.sources == mixed.schema.sources == rest.schema.sources
    assert len(rest) + len(held) == len(mixed)
    keys = {(r["source"], r.get("anchor", r.get("a"))) for r in held}
    assert keys.isdisjoint({(r["source"], r.get("anchor", r.get("a"))) for r in rest})
    assert "tiny: 40 rows are too few" in " ".join(mixed.log.lines())


def test_texts_come_from_all_parts_alike() -> None:
    found = list(Mixed({"large": pairs(500), "small": scored(20)}).texts(20))
    assert len(found) == 20
    assert sum(t[0] in "ab" for t in found) == 10


def test_other_kinds_are_refused() -> None:
    vectors = rows(v=[[0.1, 0.2], [0.3, 0.4]])
    with pytest.raises(DataError, match=r"v holds items: .*texts, pairs, scored, labelled"):
        Mixed({"qa": pairs(4), "v": vectors})
