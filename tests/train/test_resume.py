from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.errors import ModelError
from counterpoint.train.checkpoint import load, numbered
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from tests.train.tiny import Loader, Tiny, same_weights, spread

ROOT = Path(__file__).parents[2]


# --- in processes that are killed --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killer")
    command = [sys.executable, "-m", "tests.train.killer", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def report(ran: Path) -> dict[str, Any]:
    return json.loads((ran / "report.json").read_text())


def outcome(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[dict[str, Any]]]:
    """Weights, result and log of a run, without the times."""
    end = load(folder / "end")
    result = {k: v for k, v in end.state.items() if k != "seconds"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    log = [{k: v for k, v in line.items() if k not in ("seconds", "rows_per_s")} for line in lines]
    return end.groups["method"], result, log


def last_state(folder: Path) -> dict[str, dict[str, Tensor]]:
    return load(numbered(folder / "checkpoints", "step")[-1]).groups


def assert_same_run(one: Path, two: Path) -> None:
    (weights, result, log), (other_weights, other_result, other_log) = outcome(one), outcome(two)
    assert same_weights(weights, other_weights)
    assert result == other_result
    assert log == other_log
    groups, others = last_state(one), last_state(two)
    assert groups.keys() == others.keys() == {"model", "optimizer", "rng", "average"}
    assert all(same_weights(groups[name], others[name]) for name in groups)


def test_the_reference_run_stops_early_with_a_best_in_the_middle(ran: Path) -> None:
    """So that a resume has best weights and a count of patience to carry."""
    _, result, log = outcome(ran / "whole")
    assert report(ran)["whole"] == 0
    assert result["stopped"] == "early"
    assert 0 < result["best"]["step"] < result["steps"] < 90
    assert [r["step"] for r in log] == sorted(r["step"] for r in log)


def test_killed_at_five_steps_and_resumed_is_the_run_that_never_stopped(ran: Path) -> None:
    assert report(ran)["killed"] == [-9] * 5 + [0]
    assert_same_run(ran / "whole", ran / "killed")
    assert not list((ran / "killed" / "checkpoints").glob(".*")), "what a kill left half-written is gone"


@pytest.mark.parametrize(("name", "step"), [("int", 23), ("term", 31)])
def test_signal_finishes_the_step_saves_and_can_be_resumed(ran: Path, name: str, step: int) -> None:
    found = report(ran)[name]
    assert found["codes"] == [0, 0]
    assert found["first"]["stopped"] == "interrupted"
    assert found["first"]["steps"] == step
    assert_same_run(ran / "whole", ran / name)
    assert f"Stopped after step {step} of 90 and saved in {ran / name}. Add --resume" in (ran / "stderr").read_text()


def test_second_ctrl_c_quits_at_once(ran: Path) -> None:
    found = report(ran)["impatient"]
    assert found["alive_after_first"]
    assert found["code"] == 130
    assert found["seconds"] < 10


# --- in this process ---------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


class Stopping(Tiny):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if step == self.at:
            raise Stopped


def settings(**changes: Any) -> TrainConfig:
    base = {
        "batch": 8,
        "steps": 20,
        "lr": 0.05,
        "save_every": 4,
        "device": "cpu",
        "progress": False,
        "tensorboard": False,
    }
    return TrainConfig(**{**base, **changes})


def fit(method: Tiny, config: TrainConfig, folder: Path | None = None, **arguments: Any) -> Trainer:
    config = config if folder else replace(config, save_every=0)
    trainer = Trainer(method, Loader(), config, folder=folder, **arguments)
    trainer.fit()
    return trainer


@pytest.mark.filterwarnings("ignore:accumulate")
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd"},
        {"optimizer": "lars", "lr": 1.0},
        {"accumulate": 2},
        {"sam": 0.05},
        {"prefetch": False},
        {"micro_batch": 3},
        {"memory": "5KB"},
        {"precision": "bfloat16"},
        {"ema": 0.9},
    ],
    ids=str,
)
def test_resumed_equals_uninterrupted(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = settings(**changes)
    whole, resumed = Tiny(), Tiny()
    fit(whole, config)
    with pytest.raises(Stopped):
        fit(Stopping(11), config, tmp_path)
    torch.randn(5)  # the state of the generator comes from the checkpoint
    fit(resumed, config, tmp_path, resume=True)
    assert same_weights(whole.state_dict(), resumed.state_dict())


def test_damaged_newest_checkpoint_goes_back_one_and_still_ends_the_same(tmp_path: Path) -> None:
    whole, resumed = Tiny(), Tiny()
    config = settings(eval_every=3, metric="spread")
    fit(whole, config, evaluate=spread)
    with pytest.raises(Stopped):
        fit(Stopping(11), config, tmp_path, evaluate=spread)
    file = tmp_path / "checkpoints" / "step-00000008" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="Going back"):
        fit(resumed, config, tmp_path, resume=True, evaluate=spread)
    assert same_weights(whole.state_dict(), resumed.state_dict())


def test_killed_before_the_first_checkpoint_starts_again(tmp_path: Path) -> None:
    whole, resumed = Tiny(), Tiny()
    fit(whole, settings())
    with pytest.raises(Stopped):
        fit(Stopping(2), settings(), tmp_path)
    fit(resumed, settings(), tmp_path, resume=True)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 10, 20]


def test_resume_of_a_finished_run_returns_its_result_without_training(tmp_path: Path) -> None:
    first, again = Tiny(), Tiny()
    config = settings(eval_every=5, metric="spread", ema=0.9)
    one = Trainer(first, Loader(), config, folder=tmp_path, evaluate=spread).fit()
    loader = Loader()
    two = Trainer(again, loader, config, folder=tmp_path, evaluate=spread, resume=True).fit()
    assert loader.shown == []
    assert same_weights(first.state_dict(), again.state_dict())
    assert two == one


def test_resume_in_an_empty_folder_just_starts(tmp_path: Path) -> None:
    assert fit(Tiny(), settings(), tmp_path / "new", resume=True).state.step == 20


def test_more_steps_go_on_with_a_warning(tmp_path: Path) -> None:
    fit(Tiny(), settings(), tmp_path)
    with pytest.warns(UserWarning, match=r"other settings: lr 0.05 -> 0.01, steps 20 -> 24"):
        trainer = fit(Tiny(), settings(steps=24, lr=0.01, log_every=1), tmp_path, resume=True)
    assert trainer.state.step == 24
    assert max(g["initial_lr"] for g in trainer.optimizer.param_groups) == 0.01


def test_another_model_is_refused_with_a_sentence(tmp_path: Path) -> None:
    class Wider(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.encoder[3] = torch.nn.Linear(8, 5)

    fit(Tiny(), settings(), tmp_path)
    with (
        pytest.warns(UserWarning, match="other settings"),
        pytest.raises(ModelError, match="another model or optimiser"),
    ):
        fit(Wider(), settings(lr=0.01), tmp_path, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["train"]["lr"] == 0.05, "the settings to go back to"
