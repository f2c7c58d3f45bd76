"""What is kept of a run, on disk where it has a folder: checkpoints to go on from, and the best weights."""

from __future__ import annotations

import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from counterpoint.errors import ModelError
from counterpoint.train.average import Average
from counterpoint.train.checkpoint import Checkpoint
from counterpoint.train.parallel import Whole
from counterpoint.train.protocols import Renewal, State
from counterpoint.train.run import Run
from counterpoint.train.snapshot import capture, restore, split
from counterpoint.train.team import Team


class Keeper:
    """Saves and restores a run's tensors. Without a folder only the best weights are kept, in memory.

    All processes call it alike; the leader reads and writes. saves: whether there is a folder. run: the leader's.

    learner: the method as it is trained. optimizer, average: whose state is kept too. device: of the run. team: of
    processes. renewal: of the data, if any.
    """

    def __init__(
        self,
        run: Run | None,
        learner: Whole,
        optimizer: Optimizer,
        average: Average | None,
        device: torch.device,
        team: Team,
        *,
        saves: bool,
        renewal: Renewal | None = None,
    ) -> None:
        self._run, self._learner, self._optimizer, self._team = run, learner, optimizer, team
        self._saves, self._renewal = saves, renewal
        self._average, self._device = average, device
        self._best: dict[str, Tensor] = {}

    def resume(self) -> State:
        """The state of the newest checkpoint, its tensors put in place; a new state where there is none."""
        if not self._saves:
            return State()
        found: list[Checkpoint] = []

        def read() -> dict[str, Any] | None:
            if self._run is None or not self._run.resumes or (saved := self._run.newest()) is None:
                return None
            found.append(saved)
            best = saved.state["best"]
            if best and not self._run.has_best(best["step"]):
                warnings.warn(
                    f"The best weights, of step {best['step']}, are gone; looking for new ones.", stacklevel=2
                )
                saved.state["best"] = None
            return {"path": str(saved.path), "state": saved.state}

        if (said := self._team.first(read)) is None:
            return State()
        saved = Checkpoint(Path(said["path"]), self._team.spread(lambda: found[0].groups), said["state"])
        restore(saved, self._learner, self._optimizer, self._average, self._device, self._team)
        if self._renewal is not None and "renewal" in saved.groups:
            self._renewal.load(saved.groups["renewal"])
        return State(**{f.name: saved.state[f.name] for f in fields(State)})

    def save(self, state: State, *, keep: int, final: bool) -> None:
        """Write a checkpoint. Where that fails in the middle of a run, warn: the next one may find the disk cleared.

        state: what the run remembers. keep: checkpoints that stay. final: whether this is the last one.
        """
        if not self._saves:
            return
        groups, rest = capture(self._learner, self._optimizer, self._average, self._device, self._team)
        if self._renewal is not None:
            groups["renewal"] = self._renewal.state()

        def write() -> None:
            assert self._run is not None
            try:
                self._run.save(state.step, groups, {**asdict(state), **rest}, keep=keep)
            except ModelError as error:
                if final:
                    raise
                warnings.warn(f"{error} Training goes on.", stacklevel=2)

        self._team.first(write)

    def put_aside(self, step: int, method: nn.Module) -> None:
        """Keep the weights of the leader's method as the best so far; in memory where they cannot be written.

        step: the one just done. method: on the leader.
        """
        if not self._team.leads:
            return
        weights, _ = split(method.state_dict())
        self._best = {}
        if self._run:
            try:
                return self._run.save_best(step, weights)
            except ModelError as error:
                warnings.warn(f"{error} Training goes on.", stacklevel=2)
        self._best = {name: value.detach().clone() for name, value in weights.items()}

    def take(self, best: dict[str, Any] | None) -> None:
        """Put the weights to keep into the method: the best, or else the averaged, or else those it holds."""
        if not best:
            return self._learner.settle(self._average)

        def read() -> dict[str, dict[str, Tensor]]:
            return {"model": self._run.best(best["step"]) if self._run and not self._best else self._best}

        self._learner.settle(None, self._team.spread(read)["model"])
