"""Cheap vectors on the command line: what `encode`, `index`, `search` and `eval` write and say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from counterpoint import load
from counterpoint.search.quantise import quantised, ranges_of, truncated
from tests.workflow import made
from tests.workflow.conftest import Run, run

__all__ = ["run"]
TEXTS = ["a red rose", "the tide and a boat", "a rose and a boat", "words of the sea", "no rose"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from counterpoint import fit

    folder = tmp_path_factory.mktemp("model")
    data = made.jsonl(folder / "pairs.jsonl", made.rows("pairs", 40))
    fit(data, out=folder / "run", size="smoke", train={"steps": 2, "tensorboard": False}, say=lambda _: None)
    return folder / "run"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made.jsonl(tmp_path / "texts.jsonl", [{"text": t, "id": i} for i, t in enumerate(TEXTS)])


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary", "ubinary"])
def test_encode_writes_codes(run: Run, model: Path, data: Path, tmp_path: Path, dtype: str) -> None:
    whole = load(model).encode(TEXTS)
    cut = truncated(whole, 12)
    out = tmp_path / "vectors.npy"
    said = run("encode", model, data, "--out", out, "--dim", 12, "--dtype", dtype)
    assert said.code == 0, said.all
    expected = quantised(cut, dtype)  # type: ignore[arg-type]
    found = np.load(out)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert f"A vector takes {expected[0].nbytes} bytes as {dtype}; in float32, whole, {whole[0].nbytes}." in said.all
    table = tmp_path / "vectors.parquet"
    assert run("encode", model, data, "--out", table, "--dim", 12, "--dtype", dtype).code == 0
    read = pq.read_table(table)
    assert read.column_names == ["text", "id", "embedding"]
    np.testing.assert_array_equal(np.array(read["embedding"].to_pylist()), expected)
    assert not list(tmp_path.glob(".*"))


def test_steps_of_int8_are_kept_and_used_again(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    assert "vectors.ranges.npy" in run("encode", model, data, "--out", out, "--dtype", "int8").all
    steps = np.load(tmp_path / "vectors.ranges.npy")
    np.testing.assert_array_equal(steps, ranges_of(load(model).encode(TEXTS)))
    one = made.jsonl(tmp_path / "one.jsonl", [{"text": TEXTS[1]}])
    again = tmp_path / "one.npy"
    assert (
        run("encode", model, one, "--out", again, "--dtype", "int8", "--ranges", out.with_suffix(".ranges.npy")).code
        == 0
    )
    np.testing.assert_array_equal(np.load(again)[0], np.load(out)[1])
    assert not (tmp_path / "one.ranges.npy").exists()
    folder = tmp_path / "folder"
    pq.write_table(pq.read_table(_parquet(run, model, data, tmp_path)).select(["text"]), tmp_path / "rows.parquet")
    refused = run("encode", model, tmp_path / "rows.parquet", "--out", folder, "--dtype", "int8")
    assert (refused.code, "which the workers of a folder never see together" in refused.all) == (2, True)
    steps_file = out.with_suffix(".ranges.npy")
    assert (
        run("encode", model, tmp_path / "rows.parquet", "--out", folder, "--dtype", "int8", "--ranges", steps_file).code
        == 0
    )
    np.testing.assert_array_equal(np.array(pq.read_table(folder)["embedding"].to_pylist()), np.load(out))


def _parquet(run: Run, model: Path, data: Path, folder: Path) -> Path:
    assert run("encode", model, data, "--out", folder / "p.parquet").code == 0
    return folder / "p.parquet"


def test_a_row_without_text_is_null_or_refused(run: Run, model: Path, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "texts.jsonl", [{"text": "a rose"}, {"text": None}])
    refused = run("encode", model, data, "--out", tmp_path / "v.npy", "--dtype", "binary")
    assert (refused.code, "binary has no NaN to say so" in refused.all) == (2, True)
    assert not (tmp_path / "v.npy").exists()
    for dtype in ("int8", "binary"):
        assert run("encode", model, data, "--out", tmp_path / "v.parquet", "--dtype", dtype).code == 0
        assert pq.read_table(tmp_path / "v.parquet")["embedding"].null_count == 1


def test_index_tells_its_size_and_search_needs_nothing_new(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    width = load(model).dim
    said = run("index", model, data, "--out", tmp_path / "i", "--dtype", "binary", "--dim", 32)
    assert f"A vector takes 4 bytes (binary), and {width} (int8) to score the best again" in said.all
    best = json.loads(run("search", tmp_path / "i", TEXTS[1], "--json", "--k", 1, "--mode", "dense").out)
    assert best["text"] == TEXTS[1]
    assert best["score"] == pytest.approx(1, abs=0.02)
    assert run("search", tmp_path / "i", "rose", "--oversample", 1).code == 0
    wrong = run("index", model, data, "--out", tmp_path / "j", "--dim", width + 1)
    assert (wrong.code, f"have {width} dimensions; give 1 to {width}" in wrong.all) == (2, True)


def test_eval_prints_one_table(run: Run, model: Path, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 30))
    figures = tmp_path / "f.json"
    said = run("eval", model, data, "--dtype", "int8", "binary", "--dim", 32, 16, "--json", figures)
    assert said.code == 0, said.all
    assert "…" not in said.out.split("Written")[0].partition("┏")[2]  # nothing is cut off in a narrow terminal
    for word in ("dim", "dtype", "ndcg@10", "lost", "bytes", "saved", "binary + int8"):
        assert word in said.out
    lines = json.loads(figures.read_text())["lines"]
    assert [(x["dim"], x["dtype"], x["rescore"]) for x in lines[1:4]] == [
        (32, "int8", None), (32, "binary", None), (32, "binary", "int8"),
    ]  # fmt: skip
