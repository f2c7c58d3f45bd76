"""Vectors: lists of numbers that something else has made of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from counterpoint.modalities.base import Column, Modality, is_numbers

VECTOR = "vector"

WIDTH = 7
"""Of an example."""


def item(cell: Any, beside: Mapping[str, Any]) -> np.ndarray:
    """``(F,)`` float32. Raises `OSError` for what is no list of numbers.

    cell: of the column. beside: not needed.
    """
    try:
        return np.asarray(cell, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise OSError(f"cannot be used: {error}") from error


def looks(column: Column) -> bool:
    """Whether a column holds lists of floats; whole numbers in a list may be anything, and have to be named."""
    import pyarrow as pa

    return is_numbers(column.type) and pa.types.is_floating(column.type.value_type)


modality = Modality(
    name=VECTOR,
    one="a vector",
    many="vectors",
    item=item,
    fits=is_numbers,
    looks=looks,
    with_text="yields",
    bags=True,
    then=("counterpoint index {run} ROWS && counterpoint search {run} --vector '[0.1, 0.2]'",),
    example=lambda rng: rng.normal(size=WIDTH).astype(np.float32),
)
