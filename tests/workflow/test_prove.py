"""A proof's statistics, verdicts, order, and that an interrupted one goes on."""

from __future__ import annotations

import json
import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import discover
from counterpoint.methods.text.simcse import SimCSE
from counterpoint.proofs.base import Proof
from counterpoint.train.signals import Interruption
from counterpoint.workflow import prove as work
from counterpoint.workflow import provenance
from tests.workflow.conftest import Run

FIGURES = {  # by arm and seed; lower is better for the second metric
    "ours": [(0.5, 3.0), (0.7, 2.0), (0.6, 4.0)],
    "without": [(0.4, 3.0), (0.5, 3.0), (0.3, 5.0)],
    "frozen": [(0.4, 9.0), (0.6, 8.0), (0.5, 9.5)],
}


class Counted:
    """A proof's `run` that takes its figures from a table and remembers what it was asked for."""

    def __init__(self, figures: dict[str, list[tuple[float, ...]]] = FIGURES) -> None:
        self.figures, self.asked = figures, []

    def __call__(self, arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
        self.asked.append((arm, seed, smoke))
        return dict(zip(("accuracy", "error"), self.figures[arm][seed]))


def proof_with(run: Callable[..., dict[str, float]], **changes: Any) -> Proof:
    made = Proof(
        SimCSE,
        claim="It is better.",
        arms={"ours": "with", "without": "without it", "frozen": "with it, frozen"},
        metrics={"accuracy": True, "error": False},
        data=(),
        run=run,
        full="A hundred GPUs.",
        minutes=1,
    )
    return replace(made, **changes)


@pytest.fixture
def proved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """Prove a made-up proof under the name of a method that is there."""

    def call(proof: Proof, *, seeds: int = 3) -> tuple[dict[str, Any], list[str]]:
        said: list[str] = []
        monkeypatch.setattr(work, "proofs", lambda: dict.fromkeys(discover(), proof))
        found = work.prove(
            "simcse", seeds=seeds, out=tmp_path / "evidence", kept=tmp_path / "kept", say=lambda x: said.append(str(x))
        )
        return found, said

    return call


def test_paired_differences_and_their_intervals(proved: Any) -> None:
    found, _ = proved(proof_with(Counted()))
    entry = next(e for e in found["metrics"] if (e["name"], e["ablation"]) == ("accuracy", "without"))
    # Differences 0.1, 0.2, 0.3: mean 0.2, s 0.1, and t(0.975; 2) = 4.302653.
    half = 4.302653 * 0.1 / 3**0.5
    assert entry["ci95"] == pytest.approx([0.2 - half, 0.2 + half])
    assert (entry["diff"], entry["method_mean"], entry["ablation_mean"]) == pytest.approx((0.2, 0.6, 0.4))
    assert (entry["seeds"], entry["higher_is_better"]) == (3, True)
    order = [(e["name"], e["ablation"]) for e in found["metrics"]]
    assert order == [("accuracy", "without"), ("accuracy", "frozen"), ("error", "without"), ("error", "frozen")]


def arms(**differences: list[float]) -> dict[str, list[tuple[float, ...]]]:
    """Figures such that the method is ahead of each ablation by so much."""
    ablations = {arm: [(1 - d, 0.0) for d in ahead] for arm, ahead in differences.items()}
    return {"ours": [(1.0, 0.0)] * 3, **ablations}


CLEAR, OPEN, BEHIND = [0.30, 0.31, 0.32], [0.30, -0.29, 0.02], [-0.30, -0.31, -0.32]


@pytest.mark.parametrize(
    ("without", "frozen", "verdict"),
    [
        (CLEAR, CLEAR, "shown"),
        (CLEAR, OPEN, "not shown"),
        (OPEN, OPEN, "not shown"),
        (BEHIND, BEHIND, "reversed"),
        (CLEAR, BEHIND, "reversed"),
        ([0.0] * 3, CLEAR, "not shown"),
    ],
)
def test_verdict(proved: Any, without: list[float], frozen: list[float], verdict: str) -> None:
    found, said = proved(proof_with(Counted(arms(without=without, frozen=frozen))))
    assert found["verdict"] == verdict
    assert f"simcse: {verdict}. It is better." in said


def test_where_lower_is_better_the_direction_turns(proved: Any) -> None:
    metrics = {"accuracy": False, "error": True}
    assert proved(proof_with(Counted(arms(without=CLEAR, frozen=CLEAR)), metrics=metrics))[0]["verdict"] == "reversed"
    assert proved(proof_with(Counted(arms(without=BEHIND, frozen=BEHIND)), metrics=metrics))[0]["verdict"] == "reversed"


def test_only_the_first_metric_decides(proved: Any) -> None:
    figures = {"ours": [(1, 9.0)] * 3, "without": [(0, 1.0)] * 3, "frozen": [(0, 1.0)] * 3}
    assert proved(proof_with(Counted(figures)))[0]["verdict"] == "shown"  # though its error is the largest


def test_only_the_ablations_that_the_claim_is_about_decide(proved: Any) -> None:
    run = Counted(arms(without=CLEAR, frozen=BEHIND))
    found, _ = proved(proof_with(run, against=("without",)))
    assert found["verdict"] == "shown"
    assert {e["ablation"] for e in found["metrics"]} == {"without", "frozen"}  # the other is reported beside
    assert proved(proof_with(run, against=("frozen",)))[0]["verdict"] == "reversed"


def test_one_seed_shows_nothing(proved: Any) -> None:
    found, said = proved(proof_with(Counted(arms(without=CLEAR, frozen=CLEAR))), seeds=1)
    assert found["verdict"] == "not shown"
    assert found["metrics"][0]["ci95"] is None
    assert any("One seed has no interval" in line for line in said)


def test_arms_take_turns(proved: Any) -> None:
    run = Counted()
    proved(proof_with(run), seeds=2)
    assert run.asked == [(arm, seed, False) for seed in (0, 1) for arm in ("ours", "without", "frozen")]


def test_what_is_written(proved: Any, tmp_path: Path) -> None:
    found, _ = proved(proof_with(Counted(), data=()))
    written = json.loads((tmp_path / "evidence/simcse.json").read_text())
    assert written == found
    keys = "method verdict claim metrics wall_seconds hardware data commit command"
    assert list(written) == keys.split()
    entry = "name ablation higher_is_better method_mean ablation_mean diff ci95 seeds"
    assert all(list(e) == entry.split() for e in written["metrics"])
    assert written["command"] == "counterpoint prove simcse --seeds 3"
    picture = ET.parse(tmp_path / "evidence/simcse.svg").getroot()
    dots = [e for e in picture.iter() if e.tag.endswith("circle")]
    assert len(dots) == 2 * (3 * 3 + 2), "per metric: three seeds of three arms, and a difference per ablation"


# --- going on --------------------------------------------------------------------------------------------------


def test_a_kept_result_is_not_computed_again(proved: Any) -> None:
    run = Counted()
    first = proved(proof_with(run), seeds=2)[0]
    run.asked.clear()
    second = proved(proof_with(run), seeds=2)[0]
    assert run.asked == []
    assert second == first
    proved(proof_with(run), seeds=3)
    assert run.asked == [(arm, 2, False) for arm in ("ours", "without", "frozen")]


@pytest.mark.parametrize("part", ["fingerprint", "hardware"])
def test_what_other_code_or_another_machine_made_is_computed_again(
    proved: Any, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    run = Counted()
    proved(proof_with(run), seeds=1)
    monkeypatch.setattr(provenance, part, lambda *_: "other")
    proved(proof_with(run), seeds=1)
    assert len(run.asked) == 6


def test_a_damaged_result_is_computed_again(proved: Any, tmp_path: Path) -> None:
    run = Counted()
    proved(proof_with(run), seeds=1)
    (tmp_path / "kept/simcse/without-0.json").write_text('{"arm": "wi')
    proved(proof_with(run), seeds=1)
    assert run.asked[3:] == [("without", 0, False)]


def test_ctrl_c_that_training_answers_keeps_what_is_done_and_no_more(proved: Any, tmp_path: Path) -> None:
    """The trainer stops after its step and returns: those figures are of half a training."""
    table = Counted()

    def run(arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
        if arm == "without" and len(table.asked) == 1:
            with Interruption(quiet=True) as interruption:
                os.kill(os.getpid(), signal.SIGINT)
                assert interruption.asked
        return table(arm, seed, smoke=smoke)

    with pytest.raises(KeyboardInterrupt):
        proved(proof_with(run), seeds=1)
    assert [p.name for p in (tmp_path / "kept/simcse").iterdir()] == ["ours-0.json"]
    assert not (tmp_path / "evidence").exists()
    proved(proof_with(run), seeds=1)
    assert [arm for arm, _, _ in table.asked] == ["ours", "without", "without", "frozen"]


# --- refusals --------------------------------------------------------------------------------------------------


def test_figures_must_be_there_and_finite(proved: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="arm 'ours' gave no finite figure for error with seed 0"):
        proved(proof_with(lambda arm, seed, *, smoke: {"accuracy": 1.0, "error": float("nan")}))
    assert not (tmp_path / "kept").exists()


def test_missing_data_is_named_before_anything_runs(proved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERPOINT_DATA", raising=False)
    run = Counted()
    with pytest.raises(DataError, match=r"'mnist'.*COUNTERPOINT_DATA is not set.*comes from github.com/rasbt"):
        proved(proof_with(run, data=("mnist",)))
    assert run.asked == []


def test_the_verb_without_data_says_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERPOINT_DATA", raising=False)
    said = run("prove", "directpred")
    assert said.code == 2
    assert "The data set 'cifar10'" in said.err
    assert "Put a copy under" in said.err


def test_the_verb_refuses_what_it_cannot_prove(run: Run) -> None:
    assert "There is no method 'nonsense'" in run("prove", "nonsense").err
    none = run("prove", "in-batch")
    assert (none.code, "directpred" in none.err) == (2, True)
    assert "The method in-batch has no proof yet. Type one of: " in none.err
    assert "Name the methods to prove" in run("prove").err
    assert "Name the methods to prove" in run("prove", "simcse", "--all").err
    assert run("prove", "directpred", "--seeds", "0").code == 2


def test_full_runs_nothing_and_tells_the_published_scale(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERPOINT_DATA", raising=False)
    said = run("prove", "--all", "--full")
    assert said.code == 0
    assert "Published scale: ResNet-18 on STL-10" in said.out
    assert "in-batch: no proof yet." in said.out


# --- every method ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, proof in work.proofs().items() if proof])
def test_smoke(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    """`prove --all --smoke`, a method at a time."""
    if "COUNTERPOINT_DATA" not in os.environ:
        pytest.skip("COUNTERPOINT_DATA is not set: the proofs' data is not here")
    monkeypatch.chdir(tmp_path)
    said = run("prove", name, "--smoke")
    if "counterpoint[proofs]" in said.all:
        pytest.skip("the extra [proofs] is not installed")
    assert said.code == 0, said.all
    for arm in work.proof_of(name).arms:
        assert f"{name}, seed 0, {arm}: " in said.out
    assert not [*tmp_path.iterdir()], "a smoke run writes nothing"


# --- where figures come from -----------------------------------------------------------------------------------


def test_sources_are_what_a_module_imports_however_deep() -> None:
    names = {str(p.relative_to(provenance.PACKAGE)) for p in provenance.sources("counterpoint.methods.text.simcse")}
    assert {"methods/text/simcse.py", "methods/base.py", "kernels/tiled.py", "errors.py"} <= names
    assert not {n for n in names if n.startswith(("cli/", "workflow/", "methods/vision/", "proofs/"))}


def test_a_figure_comes_from_the_experiment_and_the_method(proved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Path]] = []
    monkeypatch.setattr(provenance, "fingerprint", lambda files: str(asked.append(files)))
    proof = work.proof_of("directpred")
    proved(replace(proof_with(Counted()), method=proof.method), seeds=1)
    names = [{str(p.relative_to(provenance.PACKAGE)) for p in provenance.sources(proof.run.__module__)}]
    names += [{str(p.relative_to(provenance.PACKAGE)) for p in files} for files in asked]
    both = "methods/vision/directpred.py", "proofs/vision/directpred.py", "evaluate/knn.py"
    assert [[name in part for name in both] for part in names] == [[True, True, True], [True, False, False]]


def test_fingerprint_changes_with_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    file = tmp_path / "a.py"
    file.write_text("x = 1")
    before = provenance.fingerprint([file])
    file.write_text("x = 2")
    assert provenance.fingerprint([file]) != before
    file.write_text("x = 1")
    assert provenance.fingerprint([file]) == before


def test_outside_a_repository_the_version_stands_for_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert provenance.commit([]).startswith("version ")
