import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.hybrid import reciprocal_rank, weighted


def run(*rows):
    """A run from rows of (score, id) pairs."""
    return (
        np.array([[s for s, _ in r] for r in rows], np.float32),
        np.array([[i for _, i in r] for r in rows], np.int64),
    )


NONE = (-np.inf, -1)


def test_reciprocal_rank_by_hand():
    a = run([(9.0, 5), (8.0, 7), (1.0, 2)])
    b = run([(0.3, 7), (0.2, 9), NONE])
    scores, ids = reciprocal_rank([a, b], k=10)
    assert ids.tolist() == [[7, 5, 9, 2]]
    np.testing.assert_allclose(scores, [[1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63]], rtol=1e-6)
    assert reciprocal_rank([a, b], k=1)[1].tolist() == [[7]]
    assert reciprocal_rank([a, b], k=2, weights=[10, 1])[1].tolist() == [[7, 5]]
    assert reciprocal_rank([a, b], k=2, weights=[1, 0.01], constant=0)[1].tolist() == [[5, 7]]


def test_reciprocal_rank_of_equal_documents_is_by_id():
    assert reciprocal_rank([run([(1.0, 8)]), run([(5.0, 3)])], k=2)[1].tolist() == [[3, 8]]


def test_weighted_minmax_by_hand():
    dense = run([(0.9, 0), (0.5, 1), (0.1, 2)])
    lexical = run([(20.0, 1), (10.0, 3), NONE])
    scores, ids = weighted(dense, lexical, k=5, alpha=0.5)
    # dense' = 1, .5, 0; lexical' = 1, 0; missing = 0
    assert ids.tolist() == [[1, 0, 2, 3]]
    np.testing.assert_allclose(scores, [[0.75, 0.5, 0.0, 0.0]], atol=1e-6)


def test_weighted_zscore_is_a_shift_of_the_sum_of_zscores():
    dense, lexical = run([(3.0, 0), (1.0, 1)]), run([(10.0, 1), (4.0, 0)])
    scores, ids = weighted(dense, lexical, k=2, alpha=0.75, normalize="zscore")
    assert ids.tolist() == [[0, 1]]
    # z = ±1 in both: document 0 has .75 − .25, document 1 the opposite; the shift is Σ share·1 = 1.
    np.testing.assert_allclose(scores, [[1.5, 0.5]], atol=1e-6)


def test_alpha_at_its_ends_is_one_system_alone():
    dense, lexical = run([(3.0, 4), (1.0, 6)]), run([(10.0, 6), (4.0, 4)])
    assert weighted(dense, lexical, k=2, alpha=1)[1].tolist() == [[4, 6]]
    assert weighted(dense, lexical, k=2, alpha=0)[1].tolist() == [[6, 4]]


def test_a_query_without_lexical_hits_keeps_its_dense_order():
    dense, lexical = run([(3.0, 4), (1.0, 6)], [(1.0, 2), (0.0, 3)]), run([NONE, NONE], [(1.0, 3), (0.5, 2)])
    _, ids = weighted(dense, lexical, k=2, alpha=0.4)
    assert ids.tolist() == [[4, 6], [3, 2]]


def test_queries_with_fewer_results_are_filled_up():
    scores, ids = reciprocal_rank([run([(1.0, 1), (0.5, 2)], [NONE, NONE])], k=2)
    assert ids.tolist() == [[1, 2], [-1, -1]]
    assert np.isneginf(scores[1]).all()


def test_bad_input_is_named():
    a, b = run([(1.0, 0)]), run([(1.0, 0)], [(1.0, 0)])
    with pytest.raises(DataError, match="1, 2 queries"):
        reciprocal_rank([a, b], k=1)
    with pytest.raises(ConfigError, match="alpha is 2"):
        weighted(a, a, k=1, alpha=2)
    with pytest.raises(ConfigError, match="normalisation 'softmax'"):
        weighted(a, a, k=1, normalize="softmax")
    with pytest.raises(ConfigError, match="1 weights were given for 2"):
        reciprocal_rank([a, a], k=1, weights=[1.0])
