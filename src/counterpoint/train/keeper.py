"""What is kept of a run, on disk where it has a folder: checkpoints to go on from, and the best weights."""

from __future__ import annotations

import warnings
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from counterpoint.errors import ModelError
from counterpoint.train.average import Average
from counterpoint.train.contracts import State
from counterpoint.train.run import Run
from counterpoint.train.snapshot import capture, restore, split


class Keeper:
    """Saves and restores a run's tensors. Without a folder only the best weights are kept, in memory."""

    def __init__(
        self,
        run: Run | None,
        module: nn.Module,
        optimizer: Optimizer,
        average: Average | None,
        device: torch.device,
    ) -> None:
        self._run, self._module, self._optimizer = run, module, optimizer
        self._average, self._device = average, device
        self._best: dict[str, Tensor] = {}

    def resume(self) -> State:
        """The state of the newest checkpoint, its tensors put in place; a new state where there is none."""
        if self._run is None or not self._run.resumes or (saved := self._run.newest()) is None:
            return State()
        restore(saved, self._module, self._optimizer, self._average, self._device)
        state = State(**{f.name: saved.state[f.name] for f in fields(State)})
        if state.best and not self._run.has_best(state.best["step"]):
            warnings.warn(
                f"The best weights, of step {state.best['step']}, are gone; looking for new ones.", stacklevel=2
            )
            state.best = None
        return state

    def save(self, state: State, *, keep: int, final: bool) -> None:
        """Write a checkpoint. Where that fails in the middle of a run, warn: the next one may find the disk cleared."""
        if self._run is None:
            return
        groups, rest = capture(self._module, self._optimizer, self._average, self._device)
        try:
            self._run.save(state.step, groups, {**asdict(state), **rest}, keep=keep)
        except ModelError as error:
            if final:
                raise
            warnings.warn(f"{error} Training goes on.", stacklevel=2)

    def put_aside(self, step: int) -> None:
        """Keep the weights the module holds now as the best so far; in memory where they cannot be written."""
        weights, _ = split(self._module.state_dict())
        self._best = {}
        if self._run:
            try:
                return self._run.save_best(step, weights)
            except ModelError as error:
                warnings.warn(f"{error} Training goes on.", stacklevel=2)
        self._best = {name: value.detach().clone() for name, value in weights.items()}

    def take(self, best: dict[str, Any] | None) -> None:
        """Put the weights to keep into the module: the best, or else the averaged, or else those it holds."""
        if best:
            weights = self._run.best(best["step"]) if self._run and not self._best else self._best
            self._module.load_state_dict(weights, strict=False)
        elif self._average:
            self._average.copy_to_weights()
