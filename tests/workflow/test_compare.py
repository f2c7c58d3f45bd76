"""Several methods on the same rows: the same budget, one table, refusals that say what a method needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from counterpoint.evaluate.intervals import Interval
from counterpoint.workflow import compare as work
from counterpoint.workflow.compare import Trained, compare, table
from tests.workflow import made
from tests.workflow.conftest import Run


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.jsonl(tmp_path_factory.mktemp("rows") / "sentences.jsonl", made.rows("texts", 120))


def test_the_same_steps_batch_and_seeds(sentences: Path) -> None:
    said: list[Any] = []
    found = compare(["simcse", "contriever"], data=sentences, steps=3, seeds=2, size="smoke", say=said.append)
    assert [(t.seed, t.method, t.steps) for t in found] == [
        (0, "simcse", 3),
        (0, "contriever", 3),
        (1, "simcse", 3),
        (1, "contriever", 3),
    ]
    assert len({tuple(t.figures) for t in found}) == 1
    budget = next(s for s in said if str(s).startswith("Every method"))
    assert "steps: simcse 3, contriever 3" in budget
    again = compare(["simcse", "contriever"], data=sentences, steps=3, seeds=1, size="smoke", say=said.append)
    assert [t.figures for t in again] == [t.figures for t in found[:2]], "one seed, one result"


def test_minutes_become_steps_by_the_time_of_a_step(sentences: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.5, 2.0])
    monkeypatch.setattr(work, "seconds_per_step", lambda plan, given: next(seconds))
    methods = ["simcse", "contriever"]
    found = compare(methods, data=sentences, minutes=0.1, seeds=1, batch=16, size="smoke", say=lambda _: None)
    assert [t.steps for t in found] == [12, 3]  # 6 seconds


def test_a_step_is_timed(sentences: Path) -> None:
    said: list[Any] = []
    methods = ["simcse", "contriever"]
    found = compare(methods, data=sentences, minutes=1e-6, seeds=1, batch=8, size="smoke", say=said.append)
    assert [t.steps for t in found] == [1, 1], "less than a step takes is one step"


def trained(method: str, *values: float) -> list[Trained]:
    held = [Interval(v, v - 0.1, v + 0.1) for v in values]
    return [Trained(method, seed, 10, 1.0 + seed, {"ndcg@10": x}) for seed, x in enumerate(held)]


def cells(found: list[Trained]) -> list[list[str]]:
    return [list(map(str, column.cells)) for column in table(found).columns]


def test_differences_are_paired_over_the_seeds() -> None:
    metric, method, value, apart = cells([*trained("a", 0.1, 0.5, 0.9), *trained("b", 0.2, 0.7, 1.2)])
    assert (metric, method) == (["ndcg@10", ""], ["a", "b"])
    # b − a is 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt(3), times 4.302653.
    assert apart == ["", "+0.200 [-0.048, +0.448]"]
    # a: mean 0.5, s 0.4: ± 4.302653 · 0.4 / sqrt(3).
    assert value[0] == "0.500 [-0.494, 1.494]"


def test_one_seed_has_the_interval_over_the_rows() -> None:
    _, _, value, apart = cells([*trained("a", 0.5), *trained("b", 0.7)])
    assert value == ["0.500 [0.400, 0.600]", "0.700 [0.600, 0.800]"]
    assert apart == ["", "+0.200"]


def test_methods_that_need_other_rows_are_refused(run: Run, sentences: Path) -> None:
    said = run("compare", "simcse", "supcon", "--data", sentences, "--steps", "1")
    assert said.code == 2
    assert "The method supcon needs items with labels, but the rows hold single texts" in said.all


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("simcse --steps 1", "Name two or more different methods"),
        ("simcse simcse --steps 1", "Name two or more different methods"),
        ("simcse nonsense --steps 1", "There is no method 'nonsense'"),
        ("simcse contriever", "Give one budget: --minutes M or --steps N"),
        ("simcse contriever --steps 1 --minutes 1", "Give one budget: --minutes M or --steps N"),
        ("simcse contriever --steps 0", "must be more than 0"),
        ("simcse contriever --minutes nan", "must be more than 0"),
        ("simcse contriever --steps 1", "Say what to learn from: --data FILE"),
    ],
)
def test_what_cannot_be_compared(run: Run, words: str, sentence: str) -> None:
    said = run(f"compare {words}")
    assert said.code == 2
    assert sentence in said.all


def test_too_few_rows_to_measure_on(run: Run, tmp_path: Path) -> None:
    few = made.jsonl(tmp_path / "few.jsonl", made.rows("texts", 20))
    said = run("compare", "simcse", "contriever", "--data", few, "--steps", "1")
    assert said.code == 2
    assert "give --test FILE" in said.all
    assert "nothing to compare the methods on" in said.all
