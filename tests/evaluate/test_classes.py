"""kNN, the linear probe and clustering."""

import math

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from counterpoint.errors import DataError
from counterpoint.evaluate import clustering, knn, probe


def blobs(n, *, classes=3, dim=8, spread=0.2, seed=0):
    centres = np.random.default_rng(0).standard_normal((classes, dim))
    g = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (centres[labels] + spread * g.standard_normal((n, dim))).astype(np.float32), labels


# --- kNN -------------------------------------------------------------------------------------------------------


def test_votes_by_hand():
    train = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    test = np.array([[3, 4]], np.float32)  # cosines .6, .6, .8
    found = knn.votes(train, np.array([0, 0, 1]), test, k=3, temperature=0.5)
    near, far = 2 * math.exp(0.6 / 0.5), math.exp(0.8 / 0.5)
    np.testing.assert_allclose(found, [[near / (near + far), far / (near + far)]], rtol=1e-5)
    assert knn.predict(train, np.array([0, 0, 1]), test, k=1).tolist() == [1]
    assert knn.predict(train, np.array([0, 0, 1]), test, k=3, temperature=0.5).tolist() == [0]


def test_a_cold_temperature_does_not_overflow():
    x, y = blobs(30)
    assert (knn.predict(x, y, x, k=5, temperature=1e-4) == y).all()


def test_knn_with_k_beyond_the_training_rows():
    x, y = blobs(9)
    assert knn.votes(x, y, x[:1], k=100).shape == (1, 3)


# --- the probe -------------------------------------------------------------------------------------------------


def test_probe_separates_what_a_line_can_and_is_blind_to_scale():
    x, y = blobs(60, spread=0.5)
    test, truth = blobs(30, spread=0.5, seed=5)
    found = probe.predict(x, y, test)
    assert (found.predicted == truth).mean() > 0.9
    stretch = np.geomspace(1e-3, 1e3, 8).astype(np.float32)
    np.testing.assert_array_equal(probe.predict(x * stretch, y, test * stretch).predicted, found.predicted)


def test_probe_chooses_without_the_test_rows():
    x, y = blobs(60, spread=2.0)
    test, _ = blobs(30, seed=5)
    assert probe.predict(x, y, test).strength == probe.predict(x, y, 100 * test[:3]).strength


def test_probe_chooses_a_strong_penalty_where_most_features_are_noise():
    g = np.random.default_rng(1)
    y = g.integers(0, 2, 400)
    x = np.concatenate([y[:, None] + g.standard_normal((400, 1)), g.standard_normal((400, 300))], 1)
    assert probe.predict(x, y, x[:1]).strength <= 0.01
    assert probe.predict(x[:, :1], y, x[:1, :1], strengths=(1e-9, 1.0)).strength == 1.0


def test_probe_with_a_single_row_of_a_class():
    x, y = blobs(20, classes=2)
    y[0] = 2
    assert set(probe.predict(x, y, x).predicted) <= {0, 1, 2}
    assert probe.predict(x[:2], np.array([0, 1]), x[:2]).predicted.tolist() == [0, 1]


def test_probe_names_bad_input():
    x, y = blobs(10)
    with pytest.raises(DataError, match="one class only"):
        probe.predict(x, np.zeros(10, int), x)
    with pytest.raises(DataError, match="not finite"):
        probe.predict(np.where(x > 1, np.nan, x), y, x)


# --- clustering ------------------------------------------------------------------------------------------------


def test_kmeans_finds_blobs_and_ignores_length():
    x, y = blobs(60, spread=0.1)
    lengths = np.random.default_rng(0).uniform(0.1, 10, (60, 1))
    assert clustering.ari(y, clustering.kmeans(x * lengths, 3)) == 1.0
    np.testing.assert_array_equal(clustering.kmeans(x, 3), clustering.kmeans(x, 3))


def test_clustering_accuracy_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert clustering.accuracy(labels, np.array([2, 2, 0, 0, 0, 1])) == pytest.approx(5 / 6)
    # One cluster stands for one class only, and one that is left over for none.
    assert clustering.accuracy(labels, np.zeros(6, int)) == pytest.approx(3 / 6)
    assert clustering.accuracy(labels, np.arange(6)) == pytest.approx(3 / 6)


