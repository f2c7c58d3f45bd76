"""Partial rank correlation against regression residuals, and a probe that finds the bias put in and no other."""

import numpy as np
import pytest
from scipy.stats import rankdata

from counterpoint.errors import DataError
from counterpoint.evaluate.bias import biases, partial_spearman


def residual(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    design = np.stack([np.ones(len(x)), x], 1)
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0]


def test_it_is_the_correlation_of_what_ranks_of_the_third_leave():
    rng = np.random.default_rng(0)
    g = rng.normal(size=200)
    x, y = np.exp(g + rng.normal(size=200)), g**3 + rng.normal(size=200)
    rx, ry, rg = map(rankdata, (x, y, g))
    expected = np.corrcoef(residual(rx, rg), residual(ry, rg))[0, 1]
    assert partial_spearman(x, y, g) == pytest.approx(expected, abs=1e-9)


def test_what_only_the_third_explains_is_no_correlation():
    rng = np.random.default_rng(1)
    g = rng.normal(size=20_000)
    x, y = g + rng.normal(size=20_000), g + rng.normal(size=20_000)
    assert abs(partial_spearman(x, y, g)) < 0.04
    assert partial_spearman(x, x, g) == pytest.approx(1)
    assert partial_spearman(x, y, np.zeros(20_000)) == pytest.approx(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
    assert np.isnan(partial_spearman(g, y, g))


def test_the_probe_finds_the_bias_that_was_put_in():
    rng = np.random.default_rng(2)
    vocabulary = np.array([f"w{i}" for i in range(30)])
    a, b = ([" ".join(rng.choice(vocabulary, rng.integers(4, 20))) for _ in range(2_000)] for _ in range(2))
    gold = rng.random(2_000)
    shared = np.array(
        [len(set(x.split()) & set(y.split())) / len(set(x.split()) | set(y.split())) for x, y in zip(a, b)]
    )
    longer = np.array([abs(len(x.split()) - len(y.split())) for x, y in zip(a, b)])
    noise = 0.01 * rng.normal(size=2_000)
    fair = biases(gold + noise, a, b, gold)
    assert abs(fair["overlap bias"].value) < 0.07
    assert abs(fair["length bias"].value) < 0.07
    assert biases(gold + shared + noise, a, b, gold)["overlap bias"].value > 0.8
    assert biases(gold - 0.2 * longer + noise, a, b, gold)["length bias"].value < -0.8


def test_sides_of_unlike_length_are_refused():
    with pytest.raises(DataError, match="3 cosines, 2 and 3 texts"):
        biases(np.ones(3), ["a"] * 2, ["a"] * 3, np.ones(3))
