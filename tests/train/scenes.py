"""What several processes do together, each by name in `SCENES`; test_parallel.py judges what they leave.

Every scene takes (number of processes, folder of its own) and returns what each process found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint import processes
from counterpoint.errors import ConfigError
from counterpoint.processes import rank
from counterpoint.train import batchnorm
from counterpoint.train.loop import Trainer
from tests.train.spread import Shares, Spread, figures, settings

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "local": ("teacher", {}),
    "gather": ("contrast", {}),
    "ring": ("contrast", {"transport": "ring"}),
    "statistic": ("barlow", {}),
    "weight set after the step": ("statistic", {}),
    "queue": ("queue", {}),
    "sgd, groups": ("teacher", {"optimizer": "sgd", "groups": {"scale": 0.5, "blocks.0": 0.0}}),
    "lars": ("barlow", {"optimizer": "lars", "lr": 1.0}),
    "sam": ("barlow", {"sam": 0.05}),
    "accumulated, clipped, averaged": ("barlow", {"accumulate": 2, "clip": 0.05, "ema": 0.5}),
    "cached": ("contrast", {"micro_batch": 3}),
    "batch norm": ("norm", {"sync_batchnorm": True}),
}
"""Kind of method, and settings of the run, all of which have to end like one process."""


class Stopped(Exception):
    pass


class Stopping(Spread):
    """Ends the run after a step, as a kill would: nothing is saved but what was saved before."""

    at = 5

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if step == self.at:
            raise Stopped


def train(kind: str, folder: Path | None = None, method: type[Spread] = Spread, **changes: Any) -> Trainer:
    """A run that is over; without a folder, or in a new one, or going on in one."""
    noise = changes.pop("noise", 0.0)
    found = method("barlow" if kind == "norm" else kind, norm=kind == "norm", dropout=noise, noise=noise)
    evaluate = figures if changes.get("metric") else None
    trainer = Trainer(found, Shares(), settings(**changes), folder=folder, evaluate=evaluate, resume=True)
    trainer.fit()
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {n: x.double().clone() for n, x in trainer.module.state_dict().items()}


# --- the scenes ------------------------------------------------------------------------------------------------


def equal(world: int, folder: Path) -> Any:
    """The weights at the end of every case, and the share of them that this process held."""
    out = {}
    for name, (kind, changes) in CASES.items():
        for parallel in ("ddp", "fsdp"):
            trainer = train(kind, parallel=parallel, **changes)
            held = sum(w.numel() for w in trainer.learner.weights.values())
            whole = sum(p.numel() for p in trainer.module.parameters() if p.requires_grad)
            out[name, parallel] = weights(trainer), held / whole
    return out


def checkpointed(world: int, folder: Path) -> Any:
    """Checkpoints of step 4, for others to go on from; and runs that go on from checkpoints of others."""
    for parallel in ("ddp", "fsdp"):
        with contextlib.suppress(Stopped):
            train("queue", folder / parallel, Stopping, parallel=parallel, save_every=4, ema=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other settings: parallel
        return {
            p: weights(train("queue", folder / f"before-{p}", parallel=p, save_every=4, ema=0.5))
            for p in ("ddp", "fsdp")
        }


def resumed(world: int, folder: Path) -> Any:
    """Whole runs, and runs that were stopped and went on, with all that is random."""
    out = {}
    for parallel in ("ddp", "fsdp"):
        same = {"parallel": parallel, "noise": 0.2, "save_every": 2, "ema": 0.9, "sync_batchnorm": True}
        whole = weights(train("queue", **{**same, "save_every": 0}))
        with contextlib.suppress(Stopped):
            train("queue", folder / parallel, Stopping, **same)
        torch.randn(5)
        if parallel == "ddp" and rank() == 0:  # the newest checkpoint is damaged
            file = folder / parallel / "checkpoints" / "step-00000004" / "model.safetensors"
            file.write_bytes(file.read_bytes()[:-1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out[parallel] = whole, weights(train("queue", folder / parallel, **same))
    return out


def random(world: int, folder: Path) -> Any:
    """What every process draws in dropout and in its views."""
    drawn: list[Tensor] = []

    class Drawn(Spread):
        def views(self, rows: Any, rng: Any) -> Any:
            drawn.append(torch.tensor(rng.normal(size=3)))
            return super().views(rows, rng)

        def losses(self, batch: Any) -> dict[str, Tensor]:
            drawn.append(torch.rand(3))
            return super().losses(batch)

    train("teacher", method=Drawn, steps=1, prefetch=False)
    return drawn


def best(world: int, folder: Path) -> Any:
    """Figures of the leader decide for all; nobody else evaluates."""
    values = iter([0.1, 0.2, 0.5, 0.4, 0.3])
    shown: list[Tensor] = []

    def evaluate(method: Spread) -> dict[str, float]:
        assert processes.world() == 1, "alone"
        shown.append(method.encoder.last.weight.detach().clone())
        return {"score": next(values)}

    out = {}
    for parallel in ("ddp", "fsdp"):
        values, method = iter([0.1, 0.2, 0.5, 0.4, 0.3]), Spread("teacher")
        shown.clear()
        config = settings(steps=20, eval_every=2, metric="score", patience=2, parallel=parallel)
        at = folder / parallel if parallel == "ddp" else None  # on disk, and in memory
        result = Trainer(method, Shares(), config, folder=at, evaluate=evaluate).fit()
        last = method.encoder.last.weight.detach().clone()
        out[parallel] = result.best, result.steps, result.stopped, [x.clone() for x in shown], last
    return out


def signalled(world: int, folder: Path) -> Any:
    """The last process alone gets a signal in step 3."""

    class Struck(Spread):
        def losses(self, batch: Any) -> dict[str, Tensor]:
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 3 and rank() == world - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().losses(batch)

    method = Struck("teacher")
    result = Trainer(method, Shares(), settings(), folder=folder / "run").fit()
    return result.steps, result.stopped, sorted(p.name for p in (folder / "run" / "checkpoints").iterdir())


def failing(world: int, folder: Path) -> Any:
    """An error of the leader alone, before, within and after the training."""

    def evaluate(method: Spread) -> dict[str, float]:
        raise ConfigError("There is nothing to measure.")

    out = []
    (folder / "taken").mkdir(exist_ok=True)
    (folder / "taken" / "config.json").write_text("{}")
    for changes in ({"metric": "x"}, {"eval_every": 3}, {}):
        try:
            at = folder / "taken" / "config.json" if not changes else None  # a file, where no folder can be made
            Trainer(Spread("teacher"), Shares(), settings(**changes), folder=at, evaluate=evaluate).fit()
        except Exception as error:
            out.append((type(error).__name__, str(error), getattr(error, "told", False)))
    return out


def statistics(world: int, folder: Path) -> Any:
    """Running statistics of batch normalisation that is not synced; and the logged figures of the leader."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = train("norm", steps=3)
    said = sum("statistics of each process" in str(w.message) for w in caught)
    [norm] = batchnorm.layers(trainer.module.encoder)
    assert type(norm) is nn.BatchNorm1d
    return norm.running_mean, norm.running_var, said


def logged(world: int, folder: Path) -> Any:
    train("barlow", folder / "run")
    return (folder / "run" / "metrics.jsonl").read_text()


SCENES: dict[str, Callable[[int, Path], Any]] = {
    f.__name__: f for f in (equal, checkpointed, resumed, random, best, signalled, failing, statistics, logged)
}


def play(rank: int, world: int, folder: Path, names: list[str]) -> None:
    """What every process of a group runs."""
    warnings.filterwarnings("ignore", message="save_every|accumulate")
    for name in names:
        at = folder / name
        at.mkdir(exist_ok=True)
        torch.save(SCENES[name](world, at), folder / f"{name}-{rank}.pt")
