"""What training asks of a method and of a loader, what a run remembers, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.train.budget import Budget
from counterpoint.train.config import Statistics


class Loader(Protocol):
    """Batches of rows without end, and the position among them, which does not depend on the number of processes.

    With several processes it has ``rank`` and ``world``, and gives that share of each batch, which may be empty.
    """

    steps_per_epoch: int | None

    def __iter__(self) -> Iterator[list[Row]]:
        """Batches from the current position on, for ever."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches yielded so far, as JSON; a new object each time, made in every step."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Trainable(Protocol):
    """What the loop asks of a method, which is also an ``nn.Module``."""

    micro_batch: int | Budget | None
    batch_statistics: Statistics
    precision: str
    observed: dict[str, Tensor]
    rounds: int

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """A batch of views of rows; every draw comes from rng."""
        ...

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss of a batch by name, ``()`` each; their sum is trained."""
        ...

    def before_training(self, steps: int) -> None:
        """Called once, when the number of steps is known."""
        ...

    def before_round(self, number: int) -> None:
        """Called before each round through the data, of this number from 0."""
        ...

    def after_step(self, step: int) -> None:
        """Called after each optimiser step, of this number from 1."""
        ...


class Renewal(Protocol):
    """What the rows hold that is made anew by the method as it is, every so many steps: hard negatives.

    ``state`` is part of every checkpoint, so that a run that goes on from one has what was in force then. Of several
    processes the leader makes it, and the others load its state.
    """

    every: int

    def renew(self, method: Any) -> dict[str, float]:
        """Make it; figures for the log."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The tensors a checkpoint keeps of it."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the state that a checkpoint kept."""
        ...


@dataclass
class State:
    """What a run remembers beside its tensors. best: the step, value and figures of the best evaluation so far.

    seconds: of training so far. loader: its state. metrics: of the last evaluation. stale: evaluations without a better
    one. collapsed: steps since the embeddings are.
    """

    step: int = 0
    seconds: float = 0.0
    loader: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    stale: int = 0
    collapsed: int = 0


@dataclass(frozen=True, kw_only=True)
class Result:
    """steps: done in all. seconds: over all resumes. metrics: of the weights the method now holds, where they were
    evaluated. best: step, value and figures of the best evaluation, where a metric was named. stopped: ``finished``,
    ``early`` (patience) or ``interrupted``. still: of the steps that this process took since it was started, those
    without any gradient, as a share; 1 means that training taught nothing.

    folder: of the run, if there is one.
    """

    steps: int
    seconds: float
    metrics: dict[str, float]
    best: dict[str, Any] | None
    stopped: str
    folder: Path | None
    still: float = 0.0
