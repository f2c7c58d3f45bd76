"""What is held out, what is measured, and in which batches the rest comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from counterpoint.data.log import Log
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Shuffled
from counterpoint.encoders.static import StaticText
from counterpoint.errors import DataError, MissingExtra
from counterpoint.evaluate.intervals import Interval
from counterpoint.evaluate.result import Comparison, Evaluation, Figure
from counterpoint.train.config import TrainConfig
from counterpoint.workflow.batching import fitting, make_loader
from counterpoint.workflow.gather import Given, gather, rows_like, spread
from counterpoint.workflow.measure import as_metrics, found_again, measured
from tests.workflow import made


def given(path: Path, **more: Any) -> Given:
    return gather(path, **{"columns": {}, "test": (), "split": None, "streaming": None, **more})


def test_a_tenth_is_held_out_and_no_anchor_is_on_both_sides(tmp_path: Path) -> None:
    rows = [{"question": f"q {i // 2}", "answer": f"a {i}"} for i in range(300)]
    found = given(made.jsonl(tmp_path / "x.jsonl", rows))
    trained = {r["anchor"] for r in found.rows}
    assert 30 <= len(found.held) <= 31
    assert not trained & {r["anchor"] for r in found.held}
    assert f"{len(found.held)} of 300 rows are held out to measure on." in found.log.lines()


def test_rows_that_cannot_be_held_out_from(tmp_path: Path) -> None:
    few = given(made.jsonl(tmp_path / "few.jsonl", made.rows("pairs", 99)))
    assert not few.held
    assert len(few.rows) == 99  # type: ignore[arg-type]
    same = given(made.jsonl(tmp_path / "same.jsonl", ({"question": "q", "answer": f"a {i}"} for i in range(200))))
    assert not same.held
    assert any("No part was held out" in line for line in same.log.lines())
    rare = [{"text": f"t {i}", "label": "a" if i else "b"} for i in range(200)]
    assert set(given(made.jsonl(tmp_path / "rare.jsonl", rare)).rows.labels()) == {0, 1}  # type: ignore[union-attr]


def test_the_test_part_of_a_source(tmp_path: Path) -> None:
    """A column `split` tells: the rows of train are learned from, those of test measured on."""
    rows = [{**r, "split": "test" if i % 4 == 0 else "train"} for i, r in enumerate(made.rows("pairs", 80))]
    path = made.jsonl(tmp_path / "x.jsonl", rows)
    found = given(path, test=path)
    assert len(found.rows) == 60  # type: ignore[arg-type]
    assert len(found.held) == 20
    assert f"Of {path}, the part test is used." in found.log.lines()


@pytest.mark.parametrize("how", ["saved", "files", "column"])
def test_a_part_that_is_meant_for_it_is_measured_on(tmp_path: Path, how: str) -> None:
    train, test = made.rows("pairs", 80), made.rows("pairs", 30, seed=1)
    path = tmp_path / "set"
    if how == "saved":
        parts = {"train": train, "test": test}
        datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in parts.items()}).save_to_disk(path)
    elif how == "files":
        path.mkdir()
        made.jsonl(path / "train.jsonl", train), made.jsonl(path / "test.jsonl", test)
    else:
        path = made.jsonl(path, [{**r, "split": "train"} for r in train] + [{**r, "split": "test"} for r in test])
        path = path.rename(path.with_suffix(".jsonl"))
    found = given(path)
    assert (len(found.rows), len(found.held)) == (80, 30)  # type: ignore[arg-type]
    assert [r["anchor"] for r in found.held] == [r["question"] for r in test]
    assert f"The part test of {path} is measured on (--test FILE: other rows)." in found.log.lines()
    other = made.jsonl(tmp_path / "other.jsonl", made.rows("pairs", 5, seed=2))
    assert len(given(path, test=other).held) == 5


def test_how_files_are_read_is_told_to_both_sides(tmp_path: Path) -> None:
    for name, n in (("x.csv", 40), ("y.csv", 12)):
        lines = [f"größe {i}|wert {i}" for i in range(n)]
        (tmp_path / name).write_bytes("\n".join(lines).encode("cp850"))
    found = given(
        tmp_path / "x.csv", test=tmp_path / "y.csv", reading={"separator": "|", "encoding": "cp850", "header": False}
    )
    assert (len(found.rows), len(found.held)) == (40, 12)  # type: ignore[arg-type]
    assert found.held[3]["anchor"] == "größe 3"


def test_several_test_files_are_all_read_whatever_their_names_say(tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", made.rows("pairs", 40))
    one = made.jsonl(tmp_path / "test.jsonl", made.rows("pairs", 5, seed=1))
    two = made.jsonl(tmp_path / "dev.jsonl", made.rows("pairs", 7, seed=2))
    assert len(given(data, test=[one, two]).held) == 12
    assert len(given(data, test=two).held) == 7


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """Two folders number their classes on their own; the rows of the second get the numbers of the first."""
    train = given(made.pictures(tmp_path / "a", 12))
    other = made.pictures(tmp_path / "b", 12)
    for path in (other / "garden").iterdir():
        path.unlink()
    rows = rows_like(train.schema, other)
    assert train.schema.labels == ("garden", "harbour", "music")
    assert {r["label"] for r in rows} == {1, 2}
    (other / "music").rename(other / "noise")
    with pytest.raises(DataError, match="'noise' is none of the 3 classes"):
        list(rows_like(train.schema, other))


def test_rows_are_taken_evenly(tmp_path: Path) -> None:
    rows = given(made.jsonl(tmp_path / "x.jsonl", ({"text": f"t {i}"} for i in range(50)))).rows
    assert [r["row"] for r in spread(rows, 5)] == [0, 12, 24, 36, 49]  # type: ignore[arg-type]
    assert len(spread(rows, 500)) == 50  # type: ignore[arg-type]


def test_few_rows_get_a_batch_that_leaves_steps(tmp_path: Path) -> None:
    rows = given(made.jsonl(tmp_path / "x.jsonl", made.rows("pairs", 90))).rows
    log = Log()
    assert fitting(TrainConfig(batch=1024), rows, log).batch == 11
    assert log.notes == ["There are 90 rows, so the batch is 11 instead of 1,024 (--batch N sets another)."]
    assert fitting(TrainConfig(batch=10), rows, Log()).batch == 10


def test_rows_that_share_texts_get_a_batch_in_which_they_need_not_meet(tmp_path: Path) -> None:
    shared = ({"anchor": f"question {i % 4}", "positive": f"answer {i}"} for i in range(60))
    rows, log = given(made.jsonl(tmp_path / "x.jsonl", shared)).rows, Log()
    assert fitting(TrainConfig(batch=64), rows, log).batch == 4
    assert log.notes == [
        "Many of the 60 rows share texts, which must not meet in a batch, so the batch is 4 instead of 64 (--batch N "
        "sets another)."
    ]


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [("pairs", NoDuplicates), ("labelled", PxK), ("texts", LengthBucketed), ("scored", LengthBucketed)],
)
def test_batches_suit_the_rows(tmp_path: Path, kind: str, sampler: type) -> None:
    found = given(made.jsonl(tmp_path / "x.jsonl", made.rows(kind, 40)))
    assert isinstance(make_loader(found, TrainConfig(batch=8)).sampler, sampler)  # type: ignore[union-attr]


def test_images_come_shuffled(tmp_path: Path) -> None:
    found = given(made.pictures(tmp_path / "x", 20, classes=False))
    assert isinstance(make_loader(found, TrainConfig(batch=8)).sampler, Shuffled)  # type: ignore[union-attr]


# --- measuring -------------------------------------------------------------------------------------------------


def test_halves_of_texts() -> None:
    rows = [{"text": "too short to cut", "row": 3}, {"text": "a b c d e f g", "row": 4}]
    found = found_again(rows, StaticText.example())
    assert found == (
        [{"anchor": "a b c", "positive": "d e f g", "row": 4}],
        "The first half of each text had to find its second half.",
    )


def test_figures_that_are_not_defined_are_left_out() -> None:
    good, bad = Interval(0.5, 0.4, 0.6), Interval(float("nan"), float("nan"), float("nan"))
    found = Evaluation(
        "similarity",
        (Figure("pearson", good, {"base": Comparison(good, bad)}), Figure("spearman", bad, {})),
        {"pairs": 3},
    )
    assert as_metrics(found) == {
        "task": "similarity",
        "counts": {"pairs": 3},
        "systems": {"model": {"pearson": 0.5}, "base": {"pearson": 0.5}},
        "intervals": {"model": {"pearson": [0.4, 0.6]}, "base": {"pearson": [0.4, 0.6]}},
        "differences": {},
    }


def test_a_trained_model_does_not_fail_for_what_cannot_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = given(made.jsonl(tmp_path / "x.jsonl", made.rows("pairs", 120)))
    figures = Evaluation("retrieval", (), {})

    def without_bm25(*words: Any, baselines: Any, **more: Any) -> Evaluation:
        if baselines is None:
            raise MissingExtra("This needs the package 'bm25s'.")
        return figures

    def impossible(*words: Any, **more: Any) -> Evaluation:
        raise DataError("There is one class only.")

    towers: Any = {"text": None}
    monkeypatch.setattr("counterpoint.workflow.measure.evaluate", without_bm25)
    assert measured(towers, found) == (figures, ["No baseline was measured. This needs the package 'bm25s'."])
    monkeypatch.setattr("counterpoint.workflow.measure.evaluate", impossible)
    assert measured(towers, found) == (None, ["The model could not be measured. There is one class only."])
    found.held = []
    assert measured(towers, found) == (None, [])


def test_test_rows_need_not_say_their_source_and_may_be_from_others(tmp_path: Path) -> None:
    train, test, other = (tmp_path / n for n in ("train.csv", "test.csv", "other.csv"))
    train.write_text("text,domain\n" + "".join(f"words {i},{'law' if i % 2 else 'news'}\n" for i in range(30)))
    test.write_text("text\nunseen words\nwords unseen\n")
    other.write_text("text,domain\nunseen words,poems\nwords unseen,poems\n")
    for held in (test, other):
        given = gather(str(train), columns={"source": "domain"}, test=str(held), split=None, streaming=None)
        assert [row["text"] for row in given.held] == ["unseen words", "words unseen"]
        assert given.known.schema.sources == ("law", "news")
        assert given.known[3]["source"] == 0