def test_a_probe_can_be_chosen_by_given_rows_and_see_features_as_they_are():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 30))
    y = (x[:, 0] > 0).astype(int)
    for truth in (y, 1 - y):  # the rows that choose decide, even where they are wrong
        accuracies = {
            c: float((probe.predict(x, y, x, strengths=(c,)).predicted == truth).mean()) for c in probe.STRENGTHS
        }
        found = probe.predict(x, y, x[:1], validation=(x, truth))
        assert accuracies[found.strength] == max(accuracies.values())
    scaled = [probe.predict(x * s, y, x * s, strengths=(1.0,), standardise=False).predicted for s in (1.0, 1e-6)]
    assert (scaled[0] == y).mean() > (scaled[1] == y).mean()


def test_few_rows_choose_by_cross_validation() -> None:
    """Of three classes in a row a single held-out share of few rows chooses too strong a penalty."""
    x, y = blobs(60, spread=0.4, dim=4)
    test, truth = blobs(200, spread=0.4, dim=4, seed=3)
    assert probe.folds_for(x, y) == 5
    assert probe.folds_for(np.zeros((5000, 300)), np.arange(5000) % 3) == 1
    once, folded = (probe.predict(x, y, test, folds=folds, seed=1) for folds in (1, 5))
    assert (folded.predicted == truth).mean() >= (once.predicted == truth).mean()
    right = dict.fromkeys(probe.STRENGTHS, 0)
    order = np.random.default_rng(1).permutation(60)
    for fold in (order[i::5] for i in range(5)):
        rest = np.setdiff1d(order, fold)
        scale = StandardScaler().fit(x)
        for c in right:
            fitted = LogisticRegression(C=c, max_iter=200).fit(scale.transform(x[rest]), y[rest])
            right[c] += (fitted.predict(scale.transform(x[fold])) == y[fold]).sum()
    assert right[folded.strength] == max(right.values())


@pytest.mark.parametrize("of", [np.asarray, sparse.csr_array])
def test_a_ridge_separates_what_a_line_can_and_weighs_its_penalty(of) -> None:
    x, y = blobs(90, spread=0.5)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = probe.ridge(of(x[:60]), y[:60], of(x[60:]))
    assert (found.predicted == y[60:]).mean() > 0.9
    assert found.strength in probe.PENALTIES
    noise = np.random.default_rng(0).normal(size=(90, 200)) / 14
    y = np.random.default_rng(1).integers(0, 2, 90)
    assert probe.ridge(of(noise[:60]), y[:60], of(noise[60:])).strength >= 1, "noise asks for a strong penalty"


def test_trees_see_what_no_line_can() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    assert (probe.trees(x[:300], y[:300], x[300:]) == y[300:]).mean() > 0.9
    assert (probe.linear(x[:300], y[:300], x[300:]).predicted == y[300:]).mean() < 0.7


def test_features_that_are_wide_or_sparse_have_a_ridge() -> None:
    x, y = blobs(60, spread=0.5, dim=4)
    assert probe.linear(x, y, x).strength in probe.STRENGTHS
    wide = np.tile(x, (1, 300))
    ours, theirs = probe.linear(wide, y, wide), probe.ridge(wide, y, wide)
    np.testing.assert_array_equal(ours.predicted, theirs.predicted)
    assert ours.strength == theirs.strength


def test_rows_that_are_all_the_same_are_clustered_without_a_warning(recwarn) -> None:
    assert set(clustering.kmeans(np.ones((6, 3)), 2).tolist()) <= {0, 1}
    assert not recwarn.list


def test_names_of_clusters_do_not_matter():
    a, b = np.array([0, 0, 1, 1, 2]), np.array([9, 9, 4, 4, 0])
    assert clustering.samples(a, b)["nmi"].value == pytest.approx(1.0)
    assert clustering.samples(a, b)["ari"].value == pytest.approx(1.0)


def test_clustering_names_bad_input():
    with pytest.raises(DataError, match="2 rows cannot form 3 clusters"):
        clustering.kmeans(np.eye(2), 3)
    with pytest.raises(DataError, match="not finite"):
        clustering.kmeans(np.array([[np.nan, 1.0], [1, 1]]), 2)
