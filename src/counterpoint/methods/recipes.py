"""Recipes that methods have in common but for their numbers: those of a laptop."""

from __future__ import annotations

from typing import Any

from counterpoint.encoders.static import StaticTextConfig
from counterpoint.methods.base import Recipe
from counterpoint.train.config import TrainConfig


def static_text(
    size: str,
    config: Any,
    *,
    batch: int,
    epochs: int = 1,
    lr: float = 3e-3,
    dim: int = 256,
    token_dropout: float = 0.0,
) -> Recipe:
    """A method of texts with a static encoder, which trains in minutes on two cores.

    size: ``small``, or ``smoke``, which is 64 wide and trains one epoch with batches of 32. config: of the method.
    batch, epochs, dim: of ``small``. lr, token_dropout: of both; two views of a text may differ by the dropout alone.
    """
    small = size == "small"
    return Recipe(
        config=config,
        encoder=StaticTextConfig(dim=dim if small else 64, token_dropout=token_dropout),
        train=TrainConfig(batch=batch if small else 32, epochs=epochs if small else 1, lr=lr, weight_decay=0.0),
    )
