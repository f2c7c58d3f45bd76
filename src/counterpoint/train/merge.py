"""Weights of several runs as one: more of a run where it went farther from where all of them began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from counterpoint.errors import ConfigError, ModelError

Weighing: TypeAlias = Literal["delta", "inverse", "uniform"]
"""delta: by how far a run's weights went. inverse: by one over that. uniform: all runs alike (Model Soups, Wortsman et
al. 2022, arXiv 2203.05482)."""

Part: TypeAlias = Literal["tensor", "element"]
"""What gets a weight of its own: a whole tensor, or each number in it."""

States: TypeAlias = Sequence[Mapping[str, Tensor]]


def merge(
    start: Mapping[str, Tensor], states: States, *, by: Weighing = "delta", each: Part = "tensor"
) -> dict[str, Tensor]:
    """``merged = start + Σ_k w_k Δ_k``, ``Δ_k = state_k - start``, ``w_k = |Δ_k|_1 / Σ_j |Δ_j|_1`` for each tensor.

    start: the weights that all runs began with, by name. states: what each run came to. by, each: see there. Where no
    run moved, and with ``uniform``, all count alike. Tensors of whole numbers (counts, masks) are those of the first.
    Returns new tensors of the types of the first run. Raises `ModelError` where names or shapes differ.

    Delta-guided fusion of CoDiEmb 2025, arXiv 2508.11442 (our reading: its formula of the weights is not published).

    >>> start, a, b = ({"w": torch.tensor([x])} for x in (0.0, 3.0, -1.0))
    >>> [float(merge(start, [a, b], by=by)["w"]) for by in ("delta", "inverse", "uniform")]
    [2.0, 0.0, 1.0]
    """
    if by not in get_args(Weighing) or each not in get_args(Part):
        raise ConfigError(f"by={by!r}, each={each!r}: type delta, inverse or uniform; tensor or element.")
    if not states:
        raise ConfigError("There is nothing to merge. Give the weights of at least one run.")
    merged: dict[str, Tensor] = {}
    for state in states:
        _same(start, state)
    for name, first in states[0].items():
        if not first.is_floating_point():
            merged[name] = first.clone()
            continue
        base = start[name].double()
        deltas = torch.stack([state[name].double().to(base.device) - base for state in states])  # (K, ...)
        share = weights(deltas, by=by, each=each)
        merged[name] = (base + (share * deltas).sum(0)).to(first)
    return merged


def weights(deltas: Tensor, *, by: Weighing = "delta", each: Part = "tensor") -> Tensor:
    """Shares of K runs, which add up to 1: ``(K, 1, ...)`` for a tensor, ``(K, ...)`` for its elements.

    deltas: ``(K, ...)``. With ``inverse``, a run that did not move where others did counts for all. by: what a share
    follows from. each: of a whole tensor, or of each of its elements.
    """
    size = deltas.abs()
    if each == "tensor":
        size = size.flatten(1).sum(1).view(-1, *[1] * (deltas.dim() - 1))
    if by == "uniform":
        size = torch.ones_like(size)
    elif by == "inverse":
        still = size == 0
        size = torch.where(still.any(0), still.to(size), 1 / size.where(~still, 1))
    size = torch.where(size.sum(0) > 0, size, 1.0)
    return size / size.sum(0)


def _same(start: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    if missing := sorted(start.keys() ^ state.keys()):
        raise ModelError(f"The weights cannot be merged: {missing[0]} is in one of the models and not in another.")
    for name, value in state.items():
        if value.shape != start[name].shape:
            raise ModelError(
                f"The weights cannot be merged: {name} has the shape {tuple(value.shape)} in one of the models and "
                f"{tuple(start[name].shape)} in another. Merge runs of one encoder that began alike."
            )
