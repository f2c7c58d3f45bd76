import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from counterpoint.errors import DataError
from counterpoint.evaluate.similarity import cosines, pearson, samples, spearman


def test_cosines_by_hand():
    a = np.array([[1.0, 0], [3, 4], [0, 0]])
    b = np.array([[2.0, 2], [-3, -4], [1, 1]])
    np.testing.assert_allclose(cosines(a, b), [0.5**0.5, -1, 0])


def test_correlations_equal_scipys_with_ties():
    g = np.random.default_rng(0)
    x, y = g.integers(0, 5, 60).astype(float), g.standard_normal(60)
    assert pearson(x, y) == pytest.approx(pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_spearman_sees_order_only():
    x = np.array([0.1, 0.2, 0.3, 0.4])
    assert spearman(x, np.exp(9 * x)) == pytest.approx(1.0)
    assert pearson(x, np.exp(9 * x)) < 0.95
    assert np.isnan(spearman(x, np.ones(4)))


def test_samples_are_of_the_pairs():
    angle = np.linspace(0, 1.5, 8)
    a, b = np.tile([1.0, 0.0], (8, 1)), np.stack([np.cos(angle), np.sin(angle)], 1)
    found = samples(a, b, -angle)
    assert found["spearman"].value == pytest.approx(1.0)
    assert found["pearson"].value == pytest.approx(pearsonr(np.cos(angle), -angle).statistic)


def test_bad_input_is_named():
    a = np.ones((3, 2))
    with pytest.raises(DataError, match="1 of 3 pairs"):
        cosines(np.array([[1, 1], [np.nan, 1], [1, 1]]), a)
    with pytest.raises(DataError, match="shapes"):
        cosines(a, a[:2])
