"""A training in rounds: schedule and optimiser begin anew, and a resumed run begins no round twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from tests.train.tiny import Loader, Tiny, same_weights

SETTINGS: dict[str, Any] = {
    "batch": 8,
    "steps": 7,
    "lr": 0.05,
    "schedule": "linear",
    "warmup": 0.0,
    "device": "cpu",
    "progress": False,
    "tensorboard": False,
}


class Rounds(Tiny):
    """Puts its weights back at the start of each round; keeps what it saw of the optimiser."""

    rounds = 2

    def __init__(self) -> None:
        super().__init__(dropout=0.0, noise=0.0)
        self.begun: list[int] = []
        self.moments: list[int] = []
        self.trainer: Trainer
        self.first = [p.detach().clone() for p in self.encoder.parameters()]

    def before_round(self, number: int) -> None:
        self.begun.append(number)
        self.moments.append(len(self.trainer.optimizer.state))
        with torch.no_grad():
            for p, first in zip(self.encoder.parameters(), self.first):
                p.copy_(first)


def fit(steps: int = 7, folder: Path | None = None, **changes: Any) -> tuple[Rounds, list[float]]:
    method, rates = Rounds(), []
    trainer = Trainer(
        method, Loader(), TrainConfig(**{**SETTINGS, **changes}), folder=folder, resume=folder is not None
    )
    method.trainer = trainer
    step = trainer._step
    trainer._step = lambda *args: rates.append(step(*args)) or rates[-1]  # type: ignore[func-returns-value, method-assign]
    trainer.fit()
    return method, rates


def test_the_schedule_and_the_optimiser_begin_anew() -> None:
    method, rates = fit()
    assert method.begun == [0, 1]
    assert method.moments == [0, 0]
    assert rates[:4] == [0.05, 0.05 * 0.75, 0.05 * 0.5, 0.05 * 0.25]  # 7 steps: rounds of 4 and of 3
    assert rates[4:] == rates[:3]


def test_a_resumed_run_begins_no_round_twice_and_ends_the_same(tmp_path: Path) -> None:
    whole, _ = fit()
    for stop, begun in ((4, [1]), (5, [])):  # between the rounds; within the second
        folder = tmp_path / str(stop)

        class Stops(Exception):
            pass

        method = Rounds()
        after = method.after_step

        def stopping(step: int, after: Any = after, stop: int = stop) -> None:
            after(step)
            if step == stop + 1:
                raise Stops

        method.after_step = stopping  # type: ignore[method-assign]
        trainer = Trainer(method, Loader(), TrainConfig(**{**SETTINGS, "save_every": stop}), folder=folder)
        method.trainer = trainer
        with pytest.raises(Stops):
            trainer.fit()
        resumed, _ = fit(folder=folder, save_every=stop)
        assert resumed.begun == begun
        assert same_weights(resumed.state_dict(), whole.state_dict())
