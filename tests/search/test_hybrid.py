import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.hybrid import Share, extended, reciprocal_rank, weighted


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


# --- the weighted sum --------------------------------------------------------------------------------------------


def test_weighted_by_hand():
    dense = run([(0.9, 0), (0.5, 1), (0.1, 2)])
    lexical = run([(20.0, 1), (10.0, 3), NONE])
    scores, ids = weighted(dense, lexical, k=5, alpha=0.5, average=np.array([0.1]))
    # dense' = 1, .5, 0 (the average row); lexical' = 1, .5; unlisted = 0
    assert ids.tolist() == [[1, 0, 3, 2]]
    np.testing.assert_allclose(scores, [[0.75, 0.5, 0.25, 0.0]], atol=1e-6)
    scores, ids = weighted(dense, lexical, k=2, alpha=0.75)  # without an average row, 0 is a cosine of 0
    assert ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(scores, [[0.75, 0.75 * 0.5 / 0.9 + 0.25]], atol=1e-6)


def test_a_lone_hit_and_tied_hits_count_as_the_best():
    dense = run([(0.9, 0), (0.8, 1), (0.7, 4)])
    average = np.array([0.6])
    scores, ids = weighted(dense, run([(3.0, 4), NONE, NONE]), k=3, alpha=0.4, average=average)
    assert ids.tolist() == [[4, 0, 1]]
    np.testing.assert_allclose(scores, [[0.6 + 0.4 / 3, 0.4, 0.8 / 3]], atol=1e-6)
    scores, ids = weighted(dense, run([(3.0, 1), (3.0, 4), NONE]), k=3, alpha=0.4, average=average)
    assert ids.tolist() == [[1, 4, 0]]
    np.testing.assert_allclose(scores, [[0.6 + 0.8 / 3, 0.6 + 0.4 / 3, 0.4]], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_a_lone_dense_hit_is_above_what_the_dense_list_lacks(alpha):
    lone, words = run([(0.7, 2), NONE]), run([(3.0, 1), (3.0, 2)])
    scores, ids = weighted(lone, words, k=2, alpha=alpha)
    assert ids.tolist() == [[2, 1]]
    np.testing.assert_allclose(scores, [[1.0, 1 - alpha]], atol=1e-6)


@pytest.mark.parametrize("best", [0.5, -0.25])
@pytest.mark.parametrize("average", [None, np.array([0.5])])
def test_rows_that_are_all_alike_count_one_and_keep_their_order(best, average):
    dense = run([(best, 4), (best, 2), (best, 9)])
    scores, ids = weighted(dense, run([NONE]), k=3, alpha=1, average=average)
    assert ids.tolist() == [[4, 2, 9]]
    np.testing.assert_allclose(scores, [[1.0, 1.0, 1.0]], atol=1e-6)


def test_negative_scores_keep_their_order_and_unlisted_rows_are_below():
    dense = run([(-0.1, 3), (-0.2, 7), (-0.9, 1)])
    for average in (None, np.array([-0.5]), np.array([-0.1])):
        scores, ids = weighted(dense, run([(2.0, 5), NONE, NONE]), k=9, alpha=0.9, average=average)
        assert ids[0, 0] == 3
        assert [i for i in ids[0] if i != 5] == [3, 7, 1]
        assert weighted(dense, run([(2.0, 5), NONE, NONE]), k=9, alpha=1, average=average)[1].tolist() == [[3, 7, 1, 5]]
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("seed", range(5))
def test_alpha_at_its_ends_is_the_order_of_one_list_exactly(seed):
    """Ties, negative scores, lists that end early or hold nothing; what only the other list holds comes behind."""
    rng = np.random.default_rng(seed)

    def ranking(least):
        ids = np.stack([rng.permutation(40)[:12] for _ in range(30)])
        scores = -np.sort(-rng.choice([0.1, 0.2, 0.30000001, 0.3, 0.9, 5.0], ids.shape) - least, axis=1)
        ended = np.arange(12) >= rng.integers(0, 13, (30, 1))
        return np.where(ended, -np.inf, scores).astype(np.float32), np.where(ended, -1, ids)

    dense, lexical = ranking(-0.4), ranking(0.05)
    for alpha, first, second in ((1, dense, lexical), (0, lexical, dense)):
        found = weighted(dense, lexical, k=99, alpha=alpha, average=rng.normal(0, 0.2, 30))[1]
        for own, others, ids in zip(first[1], second[1], found):
            own, others = own[own >= 0].tolist(), others[others >= 0].tolist()
            assert ids[ids >= 0].tolist() == own + [i for i in others if i not in own]


@pytest.mark.parametrize("alpha", [0, 0.4, 1])
def test_a_query_without_lexical_hits_has_its_dense_order(alpha):
    dense, lexical = run([(3.0, 4), (1.0, 6)], [(1.0, 2), (0.0, 3)]), run([NONE, NONE], [(1.0, 3), (0.5, 2)])
    assert weighted(dense, lexical, k=2, alpha=alpha)[1][0].tolist() == [4, 6]


def test_the_order_does_not_depend_on_where_cosines_lie():
    """Encoders whose cosines are all near 0.9 are mixed as others are."""
    rng = np.random.default_rng(0)
    cosines, words = rng.normal(0, 0.2, (20, 50)), rng.exponential(1, (20, 50))
    order = [np.argsort(-x, axis=1) for x in (cosines, words)]
    lists = [(np.take_along_axis(x, at, 1).astype(np.float32), at) for x, at in zip((cosines, words), order)]
    narrow = (0.9 + 0.01 * lists[0][0], lists[0][1])
    plain = weighted(*lists, k=50, alpha=0.5, average=cosines.mean(1))
    again = weighted(narrow, lists[1], k=50, alpha=0.5, average=0.9 + 0.01 * cosines.mean(1))
    np.testing.assert_array_equal(plain[1], again[1])
    np.testing.assert_allclose(plain[0], again[0], atol=1e-4)


def test_a_ranking_is_extended_by_what_it_lacks():
    scores, ids = extended(
        run([(0.9, 3), (0.5, 1)], [(0.4, 0), NONE]),
        np.array([[1, 7, -1], [5, 0, 6]]),
        np.array([[0.8, 0.6, 0.9], [0.1, 0.2, 0.3]]),
    )
    assert ids.tolist() == [[3, 1, -1, 7, -1], [0, -1, 5, -1, 6]]
    # 7 is behind 1, so it cannot have more; what is there already keeps its score.
    np.testing.assert_allclose(scores, [[0.9, 0.5, -np.inf, 0.5, -np.inf], [0.4, -np.inf, 0.1, -np.inf, 0.3]])


# --- the rest ------------------------------------------------------------------------------------------------------


def test_queries_with_fewer_results_are_filled_up():
    scores, ids = reciprocal_rank([run([(1.0, 1), (0.5, 2)], [NONE, NONE])], k=2)
    assert ids.tolist() == [[1, 2], [-1, -1]]
    assert np.isneginf(scores[1]).all()
    scores, ids = weighted(run([(1.0, 1), (0.5, 2)], [NONE, NONE]), run([NONE], [NONE]), k=2)
    assert ids.tolist() == [[1, 2], [-1, -1]]
    assert np.isneginf(scores[1]).all()


def test_a_share_comes_back_from_json():
    share = Share(0.3, "learned on 40 pairs", {"metric": "ndcg@10", "queries": 40})
    assert Share.from_json(share.to_json(), where="x.json") == share
    for wrong in (None, [], {"alpha": 0.3}, {"alpha": "0.3", "source": "s"}, {"alpha": 1.5, "source": "s"},
                  {"alpha": float("nan"), "source": "s"}, {"alpha": True, "source": "s"},
                  {"alpha": 0.5, "source": "s", "figures": 3}):  # fmt: skip
        with pytest.raises(ConfigError, match=r"x\.json holds .*; expected an object with alpha"):
            Share.from_json(wrong, where="x.json")


def test_bad_input_is_named():
    a, b = run([(1.0, 0)]), run([(1.0, 0)], [(1.0, 0)])
    with pytest.raises(DataError, match="1, 2 queries"):
        reciprocal_rank([a, b], k=1)
    with pytest.raises(DataError, match="1, 2 queries"):
        weighted(a, b, k=1)
    for alpha in (2, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=f"alpha is {alpha}"):
            weighted(a, a, k=1, alpha=alpha)
    with pytest.raises(ConfigError, match="k is 0"):
        weighted(a, a, k=0)
    with pytest.raises(ConfigError, match="1 weights were given for 2"):
        reciprocal_rank([a, a], k=1, weights=[1.0])
