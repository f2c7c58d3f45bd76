"""Figures of tasks in sequence, by hand."""

import numpy as np
import pytest

from counterpoint.errors import DataError
from counterpoint.evaluate.continual import continual

TRUTH = np.array([0, 0, 1, 1, 2, 2, 2, 2])
TASKS = np.array([0, 0, 0, 0, 5, 5, 5, 5])


def test_three_tasks_by_hand():
    truth, tasks = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2, 2])
    predicted = [np.array(p) for p in ([0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [1, 2, 1, 0, 2, 2])]
    found = continual(predicted, truth, tasks)
    np.testing.assert_allclose(found.matrix, [[1, np.nan, np.nan], [0.5, 1, np.nan], [0, 0.5, 1]])
    np.testing.assert_allclose(found.seen, [1, 3 / 4, 3 / 6])
    assert found.average == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert found.last == pytest.approx(0.5)
    assert found.forgetting == pytest.approx(((1 - 0) + (1 - 0.5)) / 2)


def test_tasks_of_unequal_size_weigh_by_their_rows():
    truth, tasks = np.array([0, 1, 1, 1]), np.array([2, 7, 7, 7])
    found = continual([np.zeros(4), np.ones(4)], truth, tasks)
    np.testing.assert_allclose(found.seen, [1, 0.75])
    assert found.forgetting == 1


def test_what_is_learned_later_counts_as_negative_forgetting():
    found = continual([np.array([1, 9]), np.array([0, 1])], np.array([0, 1]), np.array([0, 1]))
    assert found.forgetting == -1
    assert continual([TRUTH], TRUTH, np.zeros(8)).forgetting == 0


def test_what_does_not_fit():
    with pytest.raises(DataError, match="after 1 tasks, and test rows of 2"):
        continual([TRUTH], TRUTH, TASKS)
    with pytest.raises(DataError, match="7 predictions"):
        continual([TRUTH, TRUTH[1:]], TRUTH, TASKS)
