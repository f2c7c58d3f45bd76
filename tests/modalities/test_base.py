"""Modalities are found by their files, joined and registered; columns are told apart by what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from counterpoint.data.column_types import column_type
from counterpoint.data.files.media import ARROW, features
from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities import base
from counterpoint.modalities.base import Column, Modality

DNA = "ACGTTGCAAC" * 6
COLUMNS = {
    "text": pa.array(["some words", None]),
    "dna": pa.array([None, DNA]),
    "vector": pa.array([[0.5, 1.0], None]),
    "image": pa.array([None, {"bytes": b"\x89PNG\r\n", "path": None}], ARROW),
    "audio": pa.array([{"bytes": b"fLaC0000", "path": "x.png"}, None], ARROW),
}
ALIKE = {
    "a picture that begins like a sound": ("image", pa.array([{"bytes": b"RIFF0000WEBP", "path": None}], ARROW)),
    "a sound by its path": ("audio", pa.array([None, {"bytes": None, "path": "a/b.WAV"}], ARROW)),
    "files that are nowhere": ("image", pa.array([{"bytes": None, "path": None}], ARROW)),
    "letters that are few": ("text", pa.array(["ACGT"])),
    "strings of another type": ("text", pa.array(["words"], pa.large_string())),
}


@pytest.fixture
def colour() -> Iterator[Modality]:
    """A modality of another package: colours, written as ``#rrggbb``."""

    def read(cell: str, beside: object) -> np.ndarray:
        if not cell.startswith("#"):
            raise DataError(f"is no colour but {cell!r}")
        return np.frombuffer(bytes.fromhex(cell[1:]), np.uint8)

    own = Modality(
        name="colour",
        one="a colour",
        many="colours",
        item=read,
        fits=base.is_text,
        looks=lambda column: base.is_text(column.type) and (column.cells[0].as_py() or "").startswith("#"),
        over=frozenset({"text"}),
        example=lambda rng: rng.integers(0, 256, 3, dtype=np.uint8),
    )
    yield base.register(own)
    base._registered.pop("colour")
    base.discover.cache_clear()
    base.of.cache_clear()


@pytest.mark.parametrize(("name", "cells"), [*COLUMNS.items(), *ALIKE.values()], ids=[*COLUMNS, *ALIKE])
def test_a_column_is_of_one_modality(name: str, cells: pa.Array) -> None:
    table = pa.table({"it": cells})
    found = base.of_column(Column.of(table, "it"))
    assert found is not None
    assert found.name == name
    held = Dataset(table.cast(features(table).arrow_schema))
    assert column_type(held, "it") == name


@pytest.mark.parametrize("cells", [pa.array([1, 2]), pa.array([True]), pa.array([[1, 2]]), pa.array([["a"]])])
def test_other_columns_are_of_none(cells: pa.Array) -> None:
    assert base.of_column(Column.of(pa.table({"it": cells}), "it")) is None


def test_samples_need_their_rate_whose_name_may_be_in_capitals() -> None:
    samples = pa.array([[0.5, 1.0]])
    assert base.of_column(Column.of(pa.table({"x": samples}), "x")) is base.of("vector")
    for name, rates in (("SR", [8000]), ("rate", [8000.0])):
        beside = Column.of(pa.table({"x": samples, name: rates}), "x")
        assert base.of_column(beside) is base.of("audio")
        assert beside.number_beside(("rate", "sr")) == name
    words = Column.of(pa.table({"x": samples, "rate": ["fast"]}), "x")
    assert base.of_column(words) is base.of("vector")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no modality 'smell'; there are audio, dna.*register"):
        base.of("smell")
    with pytest.raises(ConfigError, match="no modality 'smell'"):
        base.of("image+smell")


def test_joined_items_hold_both_and_need_the_first() -> None:
    both = base.of("vector+table")
    assert both is base.of("vector+table")
    assert both.one == "a vector with a row of a table"
    found = both.item({"vector": [1, 2], "table": {"a": None}}, {})
    assert found["vector"].tolist() == [1, 2]
    assert found["table"] == {"a": None}
    assert both.empty({"vector": None, "table": {"a": 1}})
    assert not both.empty({"vector": [1], "table": {"a": None}})
    assert [m.name for m in base.parts("vector+table")] == ["vector", "table"]


def test_a_modality_of_another_package_is_one_like_the_others(colour: Modality) -> None:
    held = Dataset.from_dict({"paint": ["#ff0000", "#00ff00", "blue", ""], "kind": [0, 1, 0, 1]})
    schema = infer(held, columns={"colour": "paint", "label": "kind"})
    assert (schema.kind, schema.modalities) == ("labelled", {"colour": "colour"})
    rows = Rows(held, schema)
    assert [r["colour"].tolist() for r in rows] == [[255, 0, 0], [0, 255, 0]]
    assert rows.log.lines() == [
        "Skipped 1: rows with no colour in column 'paint' (row 3).",
        "Skipped 1: colour in column 'paint' is no colour but 'blue' (row 2).",
    ]
    assert infer(held.remove_columns("kind")).columns == {"colour": "paint"}
    assert "colour" in base.discover()
    with pytest.raises(ConfigError, match="'colour' already"):
        base.register(replace(colour))
