"""Settings turned into what the loop needs, with a sentence for each that does not do what it seems to."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch

from counterpoint.errors import ConfigError
from counterpoint.train.config import TrainConfig
from counterpoint.train.protocols import Loader, State
from counterpoint.train.team import launched, local_rank


def total_steps(config: TrainConfig, per_epoch: int | None) -> int:
    """Optimiser steps of a run. config: of the training. per_epoch: batches of a round (None: a stream, which needs
    ``steps``)."""
    if config.steps is not None:
        return config.steps
    if per_epoch is None:
        raise ConfigError("The data is a stream of unknown length, so epochs cannot be counted. Give steps (--steps).")
    return max(1, round(config.epochs * per_epoch / config.accumulate))


def improves(state: State, config: TrainConfig) -> bool:
    """Whether the last evaluation is the best so far, by ``config.metric``. A figure that is not finite never is.

    state: with its figures. config: of the training.
    """
    metrics, best = state.metrics, state.best
    if config.metric not in metrics:
        known = ", ".join(metrics) or "none at all"
        raise ConfigError(f"The evaluation gives no figure {config.metric!r}. Set metric to one of: {known}.")
    sign, value = 1 if config.higher_is_better else -1, metrics[config.metric]
    return math.isfinite(value) and (best is None or sign * value > sign * best["value"])


def find_device(name: str) -> torch.device:
    """The device of a name (``auto``: the best there is). Each of many processes takes the GPU of its number.

    Raises `ConfigError` for a device that there is not, here or at all.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", local_rank()) if launched()[1] > 1 else torch.device("cuda")
    if name != "auto":
        return _named(name)
    several = launched()[1] > 1  # which no Mac can be, as its GPU has no collectives
    return torch.device("mps" if torch.backends.mps.is_available() and not several else "cpu")


def _named(name: str) -> torch.device:
    """The device of a name that torch knows and this machine has."""
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("nothing can be computed there")
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device={name!r} is no device. Type auto, cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cpu":
        return device
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= there:
        has = f"{there} GPUs, cuda:0 to cuda:{there - 1}" if there else "no GPU that torch can use (no CUDA)"
        raise ConfigError(
            f"device={name!r}: this machine has {has}. Type auto or cpu; `counterpoint doctor` tells more."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device={name!r}: this machine has no GPU by Apple (no MPS). Type auto or cpu.")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ConfigError(f"device={name!r}: this machine has none such. Type auto or cpu.") from error
    return device


def share(loader: Loader, rank: int, world: int, batch: int) -> None:
    """Refuse a loader that does not give this process its share of each batch.

    rank: of this process. world: how many there are. batch: rows of all of them.
    """
    if world == 1:
        return
    if batch < world:
        raise ConfigError(
            f"A batch of {batch} rows cannot be shared by {world} processes. Give batch={world} or more, or start "
            "fewer processes."
        )
    if (getattr(loader, "rank", 0), getattr(loader, "world", 1)) != (rank, world):
        raise ConfigError(
            f"{type(loader).__name__} does not give process {rank} of {world} its share of each batch. Make it with "
            "rank=processes.rank(), world=processes.world(), inside `with counterpoint.train.team.started():`."
        )


def own_seed(seed: int, rank: int) -> int:
    """The seed of a process's own random numbers.

    seed: of the run. rank: of the process.
    """
    return int(np.random.SeedSequence((seed, rank)).generate_state(1, np.uint64)[0] >> 1)


def check(config: TrainConfig, *, evaluates: bool, saves: bool, device: torch.device, warn: bool = True) -> None:
    """Warn of settings that do not do what they seem to; `ConfigError` for those that cannot work.

    config: of the training. evaluates: whether there is an evaluation. saves: whether there is a folder. device: of the
    run. warn: False leaves only the errors.
    """
    if config.patience and not (config.metric and config.eval_every and evaluates):
        raise ConfigError(
            "patience counts evaluations without a better figure, so it needs an evaluation, eval_every and metric. "
            "Give them (--eval-every 100 --metric NAME), or set patience=0."
        )
    notes = []
    if config.accumulate > 1:
        notes.append(
            f"accumulate={config.accumulate} averages the gradients of {config.accumulate} batches, but each row is "
            f"compared with the rows of its own batch of {config.batch} only. For more negatives in the same memory, "
            f"set batch={config.batch * config.accumulate} and micro_batch={config.batch}."
        )
    if (config.metric or config.eval_every) and not evaluates:
        notes.append("metric and eval_every have no effect: there is nothing to evaluate on.")
    if config.save_every and not saves:
        notes.append("save_every has no effect: no run folder was given.")
    if config.precision == "bfloat16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        notes.append("This processor has no bfloat16 units, so precision=bfloat16 will be slower than float32.")
    for note in notes if warn else ():
        warnings.warn(note, stacklevel=3)
