"""Inverse propensity weights: hand-computed, clipped, gated; draws follow them; and what they are for: a fair mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.data.propensity import debiased, draw, effective, ipw, softmax
from counterpoint.errors import ConfigError, DataError


def test_what_is_debiased_is_relevance_over_propensity_and_its_ablations_are_halves_of_it():
    r, e = np.array([[1.0, 3.0, 6.0, 2.0]]), np.array([[2.0, 1.0, 1.0, 4.0]])
    kept, there = np.array([[True, True, False, False]]), np.array([[True, True, True, False]])

    def found(by):
        return debiased(np.log(r), np.log(e), kept=kept, there=there, by=by)

    both = np.array([[1 / 4 / (2 / 4), 3 / 4 / (1 / 4), 0, 0]])
    assert np.allclose(found("ipw"), both / both.sum())
    assert np.allclose(found("semantic"), [[1 / 4, 3 / 4, 0, 0]])
    assert np.allclose(found("surface"), [[1 / 5, 2 / 5, 2 / 5, 0]])  # 1 / e of all that are there, kept or not
    assert np.allclose(found("uniform"), [[1 / 2, 1 / 2, 0, 0]])
    with pytest.raises(ConfigError, match="ipw, uniform, semantic or surface"):
        found("both")


def test_softmax_is_over_what_is_kept():
    x = np.log([[1.0, 3.0, 4.0], [1.0, 1.0, 1.0]])
    keep = np.array([[True, True, False], [False, False, False]])
    assert np.allclose(softmax(x), [[1 / 8, 3 / 8, 1 / 2], [1 / 3, 1 / 3, 1 / 3]])
    assert np.allclose(softmax(x, keep), [[1 / 4, 3 / 4, 0], [0, 0, 0]])
    assert np.allclose(softmax(x + 1e4), softmax(x))
    assert softmax(np.empty((2, 0))).shape == (2, 0)


def test_weights_by_hand():
    relevance = np.array([[0.2, 0.3, 0.5, 0.0]])
    propensity = np.array([[0.5, 0.1, 0.001, 0.4]])
    raw = np.array([0.2 / 0.5, 0.3 / 0.1, 0.5 / 0.01, 0.0])  # the third is clipped
    assert np.allclose(ipw(relevance, propensity, clip=0.01), raw / raw.sum())
    assert np.allclose(ipw(relevance, None), relevance)
    assert (ipw(np.zeros((1, 4)), propensity) == 0).all()


@given(seed=st.integers(0, 2**32 - 1), clip=st.floats(0.001, 1))
def test_weights_sum_to_one_and_the_clip_bounds_their_ratio(seed, clip):
    rng = np.random.default_rng(seed)
    relevance, propensity = rng.random((3, 6)) + 1e-6, softmax(5 * rng.normal(size=(3, 6)))
    w = ipw(relevance, propensity, clip=clip)
    assert np.allclose(w.sum(1), 1)
    assert ((w / relevance).max(1) <= (w / relevance).min(1) / clip * (1 + 1e-9)).all()
    more = propensity.copy()
    more[:, 0] = 1.0  # what the rule picks more often is drawn less often
    assert (ipw(relevance, more, clip=clip)[:, 0] <= w[:, 0] + 1e-12).all()


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(ConfigError, match="clip=0"):
        ipw(np.ones((1, 2)), np.ones((1, 2)), clip=0)
    with pytest.raises(DataError, match="negative"):
        ipw(np.array([[-1.0, 1.0]]), None)


def test_the_effective_sample_size_counts_what_weighs():
    assert effective(np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0] * 4])).tolist() == [4, 1, 2, 0]


def test_draws_follow_the_weights_and_never_take_what_weighs_nothing():
    weights = np.tile([0.0, 0.2, 0.0, 0.8, 0.0], (20_000, 1))
    found = draw(weights, np.random.default_rng(0))
    assert set(found.tolist()) == {1, 3}
    assert (found == 3).mean() == pytest.approx(0.8, abs=0.012)  # four deviations
    assert draw(np.zeros((3, 2)), np.random.default_rng(0)).tolist() == [-1, -1, -1]
    assert draw(np.zeros((3, 0)), np.random.default_rng(0)).tolist() == [-1, -1, -1]
    again = draw(weights[:50], np.random.default_rng(1))
    assert (again == draw(weights[:50], np.random.default_rng(1))).all()


def test_weighting_undoes_a_biased_choice():
    """The mean of a population, from draws that prefer large values, is right after weighting by 1 / propensity."""
    rng = np.random.default_rng(0)
    values = rng.random(50)
    propensity = softmax(3 * values[None])
    drawn = draw(np.repeat(propensity, 200_000, axis=0), rng)
    assert values[drawn].mean() > values.mean() + 0.1
    w = ipw(np.ones((1, len(drawn))), propensity[0, drawn][None], clip=1e-9)[0]
    assert (w * values[drawn]).sum() == pytest.approx(values.mean(), abs=0.005)
