"""Settings of a training run: one frozen dataclass; the command line, the recipes and the run folder derive from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from counterpoint.errors import ConfigError

Statistics = Literal["refuse", "frozen", "synced"]
"""What batch normalisation is to do where a batch is encoded in parts: see `counterpoint.train.batchnorm`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. Every field has the unit it is counted in.

    >>> config = TrainConfig(batch=32, steps=100, lr=1e-3)
    >>> config.batch, config.epochs
    (32, 1.0)
    """

    batch: int = 256
    """Rows per step: in contrastive methods also the number of candidates each row is compared with."""
    epochs: float = 1.0
    """Passes over the data (ignored where `steps` is given)."""
    steps: int | None = None
    """Optimiser steps (None: from `epochs`)."""
    seed: int = 0
    """Of the weights, the order of the rows, the views and dropout: the same seed gives the same run."""
    mix: float | None = None
    """Each batch from one source (a file, or a value of the column `source`), p ∝ n^mix for one that makes n batches:
    1: each row once, 0: all equally often (None: rows of all files together; 0.5 for files of unlike columns)."""
    batch_of: dict[str, int] = field(default_factory=dict)
    """Name of a source, or kind of rows -> rows in a batch of it, where that is not `batch`. Goes with `mix`."""
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    """adamw; sgd with momentum; lars, for batches of thousands of images."""
    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of adamw's averages of the gradient and of its square."""
    eps: float = 1e-8
    """Added to what adamw and lars divide by."""
    momentum: float = 0.9
    """Of sgd and lars."""
    weight_decay: float = 0.01
    """Not applied to biases and to normalisation layers (parameters with fewer than two axes)."""
    sam: float = 0.0
    """Radius of sharpness-aware minimisation (0: off). Each step then costs two forward and backward passes."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes from its peak to its end."""
    warmup: float = 0.05
    """Share of the steps with linearly rising learning rate, or a number of steps where >= 1."""
    lr_end: float = 0.0
    """Learning rate at the end, as a share of the peak."""
    groups: dict[str, float] = field(default_factory=dict)
    """Regular expression on parameter names -> factor on the learning rate; first match wins, 0 freezes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: products under autocast, weights and losses stay in float32."""
    micro_batch: int | None = None
    """Items per encoder pass (gradient caching): same gradient as the whole batch, memory of one micro-batch. Of texts:
    on average, as passes hold about equally many tokens."""
    memory: str | None = None
    """Memory that training may take, for example 8GiB: the encoder passes are as large as it allows (gradient caching).
    Give this or `micro_batch`."""
    batch_statistics: Statistics = "refuse"
    """Batch normalisation in an encoder whose batch is cut into passes: an error, its running statistics (frozen), or
    the statistics of each pass over all processes (synced)."""
    tile: int | None = None
    """Side of the tiles in which losses look at the batch (None: by device). Larger ones take more memory."""
    accumulate: int = 1
    """Batches per optimiser step. Adds no negatives: use `batch` with `micro_batch` for that."""
    clip: float = 1.0
    """Largest norm of the gradient (0: off)."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, used for evaluation and export (0: off)."""
    eval_every: int = 0
    """Steps between evaluations (0: at the end only)."""
    metric: str = ""
    """Name of the evaluation figure that chooses the best checkpoint ('' : the last one is the best)."""
    higher_is_better: bool = True
    """Whether a larger figure of `metric` is the better one."""
    patience: int = 0
    """Evaluations without a better figure before the run stops early (0: never)."""
    remine: int = 0
    """Of pairs of texts: steps after which, again and again, each row gets hard negatives that the encoder, as it is
    then, finds among the positives (0: never). Until the first time rows have their own, if any."""
    remine_ranks: tuple[int, int] = (10, 100)
    """First and last rank of the texts nearest to an anchor among which `remine` looks."""
    remine_ratio: float | None = 0.95
    """Negatives of `remine` score at most this share of what the positive does."""
    remine_margin: float | None = None
    """Negatives of `remine` score at least so much less than the positive."""
    remine_number: int = 3
    """Negatives that `remine` gives to a row, at most."""
    save_every: int = 0
    """Steps between checkpoints (0: at the end and on Ctrl-C only)."""
    keep: int = 2
    """Checkpoints kept, beside the best one. With two, a damaged newest one still leaves one to resume from."""
    log_every: int = 10
    """Steps between log lines and monitor readings."""
    stop_on_collapse: bool = True
    """Stop when the embeddings have collapsed for 50 steps: effective rank < 2, or mean cosine of pairs > 0.95."""
    device: str = "auto"
    """auto: cuda, then mps, then cpu. With many processes, each takes the GPU of its number on the machine."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With many processes: ddp: the whole model on each. fsdp: a part of its weights, gradients and moments on each."""
    transport: Literal["gather", "ring"] = "gather"
    """How rows are compared with those of other processes. gather: all at once. ring: block by block, less memory."""
    sync_batchnorm: bool = False
    """With many processes: batch normalisation by the statistics of the whole batch, instead of each process's own."""
    progress: bool = True
    """A live progress line in a terminal."""
    tensorboard: bool = True
    """Write TensorBoard events where the package is installed."""
    log_to: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Further loggers, each of which needs its own package."""
    prefetch: bool = True
    """Make the next batch (views, tokens) in a thread while the current one trains; the result is the same."""

    def __post_init__(self) -> None:
        for name, least in (
            ("batch", 1),
            ("accumulate", 1),
            ("keep", 1),
            ("log_every", 1),
            ("steps", 1),
            ("micro_batch", 1),
            ("tile", 1),
            ("save_every", 0),
            ("remine", 0),
            ("eval_every", 0),
            ("patience", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}: expected a whole number of at least {least}.")
        if self.mix is not None and not 0 <= self.mix <= 1:
            raise ConfigError(
                f"mix={self.mix:g}: expected 0 (sources equally often) to 1 (by their size), for example mix=0.5."
            )
        if wrong := [f"{name}={rows}" for name, rows in self.batch_of.items() if rows < 1]:
            raise ConfigError(f"batch_of {wrong[0]}: expected at least one row.")
        if not self.epochs > 0:
            raise ConfigError(f"epochs={self.epochs}: expected more than 0, for example epochs=1.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema={self.ema}: expected a decay of at least 0 and below 1, for example ema=0.999.")
        if self.memory is not None:
            parse_bytes(self.memory)
            if self.micro_batch is not None:
                raise ConfigError(
                    f"memory={self.memory} finds the size of the encoder passes, micro_batch={self.micro_batch} sets "
                    "it. Give one of them."
                )
        if self.batch_statistics not in get_args(Statistics):
            raise ConfigError(f"batch_statistics={self.batch_statistics!r}: type refuse, frozen or synced.")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision={self.precision!r}: type precision=float32 or precision=bfloat16.")
        if self.parallel not in ("ddp", "fsdp"):
            raise ConfigError(f"parallel={self.parallel!r}: type parallel=ddp or parallel=fsdp.")
        if self.transport not in ("gather", "ring"):
            raise ConfigError(f"transport={self.transport!r}: type transport=gather or transport=ring.")


def parse_bytes(text: str) -> int:
    """``8GiB`` (2^30 bytes each), ``500MB`` (10^6) or ``2e9`` as a number of bytes.

    text: as it is typed.
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*(?:e\d+)?)\s*(?:([kmgt])(i?)b|b)?\s*", text.lower())
    if found is None:
        raise ConfigError(f"memory={text!r}: expected bytes with a unit, for example 8GiB, 500MB or 2e9.")
    number, prefix, binary = found.groups()
    count = int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(prefix) if prefix else 0))
    if count < 1:
        raise ConfigError(f"memory={text!r}: expected more than nothing, for example 8GiB.")
    return count
