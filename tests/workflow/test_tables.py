"""From a folder of images with a table beside them to joint embeddings; tables of other shapes are refused or read."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.encoders.export import onnx
from counterpoint.encoders.fusion import ImageTable
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.workflow.bulk.embed import Embed
from counterpoint.workflow.bulk.encode import encode_files
from counterpoint.workflow.bulk.units import find
from counterpoint.workflow.fit import fit
from counterpoint.workflow.models import load, load_towers

Image = pytest.importorskip("PIL.Image")

COLUMNS = {"image": "image", "table": "colour+price+weight"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(0)
    with (out / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "colour", "price", "weight", "sort"])
        for i in range(24):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(out / f"{i}.png")
            price = "" if i % 5 == 0 else round(float(rng.normal(10, 3)), 2)
            writer.writerow([f"{i}.png", ["red", "blue", ""][i % 3], price, int(rng.integers(100)), "ab"[i % 2]])
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    fit(folder, out=out, columns=COLUMNS, size="smoke", say=lambda what: None)
    return out


def test_rows_hold_a_mapping_with_none_where_a_cell_is_missing(folder: Path) -> None:
    raw = read(folder)
    rows = Rows(raw, schema := infer(raw, columns=COLUMNS))
    assert schema.kind == "towers"
    assert schema.columns["table"] == ["colour", "price", "weight"]
    assert schema.modalities == {"image": "image", "table": "table"}
    assert len(rows) == 24
    table = rows[0]["table"]
    assert table["price"] is None
    assert table["colour"] == "red"
    config = TableTransformer.build(TableTransformerConfig(dim=8, layers=1), rows).config
    assert config.categories == {"colour": ["blue", "red"]}
    assert set(config.numbers) == {"price", "weight"}


def test_what_is_inferred_without_names_is_as_it_was(folder: Path) -> None:
    raw = read(folder)
    assert infer(raw).kind in ("items", "labelled", "towers")
    assert "table" not in infer(raw).columns


def test_tables_alone_are_items_or_labelled(folder: Path) -> None:
    raw = read(folder / "metadata.csv")
    items = infer(raw, columns={"table": ["colour", "price"]})
    assert (items.kind, items.columns["table"]) == ("items", ["colour", "price"])
    labelled = infer(raw, columns={"table": "price+weight", "label": "sort"})
    assert labelled.kind == "labelled"
    assert set(Rows(raw, labelled)[1]["table"]) == {"price", "weight"}
    assert (
        len(Rows(raw, infer(raw, columns={"table": "price"}))) == 19
    )  # rows without any cell are nothing to learn from
    with pytest.raises(DataError, match=r"'sort' is named as a part of the table and by itself"):
        infer(raw, columns={"table": "price+sort", "label": "sort"})
    with pytest.raises(DataError, match=r"no column 'wieght' to be the table.*Did you mean 'weight'"):
        infer(raw, columns={"table": "price+wieght"})


def test_the_joint_encoder_is_kept_and_reads_files(folder: Path, run: Path) -> None:
    assert set(load_towers(run)) == {"image", "table", "image+table"}
    joint = load(run, "image+table")
    assert isinstance(joint, ImageTable)
    rows = list(Rows(read(folder), infer(read(folder), columns=COLUMNS)))
    table = read(folder).with_format("arrow")[:]
    embedded = Embed(run, column="image", stream="image+table")(table)
    expected = joint.encode(rows)
    assert np.allclose(np.stack(embedded["embedding"].to_pylist()), expected, atol=1e-6)


def test_a_table_is_encoded_by_the_columns_the_model_knows(folder: Path, run: Path) -> None:
    cells = pa.table({"weight": [3, None], "price": [1.5, None], "more": ["x", "y"]})
    embed = Embed(run, column="", stream="table")
    with pytest.warns(UserWarning, match="no column colour"):
        out = embed(cells)
    assert out.column_names == ["weight", "price", "more", "embedding"]
    first, second = out["embedding"].to_pylist()
    assert np.isfinite(first).all()
    assert second is None  # nothing there to encode
    assert embed.missing == 1
    with pytest.raises(DataError, match=r"none of the columns of the table.*colour, price, weight"):
        Embed(run, column="", stream="table")(cells.select(["more"]))
    with pytest.raises(ModelError, match="no ONNX form"):
        onnx(load(run, "table"), run / "model.onnx")


def test_tables_are_encoded_in_bulk(run: Path, tmp_path: Path) -> None:
    cells = pa.table({"weight": [3, 4], "price": [1.5, None], "colour": ["red", None], "more": ["x", "y"]})
    pq.write_table(cells, tmp_path / "cells.parquet")
    out = str(tmp_path / "out")
    embed = Embed(run, column="", stream="table", keep=("more",))
    assert encode_files(embed, find([str(tmp_path / "cells.parquet")], out=out), out).rows == 2
    found = pq.read_table(next((tmp_path / "out").glob("part-*.parquet")))
    assert found.column_names == ["more", "embedding"]
    assert found["embedding"].to_pylist() == embed(cells)["embedding"].to_pylist()


def test_rows_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tip needs two modalities of one thing.*table rows"):
        fit(folder / "metadata.csv", out=tmp_path / "a", columns={"table": "price+weight"}, method="tip", size="smoke")
    with pytest.raises(ConfigError, match=r"learns from image and table; these rows hold image and text"):
        fit(folder, out=tmp_path / "b", columns={"image": "image", "text": "colour"}, method="tip", size="smoke")
