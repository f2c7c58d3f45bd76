"""Bad input gets a sentence and the exit code 2, nothing is lost, and nothing half-made is left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.data.files.media import ARROW
from counterpoint.methods.base import discover
from tests.workflow import made
from tests.workflow.conftest import Run, Said

STEPS = ("--size", "smoke", "--steps", "2", "--tensorboard", "False")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))


def refused(said: Said, *sentences: str, out: Path | None = None) -> None:
    """An error made on purpose: its sentences, no traceback, no run folder."""
    assert said.code == 2, said.all
    assert "Traceback" not in said.all
    assert said.err.startswith("counterpoint: ")
    for sentence in sentences:
        assert sentence in said.all
    assert out is None or not out.exists()


@pytest.mark.parametrize("method", [name for name, m in discover().items() if "scored" in m.spec.needs])
def test_scores_that_there_cannot_be(method: str, run: Run, tmp_path: Path) -> None:
    """Of a rating from 0 to 5, one row has 50 and one -1: a slip that a method would learn from."""
    data, out = tmp_path / "rated.csv", tmp_path / "run"
    lines = [f"a {x} of apples,{x}s with apples,{i % 6}" for i, x in enumerate(["box", "bag", "bowl", "crate"] * 5)]
    lines[7], lines[11] = "a red kite,a kite in the sky,50", "a grey stone,a stone,-1"
    data.write_text("\n".join(["first,second,rating", *lines]) + "\n")
    words = ("fit", data, "--method", method, "--out", out, *STEPS)
    sentence = "Column 'rating' lies outside 0 to 5 in 2 of 20 rows (first: row 7, with 50)."
    refused(run(*words, "--columns", "range=0..5"), sentence, out=out)
    named = "a=first,b=second,score=rating,range=0..5"
    refused(run(*words, "--columns", named), sentence, "--columns range=LOWEST..HIGHEST", out=out)
    refused(run(*words, "--columns", "range=5"), "range=5: expected the lowest and the highest score", out=out)


def test_a_run_whose_scores_have_a_range(run: Run, tmp_path: Path) -> None:
    """Also the rows that it is measured on are held to it."""
    data = made.jsonl(tmp_path / "x.jsonl", made.rows("scored", 40))
    wrong = made.jsonl(tmp_path / "wrong.jsonl", [{**made.rows("scored", 40)[0], "score": 99}])
    words = ("fit", data, "--out", tmp_path / "run", *STEPS, "--columns", "range=-9..9")
    refused(run(*words, "--test", wrong), "lies outside -9 to 9 in 1 of 1 rows (first: row 0, with 99)")
    said = run(*words)
    assert said.code == 0, said.all
    assert json.loads((tmp_path / "run" / "config.json").read_text())["schema"]["range"] == [-9, 9]
    refused(run("eval", tmp_path / "run", data, "--columns", "range=8..9"), "lies outside 8 to 9 in 40 of 40 rows")


# --- columns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("anchor=qestion,positive=answer", "Type: --columns anchor=question"),
        ("hat=question", "A column cannot play the part 'hat'. The parts are: text | audio | dna | image"),
        ("a=question,b=answer,score=answer", "Column 'answer' holds text, but the score must be number."),
        ("anchor=question", "The parts anchor do not go together."),
        ("anchor", "--columns takes words KEY=VALUE; 'anchor' is none."),
    ],
)
def test_columns_that_cannot_be(run: Run, pairs: Path, tmp_path: Path, columns: str, sentence: str) -> None:
    refused(run("fit", pairs, "--out", tmp_path / "run", "--columns", columns), sentence, out=tmp_path / "run")


def test_columns_that_do_not_decide(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", ({"x": f"one {i}", "y": f"two {i}", "z": f"three {i}"} for i in range(30)))
    refused(run("fit", data, "--out", tmp_path / "run"), "Say it, for example: --columns anchor=x,positive=y")


# --- files -----------------------------------------------------------------------------------------------------


def test_no_source_and_no_such_file(run: Run, tmp_path: Path) -> None:
    refused(run("fit", "--out", tmp_path / "run"), "No source was given. Give a file, a folder or a glob.")
    refused(run("fit", tmp_path / "none.jsonl", "--out", tmp_path / "run"), "There is no file or folder")


def test_an_empty_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    refused(run("fit", tmp_path / "empty.jsonl", "--out", tmp_path / "run"), "empty.jsonl", out=tmp_path / "run")


def test_a_truncated_parquet_file(run: Run, tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.Table.from_pylist(made.rows("pairs", 40)), whole)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-200])
    refused(run("fit", cut, "--out", tmp_path / "run"), "cut.parquet", out=tmp_path / "run")


def test_a_hub_id_without_a_network(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    refused(run("fit", "nobody/nothing", "--out", tmp_path / "run"), "127.0.0.1 does not answer", "Give a local path")
    assert time.perf_counter() - start < 5


# --- rows ------------------------------------------------------------------------------------------------------


def test_rows_with_empty_text_are_left_out_and_counted(run: Run, tmp_path: Path) -> None:
    rows = made.rows("pairs", 40)
    rows[3]["answer"], rows[7]["answer"] = "  ", None
    data = made.jsonl(tmp_path / "x.jsonl", rows)
    said = run("fit", data, "--out", tmp_path / "run", *STEPS)
    assert said.code == 0, said.all
    assert "Skipped 2: rows with empty text in column 'answer' (row 3, row 7)." in said.all
    assert json.loads((tmp_path / "run/metrics.json").read_text())["rows"] == 38


def test_no_row_left(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", [{"question": "", "answer": "b"}] * 20)
    refused(run("fit", data, "--out", tmp_path / "run"), "No usable row is left of 20", out=tmp_path / "run")


def test_one_class_only(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", ({**r, "label": "same"} for r in made.rows("labelled", 40)))
    refused(
        run("fit", data, "--out", tmp_path / "run"),
        "Column 'label' holds one class only ('same')",
        "To learn without labels, type: --columns text=text",
        out=tmp_path / "run",
    )


def test_scores_that_are_not_numbers(run: Run, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{**r, "score": float("nan") if i == 5 else r["score"]}
                                  for i, r in enumerate(made.rows("scored", 40))])  # fmt: skip
    pq.write_table(table, tmp_path / "x.parquet")
    refused(
        run("fit", tmp_path / "x.parquet", "--out", tmp_path / "run"),
        "Column 'score' is NaN or infinite in 1 of 40 rows (first: row 5).",
        out=tmp_path / "run",
    )


def test_fewer_rows_than_the_batch(run: Run, pairs: Path, tmp_path: Path) -> None:
    """The recipe's batch shrinks to suit the rows; one that was asked for shrinks to the rows there are."""
    said = run("fit", pairs, "--out", tmp_path / "a", "--steps", "2")
    assert said.code == 0, said.all
    assert "There are 40 rows, so the batch is 8 instead of 1,024 (--batch N sets another)." in said.all
    assert "40 rows are too few to hold a part out: give --test FILE to measure the model." in said.all
    said = run("fit", pairs, "--out", tmp_path / "b", "--batch", "64", *STEPS)
    assert said.code == 0, said.all
    assert "counterpoint: There are 40 rows, fewer than the batch of 64" in said.err


