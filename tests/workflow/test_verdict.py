"""A model that a cheap baseline beats is told so first, everywhere, with commands that can be typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint import load
from counterpoint.data.schema import Schema
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.static import StaticText
from counterpoint.evaluate.intervals import Interval
from counterpoint.evaluate.result import Below, Comparison, Evaluation, Figure
from counterpoint.workflow.gather import gather
from counterpoint.workflow.measure import as_metrics, measured, together
from counterpoint.workflow.models import load_towers
from counterpoint.workflow.summary import report
from counterpoint.workflow.verdict import begun_with, run_of, to_try, verdict
from tests.workflow import made
from tests.workflow.conftest import Run

STEPS = ("--size", "smoke", "--steps", "2", "--tensorboard", "False", "--encoder", "transformer")
TEXTS = Schema(kind="labelled", columns={}, modalities={"text": "text"})


def hidden(n: int, seed: int) -> list[dict[str, str]]:
    """Texts whose class is their last word, behind the 64 tokens that a transformer of smoke size reads."""
    rng = np.random.default_rng(seed)
    kinds = ("anchor", "garden", "singer", "tempo")
    return [{"text": " ".join([*rng.choice(made.FILLER, 66), kinds[i % 4]]), "label": kinds[i % 4]} for i in range(n)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    made.jsonl(folder / "test.jsonl", hidden(28, 1))
    return made.jsonl(folder / "train rows.jsonl", hidden(120, 0))


def test_first_of_all_in_every_place(run: Run, data: Path, tmp_path: Path) -> None:
    out, test = tmp_path / "run", data.parent / "test.jsonl"
    said = run("fit", data, "--test", test, "--out", out, *STEPS)
    assert said.code == 0, said.all
    metrics = json.loads((out / "metrics.json").read_text())
    assert {b["baseline"] for b in metrics["below"]} >= {"TF-IDF of words"}
    assert metrics["verdict"].startswith("The model is below ")
    closing = said.out[said.out.index("The model is below ") :]
    assert closing.startswith(metrics["verdict"])
    for command in metrics["try"]:
        assert closing.index("What to try:") < closing.index(command) < closing.index("classification")
    head = (out / "report.html").read_text().split("</header>")[0]
    assert "TF-IDF of words: probe accuracy" in head
    # Every command can be typed as it stands, up to the names that are to be filled in.
    again = next(c for c in metrics["try"] if "--resume" in c)
    assert run(again.split("  #")[0].removeprefix("counterpoint ")).code == 0
    assert json.loads((out / "metrics.json").read_text())["steps"] == 4
    look = next(c for c in metrics["try"] if " diagnose " in c)
    assert run(look.split("  #")[0].removeprefix("counterpoint ")).code == 0
    said = run("eval", out, test, "--train", data, "--json", tmp_path / "figures.json")
    assert said.code == 0, said.all
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["below"]
    assert said.out.index(found["verdict"]) < said.out.index("What to try:") < said.out.index("classification")
    assert all(command in said.out for command in found["try"])
    assert "encoder before training" in said.out, "the run folder has kept it"


def test_a_model_folder_alone_has_a_random_encoder_beside_it(run: Run, data: Path, tmp_path: Path) -> None:
    assert run("fit", data, "--out", tmp_path / "run", *STEPS).code == 0
    model_folder.save(load(tmp_path / "run"), tmp_path / "alone")
    said = run("eval", tmp_path / "alone", data)
    assert "random encoder" in said.out
    assert "encoder before training" not in said.out
    assert f"--out alone-tuned --encoder {tmp_path / 'alone'}" in said.out


def below(baseline: str = "TF-IDF of words", *, high: float = -0.1) -> Below:
    return Below(baseline, "probe accuracy", 0.8, "probe accuracy", 0.6, Interval(-0.2, -0.3, high))


def config(folder: Path, **more: object) -> Path:
    asked = {"data": ["my rows.csv"], "columns": {}, "test": [], "method": "auto", **more}
    (folder / "model").mkdir(parents=True)
    held = {"method": "supcon", "begins": more.pop("begins", "recipe"), "train": {"lr": 1e-3}, "asked": asked}
    (folder / "config.json").write_text(json.dumps(held))
    return folder


def test_what_to_try_follows_from_the_run(tmp_path: Path) -> None:
    run = config(
        tmp_path / "a run", columns={"anchor": "q", "negatives": ["n1", "n2"]}, test=["t.csv"], method="supcon"
    )
    found = to_try([below()], run, data=["my rows.csv"], schema=TEXTS, columns={"text": "t"}, steps=7)
    place = shlex.quote(str(run))
    rows = "'my rows.csv' --columns anchor=q,negatives=n1,negatives=n2 --test t.csv"
    assert [c.split("  # ")[0] for c in found] == [
        f"counterpoint fit {rows} --method supcon --out '{run}-pretrained' --encoder FOLDER_OR_HUB_ID",
        f"counterpoint fit --out {place} --resume --steps 14",
        f"counterpoint compare supcon primer --data {rows} --minutes 2",
        f"counterpoint diagnose {place} 'my rows.csv' --columns text=t",
    ]
    assert to_try([], run, data=[], schema=TEXTS) == []


def test_a_training_that_harmed_is_to_be_slower_not_longer(tmp_path: Path) -> None:
    run = config(tmp_path / "run")
    harmed = to_try([below("encoder before training")], run, data=["x"], schema=TEXTS, steps=7)
    assert any(c.split("  #")[0].endswith("-slower --lr 0.0001") for c in harmed)
    assert not any("--resume" in c for c in harmed)
    chance = to_try([below("encoder before training", high=0.1)], run, data=["x"], schema=TEXTS, steps=7)
    assert any("--resume" in c for c in chance)


def test_words_that_do_better_can_be_searched_with(tmp_path: Path) -> None:
    found = to_try([below("bm25")], config(tmp_path / "run"), data=["folder"], schema=None)
    assert any(c.startswith("counterpoint index ") and "counterpoint search" in c for c in found)
    assert any(c.startswith("counterpoint compare supcon ") for c in found)


def test_the_encoders_a_run_began_with(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("fit", data, "--out", out, *STEPS).code == 0
    assert run_of(out) == run_of(out / "model") == out
    assert run_of(tmp_path) is None
    towers = load_towers(out)
    start = begun_with(out, towers)
    assert start is not None
    assert start.keys() == towers.keys()
    before, after = (next(iter(e["text"].parameters())) for e in (start, towers))
    assert not torch.equal(before, after)
    assert begun_with(out, {**towers, "image": towers["text"]}) is None
    assert begun_with(None, towers) is None
    (out / "start" / "counterpoint.json").write_text("{}")
    assert begun_with(out, towers) is None, "what cannot be read is not there"


def figure(metric: str, low: float = 0.4) -> Figure:
    value = Interval(0.5, low, 0.6)
    return Figure(metric, value, {"bm25": Comparison(value, value)})


def test_figures_without_an_interval_are_kept_without_one() -> None:
    found = Evaluation("t", (figure("a"), figure("b", float("nan"))), {}, below=(below("bm25"),))
    metrics = as_metrics(found)
    assert next(iter(metrics)) == "verdict"
    assert metrics["systems"]["model"] == {"a": 0.5, "b": 0.5}
    assert metrics["intervals"]["model"] == {"a": [0.4, 0.6]}
    assert metrics["intervals"].keys() == metrics["systems"].keys()
    assert [d["metric"] for d in metrics["differences"].values()] == ["a"]
    assert verdict(found, ["counterpoint x"])[1] == "What to try:\n  counterpoint x"
    above = Evaluation("t", (figure("a"),), {})
    assert "verdict" not in as_metrics(above)
    assert verdict(above, []) == []


def test_sources_keep_their_verdicts() -> None:
    one = Evaluation("t", (figure("a"),), {}, below=(below("bm25"),))
    found = together({"news": one, "mail": Evaluation("t", (figure("a"),), {})})
    assert [(b.baseline, b.metric) for b in found.below] == [("bm25", "news/probe accuracy")]


def test_rows_that_say_nothing_do_not_end_a_training(run: Run, tmp_path: Path) -> None:
    """Of a stream nothing is known to learn a probe from, and the test rows have one row of each class."""
    rows = made.rows("labelled", 60)
    data = made.jsonl(tmp_path / "rows.jsonl", rows)
    few = made.jsonl(tmp_path / "few.jsonl", {r["label"]: r for r in rows}.values())
    steps = ("--size", "smoke", "--steps", "2", "--eval-every", "1", "--tensorboard", "False", "--streaming")
    said = run("fit", data, "--test", few, "--out", tmp_path / "run", *steps)
    assert said.code == 0, said.all
    assert "The model is not measured while it is trained. Every class has one row only" in said.all
    assert "The model could not be measured. Every class has one row only" in said.all
    said = run("fit", data, "--test", few, "--out", tmp_path / "other", *steps, "--metric", "kNN accuracy")
    assert said.code == 2
    assert "Every class has one row only" in said.err


def test_texts_too_short_to_be_halved_are_told(tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "short.jsonl", [{"text": f"only {i} words"} for i in range(120)])
    given = gather(str(data), columns={}, test=(), split=None, streaming=False)
    encoder = StaticText.from_texts(row["text"] for row in given.rows)  # type: ignore[union-attr]
    found, notes = measured({"text": encoder}, given)
    assert found is None
    assert "None of the 12 held-out texts is long enough to be cut in two" in notes[0]


def test_embeddings_that_are_not_finite_end_in_sentences(data: Path, tmp_path: Path, run: Run) -> None:
    assert run("fit", data, "--out", tmp_path / "run", *STEPS).code == 0
    towers = load_towers(tmp_path / "run")
    with torch.no_grad():
        next(iter(towers["text"].parameters()))[:] = float("nan")
    given = gather(str(data), columns={}, test=(), split=None, streaming=False)
    found, notes = measured(towers, given)
    assert found is None
    assert notes[0].startswith("The model could not be measured. The text encoder ")
    assert "gives embeddings with NaN" in notes[0]
    said: list[str] = []
    report(tmp_path / "run", towers, given, said.append)
    assert said[0].startswith("The report shows no neighbours and no map")
