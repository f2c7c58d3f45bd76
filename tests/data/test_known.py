"""What rows of every shape tell of themselves, by which encoders are made to fit them."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from counterpoint.data.bags import Bags
from counterpoint.data.infer import infer
from counterpoint.data.mixed import Mixed
from counterpoint.data.nodes import Nodes
from counterpoint.data.rows import Rows
from counterpoint.data.rowset import Made
from counterpoint.data.schema import CELLS_FROM, Known, Schema
from counterpoint.data.stream import Stream
from counterpoint.data.windows import Series, Windows
from counterpoint.errors import DataError
from counterpoint.modalities.graph import Graph

VECTORS = [[1.0, 2.0, 3.0]] * 4
TABLE = {"price": [1.0, None, 3.0, 4.0], "kind": ["a", "b", None, "a"]}


def rows(columns: dict[str, Any], named: dict[str, Any] | None = None) -> Rows:
    data = datasets.Dataset.from_dict(columns)
    return Rows(data, infer(data, columns=named))


def streamed(columns: dict[str, Any], named: dict[str, Any] | None = None) -> Stream:
    data = datasets.Dataset.from_dict(columns)
    return Stream(data.to_iterable_dataset(), infer(data, columns=named))


@pytest.mark.parametrize("make", [rows, streamed])
def test_columns_tell_the_width_of_vectors_and_the_cells_of_tables(make: Any) -> None:
    assert make({"v": VECTORS}).known("vector") == Known(width=3)
    table = make(TABLE | {"n": [1, 2, 3, 4]}, {"table": ["price", "kind"]})
    assert table.known("table") == Known(cells=TABLE)
    assert table.known("vector") == Known()
    assert make({"text": ["a b", "c d"]}).known("text") == Known()


def test_an_empty_cell_does_not_hide_the_width() -> None:
    data = datasets.Dataset.from_dict({"v": [None, *VECTORS[1:]], "t": list("abcd")})
    columns = {"vector": "v", "text": "t"}
    schema = Schema(kind="towers", columns=columns, modalities={key: key for key in columns})
    assert Rows(data, schema).known("vector").width == 3


def test_chosen_rows_tell_of_themselves_alone() -> None:
    found = rows(TABLE, {"table": ["price", "kind"]}).subset([3, 0])
    assert found.known("table").cells == {"price": [4.0, 1.0], "kind": ["a", "a"]}
    shuffled = datasets.Dataset.from_dict(TABLE).select([2, 1])
    assert Rows(shuffled, found.schema).known("table").cells == {"price": [3.0, None], "kind": [None, "b"]}


def test_many_rows_tell_of_some_of_them_spread_evenly() -> None:
    cells = rows({"x": np.arange(3 * CELLS_FROM)}, {"table": "x"}).known("table").cells["x"]
    assert (len(cells), cells[0], cells[-1]) == (CELLS_FROM, 0, 3 * CELLS_FROM - 1)


def test_bags_and_rows_of_a_program_tell_of_their_items() -> None:
    bags = Bags(rows({"vector": VECTORS, "slide": list("abab"), "label": list("xyxy")}))
    assert bags.known("vector") == Known(width=3)
    made = Made([{"table": {"x": 1}}, {"table": None}, {"table": {"x": None}}, {"vector": np.ones(2)}])
    assert made.known("table") == Known(cells={"x": [1, None]})
    assert made.known("vector") == Known(width=2)
    assert made.known("audio") == Known()


def test_sources_tell_it_together_and_must_agree() -> None:
    one, two = ({"v": [[1.0] * n] * 4, "label": list("abab")} for n in (3, 2))
    assert Mixed({"a": rows(one), "b": rows(one)}).known("vector") == Known(width=3)
    with pytest.raises(DataError, match=r"unlike widths \(a: 3, b: 2\)"):
        Mixed({"a": rows(one), "b": rows(two)}).known("vector")
    named = {"table": ["price", "kind"], "label": "y"}
    part = rows({**TABLE, "y": list("abab")}, named)
    assert Mixed({"a": part, "b": part}).known("table").cells == {k: v * 2 for k, v in TABLE.items()}


def test_a_graph_tells_its_features_and_a_series_its_channels() -> None:
    graph = Graph(features=np.ones((3, 5), np.float32), edges=np.array([[0, 1], [1, 2]]))
    assert Nodes(graph).known("graph") == Known(width=5)
    values = np.stack((np.arange(20.0), np.full(20, 2.0)), axis=1)
    found = Windows(Series(values=values, names=("a", "b"))).known("series")
    assert (found.names, found.mean, found.deviation[1]) == (("a", "b"), [6.5, 2.0], 1.0)  # the first 14 steps