def test_damaged_images_in_a_file_are_skipped_and_listed(run: Run, tmp_path: Path) -> None:
    folder = made.pictures(tmp_path / "images", 40, classes=False)
    cells = [{"bytes": p.read_bytes(), "path": None} for p in sorted(folder.iterdir())]
    cells[4]["bytes"] = cells[4]["bytes"][:60]
    pq.write_table(pa.table({"image": pa.array(cells, ARROW)}), tmp_path / "x.parquet")
    said = run("fit", tmp_path / "x.parquet", "--out", tmp_path / "run", "--size", "smoke", "--epochs", "2")
    assert said.code == 0, said.all
    sentence = "Skipped 1: image in column 'image' cannot be read (row 4)."
    assert sentence in said.all
    assert sentence in json.loads((tmp_path / "run/metrics.json").read_text())["notes"]


@pytest.mark.parametrize("kind", ["pairs", "images"])
def test_rows_that_are_in_both_parts_are_counted(run: Run, tmp_path: Path, kind: str) -> None:
    if kind == "pairs":
        rows = made.rows("pairs", 60)
        data, test = made.jsonl(tmp_path / "a.jsonl", rows[:40]), made.jsonl(tmp_path / "b.jsonl", rows[35:])
        sentence = "10 test texts are training texts too: the figures flatter the model."
    else:
        data, test = made.pictures(tmp_path / "a", 40), made.pictures(tmp_path / "b", 20, seed=1)
        for i in range(3):
            (test / f"garden/copy{i}.png").write_bytes(sorted((data / "garden").iterdir())[i].read_bytes())
        sentence = "3 test images are training images too: the figures flatter the model."
    said = run("fit", data, "--out", tmp_path / "run", "--test", test, *STEPS)
    assert said.code == 0, said.all
    assert sentence in said.all


