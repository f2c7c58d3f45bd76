"""The learning rate over a run, as a pure function of the step."""

from __future__ import annotations

import math

from counterpoint.errors import ConfigError
from counterpoint.train.config import TrainConfig


def warmup_steps(steps: int, config: TrainConfig) -> int:
    """Number of warm-up steps in a run of ``steps``: a share of them below 1, the number itself from 1 on.

    config: of the training.
    """
    if config.warmup < 0:
        raise ConfigError(f"warmup={config.warmup}: give a share of the steps (0.05) or a number of steps (1000).")
    if config.warmup < 1:
        return round(config.warmup * steps)
    if config.warmup > steps:
        raise ConfigError(
            f"warmup={config.warmup:.0f} steps is longer than the run of {steps} steps: the learning rate would never "
            "reach its peak. Give a share of the steps instead, e.g. warmup=0.05, or train for more steps."
        )
    return round(config.warmup)


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Factor on the peak learning rate for the optimiser step number ``step``, 0-based, of ``steps``.

    Warm-up rises linearly and reaches 1 with its last step; ``cosine`` and ``linear`` then fall from 1 to
    ``lr_end``, which is the value one step *after* the last: no step is spent at a rate of 0, neither the
    first nor the last. ``constant`` stays at 1.

    config: of the training.
    """
    warm = warmup_steps(steps, config)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warm) / max(1, steps - warm))
    left = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
    return config.lr_end + (1 - config.lr_end) * left
