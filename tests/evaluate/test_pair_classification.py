import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from counterpoint.errors import DataError
from counterpoint.evaluate.pair_classification import average_precision, best_accuracy, best_f1, samples


def test_by_hand():
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 0])
    assert average_precision(scores, labels) == pytest.approx((1 + 2 / 3) / 2)
    assert best_f1(scores, labels) == pytest.approx(2 * 2 / (3 + 2))  # the three highest pass
    assert best_accuracy(scores, labels) == 0.75
    assert best_accuracy(scores, np.array([0, 0, 0, 1])) == 0.75  # best: nothing passes


def test_equals_scikit_learn_with_ties():
    g = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = g.integers(0, 6, 30) / 5, g.integers(0, 2, 30)
        labels[:2] = 0, 1
        assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores))
        each = [scores >= t for t in np.unique(scores)]
        assert best_f1(scores, labels) == pytest.approx(max(f1_score(labels, p) for p in each))
        assert best_accuracy(scores, labels) == pytest.approx(
            max([(p == labels).mean() for p in each] + [(labels == 0).mean()])
        )


def test_all_equal_scores_say_the_share_of_positives():
    assert average_precision(np.ones(4), np.array([1, 0, 0, 0])) == 0.25


def test_bad_labels_are_named():
    a = np.ones((3, 2))
    with pytest.raises(DataError, match="both of them"):
        samples(a, a, np.array([1, 1, 1]))
    with pytest.raises(DataError, match="0 and 1"):
        samples(a, a, np.array([1, 0, 2]))
