"""Maps of a whole matrix of embeddings: rows to unit length, and a space made even in all directions."""

from __future__ import annotations

import warnings

import numpy as np

from counterpoint.errors import DataError

CONSTANT = 1e-6
"""Spread of a column, relative to its size, below which it only holds rounding."""


def unit(z: np.ndarray) -> np.ndarray:
    """``(N, D)`` with every row at unit length; a row of zeros stays one.

    z: of any length.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]


def standardised(z: np.ndarray) -> np.ndarray:
    """``(N, D)`` with every column at mean 0 and variance 1; a column of one value becomes 0.

    z: of any scale.

    >>> standardised(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    z = np.asarray(z, dtype=np.float64)
    centred, std = z - z.mean(0), z.std(0)
    constant = std <= CONSTANT * np.abs(z).max(0, initial=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, std))


def independent(z: np.ndarray, *, seed: int = 0, iterations: int = 1_000, tolerance: float = 1e-4) -> np.ndarray:
    """``(N, D)``: the standardised columns turned into D independent components of variance 1 (FastICA, log cosh).

    The covariance of what comes out is the identity: the space is isotropic. Warns where it does not converge in so
    many iterations; the last iterate is still white. Raises `DataError` where the rows do not span all D directions.

    z: ``(N, D)``. seed: of where it begins. iterations: at most. tolerance: change at which it has converged.

    Source: Hyvärinen & Oja 2000, "Independent Component Analysis: Algorithms and Applications".

    >>> rng = np.random.default_rng(0)
    >>> x = independent(rng.laplace(size=(500, 2)) @ np.array([[1.0, 2.0], [0.0, 1.0]]))
    >>> np.allclose(np.cov(x.T, bias=True), np.eye(2), atol=0.05)
    True
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    n, d = z.shape
    even = standardised(z)
    # One direction less than rows, since the mean is taken out.
    rank = int(np.linalg.matrix_rank(even, tol=CONSTANT * np.linalg.norm(even, 2))) if n > d else min(n - 1, d)
    if rank < d:
        raise DataError(
            f"{n:,} embeddings of width {d} span {rank} directions, which cannot become {d} independent components. "
            f"Give more of them, or an encoder at most {max(rank, 1)} wide, or do without components."
        )
    ica = FastICA(d, whiten="unit-variance", fun="logcosh", max_iter=iterations, tol=tolerance, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said below, in a sentence
        found = np.asarray(ica.fit_transform(even))
    if ica.n_iter_ >= iterations:
        warnings.warn(
            f"The independent components of {n:,} embeddings have not settled after {iterations:,} iterations; those "
            "of the last one are used. They are uncorrelated all the same.",
            stacklevel=2,
        )
    return found
