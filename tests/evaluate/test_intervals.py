import numpy as np
import pytest

from counterpoint.errors import DataError
from counterpoint.evaluate import clustering, pair_classification
from counterpoint.evaluate.intervals import Sample, difference, interval, mean, over_runs, randomisation
from counterpoint.evaluate.result import compare
from counterpoint.evaluate.similarity import pearson, spearman


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


def partitions(n, seed, *, agree, classes=8):
    """Classes, and clusters that follow them in a share of the rows and are random in the rest."""
    g = np.random.default_rng(seed)
    labels, other = g.integers(0, classes, (2, n))
    return labels, np.where(g.random(n) < agree, labels, other)


def judged(n, seed, *, agree):
    """Scores and labels of pairs."""
    g = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return g.standard_normal(n) + 2 * agree * labels, labels


def ranked(n, seed, *, agree):
    """Cosines and gold scores, with ties."""
    g = np.random.default_rng(seed)
    gold = g.integers(0, 6, n).astype(float)
    return agree * gold + g.standard_normal(n), gold


STATISTICS = {
    "nmi": (partitions, clustering.nmi),
    "ari": (partitions, clustering.ari),
    "average precision": (judged, pair_classification.average_precision),
    "best F1": (judged, pair_classification.best_f1),
    "best accuracy": (judged, pair_classification.best_accuracy),
    "spearman": (ranked, spearman),
    "pearson": (ranked, pearson),
}


@pytest.mark.parametrize("agree", [0.0, 0.7, 0.97])
@pytest.mark.parametrize("name", STATISTICS)
def test_an_interval_holds_its_estimate(name, agree):
    """Of random and of good embeddings, for any seed and few rows too; and well inside where there are rows enough. On
    resamples with replacement, where rows come twice, the clustering scores of random ones lie above it."""
    make, statistic = STATISTICS[name]
    for seed in range(20):
        for n in (5, 8, 30, 200):
            found = interval(Sample(make(n, seed, agree=agree), statistic), draws=60, seed=seed)
            assert found.low <= found.value <= found.high, (n, seed)
            if n == 200 and found.low < found.high:
                place = (found.value - found.low) / (found.high - found.low)
                assert 0.15 < place < 0.85, (n, seed)


@pytest.mark.parametrize(("name", "agree"), [(n, a) for n in STATISTICS for a in (0.0, 0.7)])
def test_intervals_of_statistics_cover_what_as_many_other_rows_give(name, agree):
    """The truth: the mean over many samples of as many rows."""
    make, statistic = STATISTICS[name]
    n, trials = 120, 60
    truth = np.mean([statistic(*make(n, 1_000 + seed, agree=agree)) for seed in range(300)])
    found = [interval(Sample(make(n, s, agree=agree), statistic), draws=80, seed=s) for s in range(trials)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert held >= 0.85, f"{held:.2f} of the intervals hold {truth:.3f}"
    # And are not so wide that they say nothing: about four standard deviations of the estimates.
    width, spread = np.mean([one.high - one.low for one in found]), np.std([one.value for one in found])
    # Of the best F1 the generator knows more, as half of all its pairs are the same.
    assert 2.5 * spread < width < (30 if name == "best F1" else 8) * spread


def test_a_difference_of_clusterings_is_paired():
    labels, good = partitions(300, 0, agree=0.7)
    same = difference(Sample((labels, good), clustering.ari), Sample((labels, good), clustering.ari), draws=40)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = np.where(np.random.default_rng(1).random(300) < 0.05, 0, good)
    a, b = (Sample((labels, x), clustering.ari) for x in (good, worse))
    apart, alone = difference(a, b, draws=200), interval(a, draws=200)
    assert apart.low < apart.value < apart.high
    assert apart.high - apart.low < 0.7 * (alone.high - alone.low)


def test_a_statistic_is_computed_on_halves_without_repetition():
    seen = []
    sample = Sample((np.arange(11),), lambda x: float(seen.append(x) or x.mean()))
    drawn = sample.replicates(draws=300, seed=4)
    assert {(len(x), len(set(x.tolist()))) for x in seen[1:]} == {(5, 5), (11, 11)}
    # The spread of a mean of 11 of very many: sqrt(m / (n - m)) undoes that halves of them are drawn.
    assert drawn.std() == pytest.approx(np.arange(11).std(ddof=1) / 11**0.5, rel=0.1)
    assert drawn.mean() == pytest.approx(5)


def test_too_few_examples_have_no_interval():
    for sample in (mean([0.3]), Sample((np.arange(3), np.arange(3)), clustering.ari)):
        found = interval(sample)
        assert np.isnan([found.low, found.high]).all()
        assert str(found) == f"{sample.value:.3f}"
        assert found.text("+") == f"+{sample.value:.3f}"
    assert np.isnan(difference(mean([0.3]), mean([0.1])).low)


def test_all_right_is_not_certain():
    """Every resample of ten right ones says 1; ten right ones are also what an accuracy of 0.8 gives now and then."""
    found = interval(mean(np.ones(10)))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.722, abs=1e-3)
    covered = sum(
        (one := interval(mean(np.random.default_rng(s).random(20) < 0.97), draws=50)).low <= 0.97 <= one.high
        for s in range(200)
    )
    assert covered / 200 > 0.9


def test_intervals_end_where_a_metric_ends():
    x = np.array([0.9, 1.0, 1.0, 1.0, 1.0, 0.2])
    free, kept = (interval(Sample((x,), np.mean, within), draws=300) for within in ((-9, 9), (0, 1)))
    assert free.high > 1 == kept.high
    assert free.low == kept.low


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
    x = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 2.0])
    found = interval(Sample((x, x), pearson), draws=200)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert np.isnan(interval(Sample((x * 0, x), pearson), draws=20).low)


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
