"""Losses over the tokens of sequences: what a language model is trained by."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.base import objective
from counterpoint.objectives.ranks import RankBehaviour
from counterpoint.objectives.reduce import Reduction, weighted

Weight: TypeAlias = Literal["sequences", "pairs"]
"""sequences: every sequence counts the same. pairs: every pair of tokens does, so that long sequences count more."""


def _logits(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 4, 5, dtype=torch.float64, generator=random)
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 2, 4, 2]).unsqueeze(1)
    return (logits,), {"target": torch.randint(5, (6, 4), generator=random), "mask": mask}


def _states(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    states = torch.randn(6, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (states,), {"mask": torch.arange(4) < torch.tensor([4, 1, 3, 2, 4, 2]).unsqueeze(1)}


def _checked(mask: Tensor | None, like: Tensor, name: str) -> Tensor:
    if like.ndim != 3:
        raise DataError(f"{name} has shape {tuple(like.shape)}; expected (B, T, ...): sequences of tokens.")
    if mask is None:
        return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)
    if mask.dtype != torch.bool or mask.shape != like.shape[:2]:
        raise DataError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; expected torch.bool {tuple(like.shape[:2])}, True where a "
            "token is real."
        )
    return mask


@objective(rank=RankBehaviour.LOCAL, example=_logits)
def token_nll(logits: Tensor, target: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """``-log softmax(logits)[target]``, the mean over all real tokens of the batch: of a language model, the logarithm
    of its perplexity, in nats.

    logits: ``(B, T, V)``. target: ``(B, T)`` long, the token that each one predicts. mask: ``(B, T)`` bool, True where
    the target is real (None: everywhere). Returns ``()``, or ``(B,)`` means over the tokens of each sequence; a
    sequence without a real token gives 0. reduction: ``mean``, or ``none`` for a loss each.

    Source: Bengio et al. 2003, "A Neural Probabilistic Language Model".

    >>> logits = torch.zeros(1, 3, 10)
    >>> nll = token_nll(logits, torch.tensor([[1, 2, 3]]), mask=torch.tensor([[True, True, False]]))
    >>> round(float(nll.exp()), 3)  # perplexity
    10.0
    """
    mask = _checked(mask, logits, "logits")
    if target.shape != mask.shape:
        raise DataError(f"target has shape {tuple(target.shape)}, expected {tuple(mask.shape)}: one per token.")
    # In one row of sequences, as the classes are expected behind the rows.
    values = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    count = mask.sum(1)
    return weighted(values.masked_fill(~mask, 0.0).sum(1) / count.clamp_min(1), count, reduction)


@objective(rank=RankBehaviour.LOCAL, example=_states)
def token_margin(
    states: Tensor,
    *,
    mask: Tensor | None = None,
    margin: float = 0.5,
    weight: Weight = "sequences",
    reduction: Reduction = "mean",
) -> Tensor:
    """States of different tokens of one sequence are pushed apart, until their cosine is at most ``1 - margin``.

    ``L_b = mean over pairs i != j of max(0, margin - cos(h_i, h_i) + cos(h_i, h_j))``, the mean over sequences.

    states: ``(B, T, D)``. mask: ``(B, T)`` bool, True where a token is real (None: everywhere). weight: sequences, as
    the paper defines it, or pairs, as its released code computes it. Sequences of fewer than two tokens have no pair:
    they count for nothing, and a batch of such has the loss 0. Returns ``()``, or ``(B,)`` values of the sequences.
    reduction: ``mean``, or ``none`` for a loss each.

    Source: Su et al. 2022 (SimCTG), arXiv 2202.06417, eq. 2.

    >>> float(token_margin(torch.ones(1, 3, 4))), float(token_margin(torch.eye(3)[None]))
    (0.5, 0.0)
    """
    mask = _checked(mask, states, "states")
    if weight not in ("sequences", "pairs"):
        raise ConfigError(f"weight={weight!r}: type weight='sequences' or weight='pairs'.")
    if not 0 <= margin <= 2:
        raise ConfigError(f"margin={margin}: cosines differ by at most 2; give a margin from 0 (no loss) to 2.")
    unit = F.normalize(states.masked_fill(~mask.unsqueeze(-1), 0.0), dim=-1)
    cosine = unit @ unit.transpose(1, 2)  # (B, T, T)
    # The cosine of a state with itself is 1, without the rounding that would let its gradient in.
    real = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    pairs = real.sum((1, 2))
    hinge = (cosine - (1 - margin)).clamp_min(0.0).masked_fill(~real, 0.0)
    values = hinge.sum((1, 2)) / pairs.clamp_min(1)
    return weighted(values, pairs if weight == "pairs" else pairs > 0, reduction)
