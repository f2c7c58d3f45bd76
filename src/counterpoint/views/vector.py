"""Views of vectors: none that leave what they mean; what they are worth as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from counterpoint.views.features import Cheap, Matrix, scaled

# --- cheap features ----------------------------------------------------------------------------------------------


def vectors(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> tuple[Matrix, Matrix, str]:
    """Vectors as they are, but for one factor.

    train, test: vectors of one width. Returns the matrices of both, and what was left out of them in words.

    >>> train, test, cut = vectors([np.array([3.0, 4.0])], [np.array([5.0, 0.0])])
    >>> [[round(float(x), 2) for x in rows[0]] for rows in (train, test)]
    [[0.6, 0.8], [1.0, 0.0]]
    """
    return *scaled(*(np.stack(items).astype(np.float32) for items in (train, test))), ""


cheap = (Cheap(name="the vectors themselves", of=vectors),)
