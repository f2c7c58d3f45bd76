"""Tasks learned one after another: how much is known after each, and how much of it is lost again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.errors import DataError


@dataclass(frozen=True, eq=False)
class Continual:
    """matrix: ``(T, T)``, the accuracy on the test rows of task j after task i was learned; NaN where j > i. counts:
    ``(T,)`` test rows of each task.

    seen: ``(T,)``, after each task, the accuracy on the test rows of all tasks so far. average: its mean over the
    tasks. last: after the last one. forgetting: the mean over all tasks but the last of the best accuracy that a task
    ever had before the last one, less the one at the end; 0 for one task (Chaudhry et al. 2018, arXiv 1801.10112).
    """

    matrix: np.ndarray
    counts: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """After each task, the accuracy on the rows of all tasks so far, ``(T,)``."""
        known = np.tril(np.where(np.isnan(self.matrix), 0, self.matrix) * self.counts)
        found: np.ndarray = known.sum(1) / np.cumsum(self.counts)
        return found

    @property
    def average(self) -> float:
        """The mean of `seen`."""
        return float(self.seen.mean())

    @property
    def last(self) -> float:
        """The accuracy on all tasks at the end."""
        return float(self.seen[-1])

    @property
    def forgetting(self) -> float:
        """How far the accuracy on a task has fallen from its best by the end, the mean over all tasks but the last; 0
        of one."""
        if len(self.counts) < 2:
            return 0.0
        return float((np.nanmax(self.matrix[:-1, :-1], axis=0) - self.matrix[-1, :-1]).mean())


def continual(predicted: Sequence[np.ndarray], truth: np.ndarray, tasks: np.ndarray) -> Continual:
    """From what was predicted after each task for all test rows, ``(N,)`` each, in the order of the tasks.

    truth: ``(N,)`` labels. tasks: ``(N,)``, the task of each test row; tasks are in the order of their numbers.
    Predictions for rows of tasks that come later are not looked at. Raises `DataError` where they do not fit.

    >>> truth, tasks = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    >>> found = continual([np.array([0, 0, 0, 0]), np.array([0, 1, 1, 1])], truth, tasks)
    >>> found.average, found.last, found.forgetting
    (0.875, 0.75, 0.5)
    """
    names, number, counts = np.unique(tasks, return_inverse=True, return_counts=True)
    if len(predicted) != len(names) or not len(names):
        raise DataError(
            f"There are predictions after {len(predicted)} tasks, and test rows of {len(names)}: one set after each "
            "task is expected, and test rows of every task."
        )
    if wrong := [len(p) for p in (*predicted, tasks) if len(p) != len(truth)]:
        raise DataError(f"{wrong[0]} predictions or tasks came for {len(truth)} labels; expected one for each row.")
    matrix = np.full((len(names), len(names)), np.nan)
    for i, said in enumerate(predicted):
        right = np.bincount(number, weights=np.asarray(said) == truth, minlength=len(names))
        matrix[i, : i + 1] = (right / counts)[: i + 1]
    return Continual(matrix, counts)
