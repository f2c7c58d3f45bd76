"""Every metric equals what people compare with: scikit-learn's and scipy's, on whatever hypothesis comes up with."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse, stats
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from counterpoint.evaluate import bias, clustering, forecast, knn, pair_classification, probe, similarity
from counterpoint.evaluate.alignment import share
from counterpoint.evaluate.diagnose import skewness, tolerance
from counterpoint.evaluate.intervals import score_interval
from counterpoint.evaluate.tasks import Labelled

few = settings(max_examples=60)


def numbers(n: int, values: int = 4) -> st.SearchStrategy[np.ndarray]:
    """Whole numbers, so that ties are common."""
    return arrays(np.int64, n, elements=st.integers(0, values - 1))


both = st.integers(1, 30).flatmap(lambda n: st.tuples(numbers(n), numbers(n, 6)))
scored = st.integers(2, 30).flatmap(lambda n: st.tuples(numbers(n, 5), numbers(n, 2)))
three = st.integers(5, 30).flatmap(lambda n: st.tuples(numbers(n, 6), numbers(n, 6), numbers(n, 6)))


@few
@given(both)
def test_clustering_scores(made: tuple[np.ndarray, np.ndarray]) -> None:
    labels, clusters = made
    nmi = metrics.normalized_mutual_info_score(labels, clusters)
    assert clustering.nmi(labels, clusters) == pytest.approx(nmi, abs=1e-9)
    assert clustering.nmi(labels, clusters) == pytest.approx(metrics.v_measure_score(labels, clusters), abs=1e-9)
    assert clustering.ari(labels, clusters) == pytest.approx(metrics.adjusted_rand_score(labels, clusters), abs=1e-9)


def test_nmi_is_that_of_the_arithmetic_mean() -> None:
    """The mean matters where classes and clusters differ in number; with the geometric one this is 0.707."""
    assert clustering.nmi(np.array([0, 0, 1, 1]), np.arange(4)) == pytest.approx(2 / 3)


@few
@given(both)
def test_clustering_accuracy_is_that_of_the_best_names(made: tuple[np.ndarray, np.ndarray]) -> None:
    labels, clusters = made[0], made[1] % 4
    best = max((np.array(names)[clusters] == labels).mean() for names in itertools.permutations(range(4)))
    assert clustering.accuracy(labels, clusters) == pytest.approx(best)


@few
@given(three)
def test_correlations(made: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, g = (a.astype(float) for a in made)
    assume(min(np.ptp(a) for a in (x, y, g)) > 0)
    assert similarity.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert similarity.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    ranks = [stats.rankdata(a) for a in (x, y, g)]
    rest = [r - LinearRegression().fit(ranks[2][:, None], r).predict(ranks[2][:, None]) for r in ranks[:2]]
    assume(min(np.abs(r).max() for r in rest) > 1e-6)
    assert bias.partial_spearman(x, y, g) == pytest.approx(stats.pearsonr(*rest).statistic, abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1 / 3])
def test_a_correlation_with_a_constant_is_none(constant: float) -> None:
    x, y = np.full(7, constant), np.arange(7.0)
    assert math.isnan(similarity.pearson(x, y))
    assert math.isnan(similarity.spearman(y, x))


@few
@given(scored)
def test_pair_classification(made: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = made[0] / 4, made[1]
    assume(0 < labels.sum() < len(labels))
    found = metrics.average_precision_score(labels, scores)
    assert pair_classification.average_precision(scores, labels) == pytest.approx(found)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert pair_classification.best_f1(scores, labels) == pytest.approx(f1.max())
    passing = [scores >= t for t in (*np.unique(scores), 2)]
    best = max(metrics.accuracy_score(labels, p) for p in passing)
    assert pair_classification.best_accuracy(scores, labels) == pytest.approx(best)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_votes_of_neighbours(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(10, 5)).astype(np.float32)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, 27)])
    theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(train, labels)
    ours = knn.votes(train, labels, test, k=k)
    np.testing.assert_allclose(ours, theirs.predict_proba(test), atol=1e-4)
    thin = [sparse.csr_array(np.where(x > 0, x, 0)) for x in (train, test)]
    full = [x.toarray() for x in thin]
    np.testing.assert_allclose(
        knn.votes(thin[0], labels, thin[1], k=k), knn.votes(full[0], labels, full[1], k=k), atol=1e-4
    )


def test_equal_votes_go_to_the_smaller_class_and_equal_neighbours_to_the_first() -> None:
    train = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    for x in (train, sparse.csr_array(train)):
        assert knn.predict(x, np.array([2, 1, 2, 1]), x[[0]] + x[[1]], k=4).tolist() == [1]
        assert knn.nearest(x[[0]], x, 3)[1].tolist() == [[0, 2, 1]]


def test_probes_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 6)), rng.integers(0, 3, 80)
    x[:, 0] += y
    scale = StandardScaler().fit(x[:60])
    logistic = LogisticRegression(C=0.1, max_iter=200).fit(scale.transform(x[:60]), y[:60])
    np.testing.assert_array_equal(
        probe.predict(x[:60], y[:60], x[60:], strengths=(0.1,)).predicted, logistic.predict(scale.transform(x[60:]))
    )
    ridge = RidgeClassifier(alpha=3.0).fit(x[:60], y[:60]).predict(x[60:])
    for features, least in ((x, 1.0), (sparse.csr_array(x), 0.9)):  # of sparse rows in steps, until little changes
        found = probe.ridge(features[:60], y[:60], features[60:], penalties=(3.0,)).predicted
        assert (found == ridge).mean() >= least


def test_accuracies_are_shares_of_right_ones() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(90, 4)).astype(np.float32), rng.integers(0, 3, 90)
    task = Labelled(list(x[:60]), y[:60], list(x[60:]), y[60:])
    found, _ = task.samples(x[:60], x[60:], k=5, seed=0)
    near = knn.predict(x[:60], y[:60], x[60:], k=5)
    assert found["kNN accuracy"].value == pytest.approx(metrics.accuracy_score(y[60:], near))


@few
@given(arrays(np.float64, st.integers(2, 20), elements=st.integers(-5, 5)))
def test_skewness(x: np.ndarray) -> None:
    assert skewness(x) == pytest.approx(float(stats.skew(x)) if np.ptp(x) else 0.0, abs=1e-9)


def test_tolerance_is_the_mean_cosine_within_classes() -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(12, 3)), np.arange(12) % 4
    cosines = metrics.pairwise.cosine_similarity(z)
    same = (labels[:, None] == labels) & ~np.eye(12, dtype=bool)
    assert tolerance(z, labels) == pytest.approx(cosines[same].mean())


def test_forecast_errors() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 4, 3))
    squared, absolute = forecast.errors(a, b)
    assert squared.mean() == pytest.approx(metrics.mean_squared_error(b.ravel(), a.ravel()))
    assert absolute.mean() == pytest.approx(metrics.mean_absolute_error(b.ravel(), a.ravel()))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_of_shares(made: tuple[int, int]) -> None:
    hits, n = made
    for ours, method in ((share(hits, n), "exact"), (score_interval(hits / n, n), "wilson")):
        theirs = stats.binomtest(hits, n).proportion_ci(method=method)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
        assert ours.low <= ours.value <= ours.high
