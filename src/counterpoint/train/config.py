"""Settings of a training run: one frozen dataclass; the command line, the recipes and the run folder derive from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from counterpoint.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. Every field has the unit it is counted in."""

    batch: int = 256
    """Rows per step: in contrastive methods also the number of candidates each row is compared with."""
    epochs: float = 1.0
    """Passes over the data (ignored where `steps` is given)."""
    steps: int | None = None
    """Optimiser steps (None: from `epochs`)."""
    seed: int = 0
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    """Of sgd and lars."""
    weight_decay: float = 0.01
    """Not applied to biases and to normalisation layers (parameters with fewer than two axes)."""
    sam: float = 0.0
    """Radius of sharpness-aware minimisation (0: off). Each step then costs two forward and backward passes."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    """Share of the steps with linearly rising learning rate, or a number of steps where >= 1."""
    lr_end: float = 0.0
    """Learning rate at the end, as a share of the peak."""
    groups: dict[str, float] = field(default_factory=dict)
    """Regular expression on parameter names -> factor on the learning rate; first match wins, 0 freezes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: products under autocast, weights and losses stay in float32."""
    micro_batch: int | None = None
    """Items per encoder pass (gradient caching): same gradient as the whole batch, memory of one micro-batch."""
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
    patience: int = 0
    """Evaluations without a better figure before the run stops early (0: never)."""
    save_every: int = 0
    """Steps between checkpoints (0: at the end and on Ctrl-C only)."""
    keep: int = 2
    """Checkpoints kept, beside the best one. With two, a damaged newest one still leaves one to resume from."""
    log_every: int = 10
    """Steps between log lines and monitor readings."""
    stop_on_collapse: bool = True
    """Stop when the embeddings have collapsed for 50 steps: effective rank < 2, or mean cosine of pairs > 0.95."""
    device: str = "auto"
    """auto: cuda, then mps, then cpu."""
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
            ("save_every", 0),
            ("eval_every", 0),
            ("patience", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}: expected a whole number of at least {least}.")
        if not self.epochs > 0:
            raise ConfigError(f"epochs={self.epochs}: expected more than 0, for example epochs=1.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema={self.ema}: expected a decay of at least 0 and below 1, for example ema=0.999.")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision={self.precision!r}: type precision=float32 or precision=bfloat16.")
