import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.retrieval import Judgements, measure


def test_graded_by_hand():
    # Ranked 4, 7, 1, 9; judged 4: 1, 1: 3, 2: 2 (never found), 9: 0 (looked at, not relevant).
    found = measure(
        np.array([[4, 7, 1, 9]]),
        [{4: 1.0, 1: 3.0, 2: 2.0, 9: 0.0}],
        metrics=["ndcg@10", "ndcg@2", "mrr@10", "recall@1", "recall@3", "map"],
    ).values
    dcg, best = 1 / 1 + 3 / 2, 3 / 1 + 2 / math.log2(3) + 1 / 2
    assert found["ndcg@10"][0] == pytest.approx(dcg / best)
    assert found["ndcg@2"][0] == pytest.approx(1 / (3 + 2 / math.log2(3)))
    assert found["mrr@10"][0] == 1.0
    assert found["recall@1"][0] == pytest.approx(1 / 3)
    assert found["recall@3"][0] == pytest.approx(2 / 3)
    assert found["map"][0] == pytest.approx((1 / 1 + 2 / 3) / 3)


def test_the_first_relevant_place_decides_mrr():
    ids = np.array([[5, 6, 7], [5, 6, 7], [5, -1, -1]])
    found = measure(ids, [{7: 1}, {9: 1}, {5: 1}], metrics=["mrr@10", "mrr@2"]).values
    np.testing.assert_allclose(found["mrr@10"], [1 / 3, 0, 1])
    np.testing.assert_allclose(found["mrr@2"], [0, 0, 1])


@pytest.mark.parametrize("k", [1, 3, 10, 25])
def test_ndcg_equals_scikit_learns(k):
    g = np.random.default_rng(k)
    gains, scores = g.integers(0, 4, (20, 25)).astype(float), g.standard_normal((20, 25))
    gains[:, 0] = 1  # at least one relevant document for each query
    ids = np.argsort(-scores, axis=1)
    judged = [dict(enumerate(row)) for row in gains]
    ours = measure(ids, judged, metrics=[f"ndcg@{k}"]).values[f"ndcg@{k}"]
    theirs = [ndcg_score(gains[i : i + 1], scores[i : i + 1], k=k) for i in range(20)]
    np.testing.assert_allclose(ours, theirs)


def test_map_equals_scikit_learns():
    g = np.random.default_rng(0)
    relevant, scores = g.integers(0, 2, (20, 30)), g.standard_normal((20, 30))
    relevant[:, 3] = 1
    judged = [{d: float(x) for d, x in enumerate(row)} for row in relevant]
    ours = measure(np.argsort(-scores, axis=1), judged, metrics=["map"]).values["map"]
    np.testing.assert_allclose(ours, [average_precision_score(r, s) for r, s in zip(relevant, scores)])


def test_queries_without_relevant_documents_are_left_out_and_counted():
    found = measure(np.array([[0, 1], [0, 1], [1, 0]]), [{0: 1}, {}, {0: 1, 1: -2.0}], metrics=["mrr@10"])
    assert found.skipped == 1
    assert found.kept.tolist() == [0, 2]
    np.testing.assert_allclose(found.values["mrr@10"], [1.0, 0.5])


def test_documents_that_no_one_ranked_and_ids_beyond_the_judged():
    found = measure(np.array([[1000, 2]]), [{2: 1.0, 5: 1.0}], metrics=["recall@10", "ndcg@1"]).values
    assert found["recall@10"][0] == 0.5
    assert found["ndcg@1"][0] == 0.0


def test_ideal_is_sorted_and_cut():
    judged = Judgements([{3: 1.0, 1: 2.0, 8: 5.0}, {}, {0: 4.0}])
    assert judged.ideal(2).tolist() == [[5.0, 2.0], [0.0, 0.0], [4.0, 0.0]]
    assert judged.relevant.tolist() == [3, 0, 1]


def test_batch_of_one_and_empty_rankings():
    assert measure(np.full((1, 3), -1), [{0: 1}]).values["ndcg@10"].tolist() == [0.0]
    found = measure(np.zeros((1, 0), np.int64), [{0: 1}])
    assert all(x.tolist() == [0.0] for x in found.values.values())


def test_bad_input_is_named():
    with pytest.raises(DataError, match="None of the 2 queries has a relevant document"):
        measure(np.zeros((2, 1), np.int64), [{}, {3: 0.0}])
    with pytest.raises(DataError, match="expected \\(3, K\\)"):
        measure(np.zeros((2, 1), np.int64), [{}, {}, {}])
    for name in ("ndcg", "mrr@0", "map@10", "precision@5", "recall@x"):
        with pytest.raises(ConfigError, match="no metric"):
            measure(np.zeros((1, 1), np.int64), [{0: 1}], metrics=[name])
