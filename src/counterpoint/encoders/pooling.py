"""From token embeddings to one embedding."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from counterpoint.errors import ConfigError

Pooling: TypeAlias = Literal["cls", "mean", "weighted", "last", "max", "mean_sqrt"]
"""cls: the first real token. mean: of the real tokens. weighted: mean weighted with the position, 1, 2, ..., among the
real tokens (Muennighoff 2022, arXiv 2202.08904; for causal models). last: the last real token. max: per dimension.
mean_sqrt: the sum of the real tokens divided by the square root of their number."""

JOINT = "+"
"""Between the names of several poolings whose embeddings stand side by side, as in ``mean+max``."""


def pool(hidden: Tensor, mask: Tensor | None = None, *, mode: str = "mean", skip: Tensor | None = None) -> Tensor:
    """``(N, T, D)`` to ``(N, D)``, or ``(N, P * D)`` for P poolings side by side.

    mask: ``(N, T)``, nonzero = real (None: all are); a row without any gives zeros. mode: a `Pooling`, or several with
    ``+`` between them. skip: ``(N,)`` long, so many of the first real tokens are left out (None: none); the others keep
    their positions. hidden: of the tokens.

    >>> hidden = torch.tensor([[[1.0], [3.0], [99.0]]])
    >>> mask = torch.tensor([[1, 1, 0]])
    >>> pool(hidden, mask).tolist(), pool(hidden, mask, mode="cls").tolist(), pool(hidden, mask, mode="max").tolist()
    ([[2.0]], [[1.0]], [[3.0]])
    """
    parts = mode.split(JOINT)
    for part in parts:
        check(part)
    if hidden.shape[1] == 0:
        return hidden.sum(1).repeat(1, len(parts))
    counted = None if mask is None else mask.bool()
    if skip is not None:
        number = torch.arange(hidden.shape[1], device=hidden.device) if counted is None else counted.cumsum(1) - 1
        kept = number >= skip.unsqueeze(1)
        counted = kept if counted is None else counted & kept
    return torch.cat([_pooled(hidden, counted, part, mask) for part in parts], dim=-1)


def _pooled(hidden: Tensor, mask: Tensor | None, mode: str, real: Tensor | None) -> Tensor:
    """mask: the tokens that are pooled. real: those that have a position."""
    if mask is None:
        return _unmasked(hidden, mode)
    if mode in ("cls", "last"):
        return token_at(hidden, mask, 0 if mode == "cls" else -1)
    if mode == "max":
        there = mask.any(1, keepdim=True)
        highest = hidden.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(1)
        return highest.masked_fill(~there, 0.0)
    weight = mask
    if mode == "weighted":
        weight = (torch.ones_like(mask) if real is None else real.bool()).cumsum(1) * mask
    weight = weight.to(hidden.dtype).unsqueeze(1)
    total = weight.sum(-1).clamp(min=1)
    return (weight @ hidden).squeeze(1) / (total.sqrt() if mode == "mean_sqrt" else total)


def token_at(hidden: Tensor, mask: Tensor | None, place: int) -> Tensor:
    """``(N, D)`` of ``(N, T, D)``: the real token number ``place``, from the end where negative; zeros where a row has
    none. mask: as of `pool`.

    hidden: of the tokens.

    >>> hidden = torch.tensor([[[1.0], [3.0], [99.0]]])
    >>> token_at(hidden, torch.tensor([[1, 1, 0]]), -1).tolist()  # the last real one
    [[3.0]]
    """
    if mask is None:
        return hidden[:, place]
    mask = mask.bool()
    number = mask.cumsum(1) - 1  # of each real token among them
    wanted = mask & (number == (place if place >= 0 else mask.sum(1, keepdim=True) + place))
    at = wanted.int().argmax(1)[:, None, None].expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, at).squeeze(1).masked_fill(~wanted.any(1, keepdim=True), 0.0)


def check(mode: str, *, also: tuple[str, ...] = ()) -> None:
    """Refuse a pooling that does not exist. also: what the encoder can do besides these.

    mode: that is asked for.
    """
    if mode not in (known := (*get_args(Pooling), *also)):
        raise ConfigError(f"There is no pooling {mode!r}. Type one of: {', '.join(known)}.")


def _unmasked(hidden: Tensor, mode: str) -> Tensor:
    match mode:
        case "cls":
            return hidden[:, 0]
        case "last":
            return hidden[:, -1]
        case "max":
            return hidden.amax(1)
        case "weighted":
            weight = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
            return (weight @ hidden) / weight.sum()
        case "mean_sqrt":
            return hidden.sum(1) / hidden.shape[1] ** 0.5
        case _:
            return hidden.mean(1)
