import numpy as np
import pytest

from counterpoint.errors import DataError
from counterpoint.evaluate.intervals import Sample, difference, interval, mean, over_runs, randomisation
from counterpoint.evaluate.result import compare
from counterpoint.evaluate.similarity import pearson


def test_interval_of_the_mean_is_that_of_theory():
    x = np.random.default_rng(0).standard_normal(400)
    found = interval(mean(x), draws=4_000)
    half = 1.96 * x.std() / 20
    assert found.value == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    g = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        found = interval(mean(g.exponential(1.0, 60)), draws=400, seed=trial)
        held += found.low <= 1.0 <= found.high
    assert 0.89 <= held / 300 <= 0.98


def test_difference_is_paired():
    g = np.random.default_rng(2)
    hard = g.uniform(0, 1, 300)  # what both systems share
    a, b = mean(hard + 0.02 + g.normal(0, 0.01, 300)), mean(hard)
    paired = difference(a, b)
    assert paired.value == pytest.approx(a.value - b.value)
    assert 0.018 < paired.low < paired.high < 0.022
    assert interval(a).high - interval(a).low > 10 * (paired.high - paired.low)
    constant = difference(mean(hard + 0.5), mean(hard))
    assert constant.low == pytest.approx(0.5)
    assert constant.high == pytest.approx(0.5)


def test_a_comparison_of_systems_says_the_same():
    g = np.random.default_rng(5)
    a, b = mean(g.uniform(size=40)), mean(g.uniform(size=40))
    (figure,) = compare({"m": a}, {"other": {"m": b}, "lacks it": {}}, draws=100, seed=6)
    assert figure.value == interval(a, draws=100, seed=6)
    assert list(figure.baselines) == ["other"]
    assert figure.baselines["other"].value == interval(b, draws=100, seed=6)
    assert figure.baselines["other"].difference == difference(a, b, draws=100, seed=6)


def test_a_statistic_and_its_mean_form_agree_draw_by_draw():
    x = np.random.default_rng(3).uniform(size=37)
    general = Sample((x,), lambda v: float(v.mean()))
    np.testing.assert_allclose(general.replicates(draws=50, seed=4), mean(x).replicates(draws=50, seed=4))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    x = mean(np.random.default_rng(0).uniform(size=50))
    assert interval(x, seed=1) == interval(x, seed=1)
    assert interval(x, seed=1) != interval(x, seed=2)


def test_blocks_do_not_change_the_draws():
    x = np.arange(3_000_000.0)  # one draw fills a block
    y = Sample((x,)).replicates(draws=2)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(y, [x[rng.integers(0, len(x), len(x))].mean() for _ in range(2)])


def test_resamples_on_which_the_metric_is_not_defined_are_left_out():
    x, y = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    found = interval(Sample((x, y), pearson), draws=200)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert np.isnan(interval(Sample((x * 0, y), pearson), draws=20).low)


def test_randomisation_by_hand():
    # Three pairs: all 8 sign patterns of (1, 1, 1); two of them (+++ and ---) are as extreme: p = 1/4.
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
    assert randomisation(a, b, draws=20_000) == pytest.approx(0.25, abs=0.01)
    assert randomisation(a, a, draws=100) == 1.0
    assert randomisation(np.ones(40), np.zeros(40), draws=999) == 0.001


def test_bad_input_is_named():
    with pytest.raises(DataError, match="same examples; the systems have 2 and 3"):
        difference(mean(np.ones(2)), mean(np.ones(3)))
    with pytest.raises(DataError, match="needs examples"):
        mean(np.array([]))


def test_interval_over_runs_is_students():
    found = over_runs([1.0, 2.0, 3.0])
    # s = 1, standard error 1/sqrt(3), t(0.975; 2 degrees of freedom) = 4.302653
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    ninety = over_runs([0.0, 2.0], level=0.9)  # s = sqrt(2), standard error 1, t(0.95; 1) = 6.313752
    assert (ninety.low, ninety.high) == pytest.approx((1 - 6.313752, 1 + 6.313752))


def test_one_run_has_no_bounds_and_none_no_mean():
    found = over_runs([0.5])
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()
    with pytest.raises(DataError, match="at least one run"):
        over_runs([])
