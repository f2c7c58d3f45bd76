"""The verbs beside `fit`: options, columns, data, methods, doctor, encode and eval on what is not plain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint import load
from counterpoint.cli.fit import field_docs
from counterpoint.cli.options import columns, key_values
from counterpoint.errors import ConfigError
from counterpoint.methods.base import discover
from counterpoint.train.config import TrainConfig
from tests.workflow import made
from tests.workflow.conftest import Run

FIT = ("--size", "smoke", "--steps", "2", "--tensorboard", "False")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from counterpoint import fit

    folder = tmp_path_factory.mktemp("model")
    data = made.jsonl(folder / "pairs.jsonl", made.rows("pairs", 40))
    fit(data, out=folder / "run", size="smoke", train={"steps": 2, "tensorboard": False}, say=lambda _: None)
    return folder / "run"


# --- words -----------------------------------------------------------------------------------------------------


def test_words_of_the_command_line() -> None:
    assert key_values(["a=1", "b=x=y"], "--set") == {"a": "1", "b": "x=y"}
    assert columns(["anchor=q,positive=p", "negatives=n1", "negatives=n2", "negatives=n3"]) == {
        "anchor": "q",
        "positive": "p",
        "negatives": ["n1", "n2", "n3"],
    }
    for word in ("a", "=1", "a="):
        with pytest.raises(ConfigError, match="takes words KEY=VALUE"):
            key_values([word], "--set")


def test_the_help_of_a_setting_is_its_documentation() -> None:
    assert field_docs(TrainConfig)["clip"] == "Largest norm of the gradient (0: off)."


# --- encode and eval -------------------------------------------------------------------------------------------


def test_encode_keeps_a_row_for_every_row(run: Run, model: Path, tmp_path: Path) -> None:
    """Block by block: what cannot be encoded is null in a table and NaN in a matrix, and row i stays row i."""
    data = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3, 4, 5], "text": ["a rose", None, "a boat", " ", "a fugue"]}), data)
    expected = load(model).encode(["a rose", "", "a boat", " ", "a fugue"])
    expected[1] = np.nan
    for batch in ("1", "2", "5"):
        said = run("encode", model, data, "--out", tmp_path / "v.parquet", "--batch", batch)
        assert said.code == 0, said.all
        assert "1 rows have nothing in column 'text' that can be encoded; their embedding is null" in said.out
        assert "1 rows have no text in column 'text'; their embeddings are those of an empty text" in said.out
        found = pq.read_table(tmp_path / "v.parquet")
        assert found["id"].to_pylist() == [1, 2, 3, 4, 5]
        table = np.array([[np.nan] * expected.shape[1] if v is None else v for v in found["embedding"].to_pylist()])
        np.testing.assert_allclose(table, expected, atol=1e-6)
        said = run("encode", model, data, "--out", tmp_path / "v.npy", "--batch", batch)
        assert "their embedding is NaN" in said.out
        matrix = np.load(tmp_path / "v.npy")
        assert matrix.dtype == np.float32
        np.testing.assert_allclose(matrix, expected, atol=1e-6)
    assert not list(tmp_path.glob(".*")), "something half-written was left"


def test_encode_of_nothing_leaves_what_was_there(run: Run, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.array([None, None], pa.string())}), data)
    for name in ("v.npy", "v.parquet"):
        (tmp_path / name).write_text("before")
        said = run("encode", model, data, "--out", tmp_path / name)
        assert said.code == 2
        assert "No row could be encoded: column 'text' holds nothing that can be." in said.all
        assert (tmp_path / name).read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def test_encode_of_a_split(run: Run, model: Path, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", ({"text": f"t {i}", "split": "ab"[i % 2]} for i in range(5)))
    assert run("encode", model, data, "--split", "b", "--column", "text", "--out", tmp_path / "v.npy").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), load(model).encode(["t 1", "t 3"]), atol=1e-6)
    said = run("encode", model, data, "--split", "c", "--out", tmp_path / "v.npy")
    assert said.code == 2
    assert "column 'split' holds a, b, not 'c'" in said.all


def test_eval_of_a_retrieval_folder(run: Run, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    made.jsonl(folder / "corpus.jsonl", ({"_id": f"d{i}", "text": w} for i, w in enumerate(["rose", "boat", "fugue"])))
    made.jsonl(folder / "queries.jsonl", [{"_id": "q0", "text": "the rose"}, {"_id": "q1", "text": "a fugue"}])
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td2\t1\n")
    said = run("eval", model, folder, "--json", tmp_path / "out.json")
    assert said.code == 0, said.all
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["task"] == "retrieval"
    figures = {f["metric"]: f for f in found["figures"]}
    assert figures["mrr@10"]["baselines"]["bm25"]["value"] == 1.0


def test_eval_on_the_rows_of_the_training_says_so(run: Run, model: Path, tmp_path: Path) -> None:
    data = model.parent / "pairs.jsonl"
    assert f"was trained on rows of {data}" in run("eval", model, data).out
    other = made.jsonl(tmp_path / "other.jsonl", made.rows("pairs", 40))
    assert "was trained on" not in run("eval", model, other).out


def test_eval_of_the_test_part_and_of_a_split(run: Run, model: Path, tmp_path: Path) -> None:
    rows = [{**r, "split": "test" if i < 12 else "train"} for i, r in enumerate(made.rows("scored", 40))]
    data = made.jsonl(tmp_path / "x.jsonl", rows)
    said = run("eval", model, data)
    assert said.code == 0, said.all
    assert "the part test is used" in said.out
    assert "12 pairs" in said.out
    assert "28 pairs" in run("eval", model, data, "--split", "train").out
    assert run("eval", model, data, "--split", "dev").code == 2
    assert "5 pairs" in run("eval", model, data, "--limit", "5").out


# --- search ----------------------------------------------------------------------------------------------------


def test_search_in_every_mode(run: Run, model: Path, tmp_path: Path) -> None:
    rows = [{"text": t, "file": "a.py", "line": i} for i, t in enumerate(["red rose", "blue boat", "old fugue"])]
    data, index = made.jsonl(tmp_path / "x.jsonl", rows), tmp_path / "index"
    said = run("index", model, data, "--out", index, "--dtype", "int8")
    assert said.code == 0
    assert f'Search it: counterpoint search {index} "a question"' in said.out
    for mode in ("dense", "bm25", "hybrid", "auto"):
        said = run("search", index, "rose", "--mode", mode, "--k", "2")
        assert said.code == 0, said.all
        assert "a.py:0" in said.out
        assert f"{'hybrid' if mode == 'auto' else mode}, 3 rows" in said.out
    said = run("search", index, "zebra", "--mode", "bm25")
    assert "no row shares a word with it" in said.out
    assert run("index", model, data, "--out", index, "--overwrite", "--no-bm25").code == 0
    assert "dense, 3 rows" in run("search", index, "rose").out
    said = run("search", index, "rose", "--mode", "bm25")
    assert said.code == 2
    assert "built without BM25" in said.all


# --- data, methods, doctor -------------------------------------------------------------------------------------


def test_data_sets_and_files(run: Run, tmp_path: Path) -> None:
    assert "stsb-en" in run("data").out
    assert "licence" in run("data", "describe", "stsb-en").out
    said = run("data", "describe", "stsb-fr-en")
    assert said.code == 2
    assert "There is no data set 'stsb-fr-en'." in said.all
    a = made.jsonl(tmp_path / "a.jsonl", made.rows("pairs", 20))
    b = made.jsonl(tmp_path / "b.jsonl", made.rows("pairs", 20)[:5])
    said = run("data", "inspect", a, b)
    assert said.code == 0
    assert "5 texts of" in said.all
    for what in ("inspect", "describe"):
        assert f"Type: counterpoint data {what}" in run("data", what).err


def test_methods(run: Run) -> None:
    listed = run("methods").out
    for name in discover():
        assert name in listed
        said = run("methods", name)
        assert said.code == 0
        assert f"--method {name} --set KEY=VALUE" in said.out
        assert "Recipes" in said.out
    assert "There is no method 'simclear'." in run("methods", "simclear").err


def test_doctor(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import counterpoint.workflow.doctor as doctor

    monkeypatch.setenv("COUNTERPOINT_DATA", str(tmp_path / "none"))
    honest = doctor.version
    monkeypatch.setattr(doctor, "version", lambda p: None if p == "bm25s" else honest(p))
    found = {what: (stands, todo) for what, stands, todo in doctor.doctor()}
    assert found["bm25s"] == ("missing", "pip install 'counterpoint[search]'")
    assert found["torch"][1] == ""
    assert found["COUNTERPOINT_DATA"][0].endswith("no such folder")
    assert "counterpoint" in run("doctor").out
