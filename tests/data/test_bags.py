"""Bags: rows of one value of a column, in the order they came, with the label all of them share."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from counterpoint.data.bags import Bags
from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError

COLUMNS = {
    "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]],
    "slide": ["b", "a", "b", "c", "a"],
    "label": ["x", "y", "x", "y", "y"],
}


def bags(**columns: list[object]) -> Bags:
    held = datasets.Dataset.from_dict({**COLUMNS, **columns})
    return Bags(Rows(held, infer(held)))


def test_columns_that_say_it_are_taken_as_bags() -> None:
    schema = infer(datasets.Dataset.from_dict(COLUMNS))
    assert schema.kind == "bags"
    assert schema.columns == {"vector": "vector", "label": "label", "bag": "slide"}
    assert schema.modalities == {"vector": "vector"}
    named = infer(
        datasets.Dataset.from_dict({"v": COLUMNS["vector"], "of": COLUMNS["slide"], "y": COLUMNS["label"]}),
        columns={"vector": "v", "bag": "of", "label": "y"},
    )
    assert (named.kind, named.labels) == ("bags", ("x", "y"))


def test_vectors_alone_and_with_a_label() -> None:
    assert infer(datasets.Dataset.from_dict({"v": COLUMNS["vector"]})).kind == "items"
    assert infer(datasets.Dataset.from_dict({"v": COLUMNS["vector"], "label": COLUMNS["label"]})).kind == "labelled"


def test_rows_of_a_bag_come_together_in_their_order() -> None:
    found = bags()
    assert len(found) == 3
    assert [[x.tolist() for x in row["bag"]] for row in found] == [[[1, 2], [5, 6]], [[3, 4], [9, 10]], [[7, 8]]]
    assert [row["label"] for row in found] == found.labels().tolist() == [0, 1, 1]
    assert found.sizes().tolist() == [2, 2, 1]
    assert [row["row"] for row in found[np.array([2, 0])]] == [2, 0]
    assert found.subset(np.array([1, 2]))[0]["bag"][0].tolist() == [3, 4]


def test_rows_of_a_bag_must_agree() -> None:
    with pytest.raises(
        DataError, match=r"Bag 'b' has rows of the labels 'x' and 'y'; all rows of a bag have one label"
    ):
        bags(label=["x", "y", "y", "y", "y"])


def test_a_split_keeps_bags_whole_and_classes_on_both_sides() -> None:
    many = datasets.Dataset.from_dict(
        {
            "vector": [[float(i)] for i in range(120)],
            "bag": [i // 3 for i in range(120)],
            "label": ["rare" if i < 24 else "many" for i in range(120)],
        }
    )
    rest, held = Bags(Rows(many, infer(many))).split(10)
    assert len(held) == 10
    assert np.bincount(held.labels()).tolist() == [8, 2]
    values = [{int(x[0]) for row in part for x in row["bag"]} for part in (rest, held)]
    assert not values[0] & values[1]
    assert len(values[0] | values[1]) == 120