def test_test_rows_with_other_columns(run: Run, pairs: Path, tmp_path: Path) -> None:
    test = made.jsonl(tmp_path / "test.jsonl", made.rows("scored", 20))
    refused(
        run("fit", pairs, "--out", tmp_path / "run", "--test", test),
        "The test rows do not have the columns of the training rows. There is no column 'question'",
        out=tmp_path / "run",
    )


def test_test_rows_with_another_class(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", made.rows("labelled", 40))
    test = made.jsonl(tmp_path / "y.jsonl", [*made.rows("labelled", 20), {"text": "a", "label": "kitchen"}])
    said = run("fit", data, "--out", tmp_path / "run", "--test", test)
    refused(said, "The label 'kitchen' is none of the 3 classes known", out=tmp_path / "run")


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--method simclear", "There is no method 'simclear'. Type one of: ccp, coconut,"),
        ("--method graded", "The method graded needs scored pairs, but the rows hold pairs"),
        ("--method obow", "The method obow needs images, but the rows hold pairs"),
        (
            "--set temprature=1",
            "The method in-batch has no setting 'temprature'. It has: both, learnable,",
        ),
        ("--set temperature=warm", "The setting temperature of the method in-batch is a number; 'warm' was given."),
        ("--set both=7", "is true or false; '7' was given"),
        ("--batch 0", "batch=0: expected a whole number of at least 1."),
        ("--patience 3", "patience counts evaluations"),
        ("--encoder nowhere/at/all", "There is no folder nowhere/at/all."),
    ],
)
def test_settings_that_cannot_be(run: Run, pairs: Path, tmp_path: Path, words: str, sentence: str) -> None:
    refused(run("fit", pairs, "--out", tmp_path / "run", *words.split()), sentence)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_metric_that_is_none_is_said_before_training(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", made.rows("pairs", 120))
    said = run("fit", data, "--out", tmp_path / "run", "--metric", "bleu", *STEPS)
    refused(said, "The evaluation gives no figure 'bleu'. Type --metric with one of: ndcg@10, mrr@10")
    assert not (tmp_path / "run").exists()


def test_a_store_that_is_not_there(run: Run, tmp_path: Path) -> None:
    said = run("fit", "memory://none/*.parquet", "--out", tmp_path / "run", "--streaming", "--size", "smoke")
    refused(said, "No file matches 'memory://none/*.parquet'. Check the address.", out=tmp_path / "run")


def test_an_encoder_of_another_modality(run: Run, tmp_path: Path) -> None:
    data = made.pictures(tmp_path / "images", 20)
    said = run("fit", data, "--out", tmp_path / "run", "--encoder", "static")
    expected = "--encoder static picks an encoder of sequences of DNA or texts. For images, --encoder takes convnet,"
    refused(said, expected, out=tmp_path / "run")


@pytest.mark.parametrize("modality", ["text", "image"])
def test_weights_that_are_pickled_are_refused(run: Run, tmp_path: Path, pairs: Path, modality: str) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n")
    data = pairs if modality == "text" else made.pictures(tmp_path / "images", 20)
    refused(run("fit", data, "--out", tmp_path / "run", "--encoder", folder), "as a pickle (pytorch_model.bin)")
    refused(run("encode", folder, pairs, "--out", tmp_path / "v.npy"), "as a pickle (pytorch_model.bin)")


def test_the_folder_to_write_is_a_file(run: Run, pairs: Path, tmp_path: Path) -> None:
    refused(run("fit", pairs, "--out", pairs), "pairs.jsonl is a file; --out names the folder to write.")
    assert pairs.read_text()


# --- models and indexes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["eval", "encode", "index", "export"])
def test_no_such_model(run: Run, pairs: Path, tmp_path: Path, verb: str) -> None:
    more = {"encode": ["--out", tmp_path / "v.npy"], "export": ["--to", "onnx", "--out", tmp_path / "m.onnx"]}
    data = [] if verb == "export" else [pairs]
    refused(run(verb, tmp_path / "none", *data, *more.get(verb, [])), "There is no model folder")


def test_verbs_on_a_model_of_two_runs(run: Run, pairs: Path, tmp_path: Path) -> None:
    """What the verbs after `fit` refuse: an index of another model, an empty question, wrong columns, wrong names."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("fit", pairs, "--out", one, *STEPS).code == 0
    assert run("fit", pairs, "--out", two, *STEPS, "--seed", "1", "--lr", "0.1").code == 0
    assert run("index", one, pairs, "--column", "answer").code == 0
    refused(run("index", one, pairs, "--column", "answer"), "holds an index already", "--overwrite")
    refused(run("index", two, pairs, "--column", "reply"), "There is no column 'reply'; the rows have question (text)")
    refused(run("index", two, pairs), "Type --column with one of: question, answer.")
    refused(run("search", one, " "), "The question is empty. Type for instance: counterpoint search")
    refused(run("search", one), "The question is empty.")
    refused(run("search", two, "a rose"), "is not an index", "counterpoint index --help")
    (one / "index/probe.npy").rename(tmp_path / "probe.npy")
    two_model, one_model = two / "model", one / "model"
    (tmp_path / "probe.npy").rename(one / "index/probe.npy")
    one_model.rename(tmp_path / "old")
    two_model.rename(one_model)
    refused(run("search", one, "a rose"), "was built by another model, or by this one before it was trained further")
    (tmp_path / "old").rename(two_model)
    refused(run("encode", one, pairs, "--out", tmp_path / "v.txt"), "end the name with one of them")
    refused(run("encode", one, pairs, "--out", tmp_path / "v.npy"), "Which column holds the text?")
    images = made.pictures(tmp_path / "images", 9)
    refused(run("encode", one, images, "--out", tmp_path / "v.npy"), "No column holds text")
    refused(run("eval", one, images), "encodes text; these rows hold image")
    refused(run("eval", one, pairs, "--baselines", "bm52"), "There is no baseline 'bm52' for pairs data.")
    refused(run("eval", one, pairs, "--columns", "text=answer"), "hold nothing to measure against")
    refused(run("export", one, "--to", "onnx", "--out", tmp_path / "m.bin"), "ONNX is one file; end its name")
    refused(run("export", one, "--to", "onnx", "--out", tmp_path / "m.onnx", "--stream", "image"), "not image")
    refused(run("report", tmp_path), "holds no run")
