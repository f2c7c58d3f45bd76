"""How large a tile is, and what the buffers of one may take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from counterpoint.errors import ConfigError

SIDE = {"cpu": 1024, "cuda": 4096, "mps": 2048}
"""Side of a tile by device: large enough that the matrix product runs at its full rate (a CPU with side 512 is slower
by a third or more), small enough that a tile stays in the last-level cache of a CPU."""

BUDGET = {"cpu": 64 << 20, "cuda": 1 << 30, "mps": 256 << 20}
"""Most bytes that all tile-sized buffers together may take, by device."""

BUFFERS = 8
"""Tile-sized buffers alive at once, at most: scores, coefficients, targets, log-weights, a guide's scores, three
Boolean ones (a quarter the size) and one to spare."""

SQUARE = 8192
"""Side of the one buffer that compiled kernels write, on a GPU: so large that launches cost little beside the work.
Not yet measured on a GPU."""

_tile: ContextVar[int | None] = ContextVar("tile", default=None)


@contextmanager
def tiles(side: int | None) -> Iterator[None]:
    """Inside, tiles have this side unless a call names another; None: by device."""
    token = _tile.set(side)
    try:
        yield
    finally:
        _tile.reset(token)


def side(
    device: torch.device, dtype: torch.dtype, tile: int | None = None, budget: int | None = None, square: bool = False
) -> int:
    """Side of a tile: the one asked for (here, or by `tiles`), or the table's; smaller where ``budget`` asks for it.

    square: of the one buffer of compiled kernels.
    """
    tile = _tile.get() if tile is None else tile
    if tile is not None and tile < 1:
        raise ConfigError(f"tile={tile}: the side of a tile is a positive number of rows. Try tile=1024.")
    allowed = BUDGET.get(device.type, BUDGET["cpu"]) if budget is None else budget
    largest = math.isqrt(allowed // ((1 if square else BUFFERS) * dtype.itemsize))
    if budget is not None and largest < 1:
        raise ConfigError(f"A budget of {budget} bytes holds not even one pair. Try budget={64 << 20}.")
    if tile is not None:
        return tile if budget is None else min(tile, largest)
    return max(1, min(SQUARE if square else SIDE.get(device.type, SIDE["cpu"]), largest))
