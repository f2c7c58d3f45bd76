"""Standardised columns and independent components, on cases whose answer is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from counterpoint.encoders.transforms import independent, standardised
from counterpoint.errors import DataError

RNG = np.random.default_rng(0)


def test_standardised_by_hand() -> None:
    z = np.array([[1.0, 5.0, 3.0], [3.0, 5.0, 0.0]])
    assert standardised(z).tolist() == [[-1, 0, 1], [1, 0, -1]]  # the column of one value has no direction
    assert np.allclose(standardised(1e2 + 1e-2 * z), [[-1, 0, 1], [1, 0, -1]], atol=1e-5)


def test_components_are_white_and_find_the_sources() -> None:
    sources = RNG.laplace(size=(5000, 3))
    mixed = sources @ np.array([[1.0, 0.4, 0.0], [0.3, 1.0, 0.2], [0.0, 0.5, 1.0]]) + 7
    found = independent(mixed)
    assert np.allclose(found.T @ found / len(found), np.eye(3), atol=1e-8)
    assert np.allclose(found.mean(0), 0, atol=1e-8)
    like = np.abs(np.corrcoef(found.T, sources.T)[:3, 3:])
    assert (like.max(1) > 0.99).all()  # each component is one source
    assert sorted(like.argmax(1)) == [0, 1, 2]
    assert np.array_equal(found, independent(mixed))  # from a fixed seed


@pytest.mark.parametrize("rows", [3, 4, 60])
def test_too_few_directions_are_a_sentence(rows: int) -> None:
    z = RNG.normal(size=(rows, 4))
    z[:, 3] = z[:, 0] + z[:, 1]  # of no direction of its own
    with pytest.raises(DataError, match=f"{rows} embeddings of width 4 span {min(rows - 1, 3)} directions"):
        independent(z)


def test_what_does_not_settle_is_said_and_white_all_the_same() -> None:
    z = RNG.normal(size=(200, 6))  # there is nothing to find in normal noise
    with pytest.warns(UserWarning, match="not settled after 2 iterations"):
        found = independent(z, iterations=2, tolerance=1e-12)
    assert np.allclose(found.T @ found / len(found), np.eye(6), atol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        independent(RNG.laplace(size=(2000, 3)))
