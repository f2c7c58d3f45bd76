"""How a batch is cut into encoder passes: items of like length together, each pass of about the same cost.

Items without a length (images, vectors) cost 1 each. In a mapping with an ``attention_mask`` ``(N, T)`` an item costs
the tokens up to its last real one, and every tensor ``(N, T, ...)`` is taken to hold one entry per token.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.batch import Data, size, take


def lengths(data: Data) -> np.ndarray:
    """Cost of each item, ``(N,)`` int, at least 1.

    data: what an encoder's `collate` gives.
    """
    mask = _mask(data)
    if mask is None or not mask.numel():
        return np.ones(size(data), dtype=np.int64)
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask.bool() * places).amax(1).clamp(min=1).cpu().numpy()


def number(costs: np.ndarray, capacity: int) -> int:
    """Fewest passes of which none costs more than ``capacity`` (or holds one item), padding included."""
    return len(_starts(-np.sort(-costs), capacity))


def cut(costs: np.ndarray, count: int) -> tuple[np.ndarray | None, list[slice]]:
    """The order of the items (None: as they are) and at most ``count`` slices of it, the largest as small as can be.

    costs: ``(N,)``. count: of slices.
    """
    order = None if len(costs) == 0 or costs.min() == costs.max() else np.argsort(-costs, kind="stable")
    ranked = costs if order is None else costs[order]
    low = int(costs.max(initial=1))
    high = low * max(1, len(costs))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_starts(ranked, middle)) <= count else (middle + 1, high)
    starts = _starts(ranked, low)
    return order, [slice(a, b) for a, b in zip(starts, [*starts[1:], len(costs)])]


def part(data: Data, order: Tensor | None, where: slice) -> Data:
    """The items of one pass, cut to the longest of them.

    data: of all items. order: in which they are cut (None: as they are). where: of this order.
    """
    chosen = take(data, where if order is None else order[where])
    return trim(chosen)


def trim(data: Data) -> Data:
    """Without the places behind the last real token of every item.

    data: with an ``attention_mask``, or without one, which stays as it is.
    """
    mask = _mask(data)
    if mask is None or not mask.numel():
        return data
    assert not isinstance(data, Tensor)
    longest, places = int(lengths(data).max()), mask.shape[1]
    return {k: v[:, :longest] if v.ndim > 1 and v.shape[1] == places else v for k, v in data.items()}


def sample(data: Data, rows: int, length: int) -> Data:
    """``rows`` items as the first one; where items have lengths, each of ``length`` real tokens.

    data: of one item at least. rows: how many items. length: tokens of each.
    """
    if isinstance(data, Tensor):
        return data[:1].repeat(rows, *[1] * (data.ndim - 1))
    mask = _mask(data)
    out = {}
    for name, value in data.items():
        value = value[:1]
        if mask is not None and value.ndim > 1 and value.shape[1] == mask.shape[1]:
            value = torch.ones_like(value[:, :1]) if value is mask else value
            value = value[:, torch.arange(length, device=value.device) % value.shape[1]]
        out[name] = value.repeat(rows, *[1] * (value.ndim - 1))
    if mask is not None:
        out["attention_mask"] = torch.ones_like(out["attention_mask"])
    return out


def _mask(data: Data) -> Tensor | None:
    return None if isinstance(data, Tensor) else data.get("attention_mask")


def _starts(ranked: np.ndarray, capacity: int) -> list[int]:
    return list(_walk(ranked, capacity))


def _walk(ranked: np.ndarray, capacity: int) -> Iterator[int]:
    """Where passes begin among items from the longest to the shortest: each is as wide as its first item."""
    start = 0
    while start < len(ranked):
        yield start
        start += max(1, capacity // int(ranked[start]))
