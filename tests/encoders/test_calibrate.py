"""Calibration by language: shift, scale and rotation, by hand and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.encoders.calibrate import calibrate, mutual_neighbours, procrustes, rotated, shifted, unit
from counterpoint.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def orthogonal(dim: int) -> np.ndarray:
    return np.linalg.qr(RNG.normal(size=(dim, dim)))[0]


def test_a_language_that_is_moved_and_stretched_comes_back() -> None:
    z = RNG.normal(size=(500, 4))
    other = z * [1.0, 5.0, 0.2, 3.0] + [10.0, 0.0, -3.0, 1.0]
    found = calibrate({"en": z, "de": other})
    assert np.abs(found["en"](z) - found["de"](other)).max() < 1e-9
    plain = calibrate({"en": z, "de": other}, scale=False)
    assert np.allclose((other - plain["de"].mean).mean(0), 0)
    assert (plain["de"].spread == 1).all()


def test_spread_by_hand_and_where_nothing_varies() -> None:
    z = np.array([[0.0, 1.0], [2.0, 1.0]])
    found = shifted(z)
    assert found.mean.tolist() == [1, 1]
    assert found.spread.tolist() == pytest.approx([np.sqrt(0.1 * 1 + 0.9 * 0.5), np.sqrt(0.9 * 0.5)])
    assert np.isfinite(shifted(np.ones((3, 2)))(np.ones((3, 2)))).all()


def test_procrustes_finds_a_rotation_and_never_stretches() -> None:
    w, a = orthogonal(5), RNG.normal(size=(40, 5))
    assert np.allclose(procrustes(a, a @ w), w)
    found = procrustes(a, RNG.normal(size=(40, 5)))
    assert np.allclose(found @ found.T, np.eye(5))


def test_neighbours_are_mutual() -> None:
    a, b = np.eye(3), np.array([[0.0, 0.1, 0.9], [0.9, 0.2, 0.0], [0.8, 0.1, 0.0]])
    rows, others = mutual_neighbours(a, b)  # the second row is nobody's first choice
    assert (rows.tolist(), others.tolist()) == ([0, 2], [1, 0])


def test_a_small_turn_is_undone_by_mutual_neighbours() -> None:
    a = unit(RNG.normal(size=(300, 6)))
    skew = RNG.normal(size=(6, 6)) * 0.1
    w = np.linalg.qr(np.eye(6) + skew - skew.T)[0]
    w *= np.sign(np.diag(w))
    found = rotated(a, a @ w)
    assert found is not None
    assert np.abs(found - w).max() < 1e-6
    assert rotated(a[:4], a[:4] @ w) is None


def test_few_texts_are_not_rotated_and_that_is_said() -> None:
    z = RNG.normal(size=(60, 8))
    with pytest.warns(UserWarning, match="de has too few texts"):
        found = calibrate({"en": z, "de": z[:5]}, pivot="en")
    assert found["de"].rotation is None
    assert found["en"].rotation is None
    with pytest.raises(ConfigError, match="pivot='fr'"):
        calibrate({"en": z}, pivot="fr")
    with pytest.raises(DataError, match="at least one text"):
        calibrate({"en": z[:0]})
    with pytest.raises(DataError, match="pairs of rows"):
        procrustes(z, z[:3])
