import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.search.ann import Ann, recall
from counterpoint.search.exact import top_k


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).standard_normal((2_000, 24), dtype=np.float32)


@pytest.mark.parametrize(("dtype", "least"), [("f32", 0.95), ("f16", 0.95), ("i8", 0.85)])
def test_finds_most_of_the_exact_neighbours(vectors, dtype, least):
    index = Ann(vectors, dtype=dtype, threads=1)
    truth, ids = top_k(vectors[:50], vectors, 10, metric="cosine")
    scores, found = index.search(vectors[:50], 10, expansion=128, threads=1)
    assert recall(found, ids) >= least
    np.testing.assert_allclose(scores[:, 0], truth[:, 0], atol=0.03)


def test_saved_and_viewed_it_answers_the_same(vectors, tmp_path):
    index = Ann(vectors[:300], threads=1)
    index.save(tmp_path / "a.usearch")
    for view in (True, False):
        again = Ann.load(tmp_path / "a.usearch", view=view)
        assert (len(again), again.dim) == (300, 24)
        np.testing.assert_array_equal(again.search(vectors[:4], 7)[1], index.search(vectors[:4], 7)[1])


def test_one_query_and_k_beyond_the_index(vectors):
    scores, ids = Ann(vectors[:3], threads=1).search(vectors[:1], 10)
    assert ids.shape == scores.shape == (1, 3)
    assert sorted(ids[0]) == [0, 1, 2]


def test_recall_by_hand():
    assert recall(np.array([[1, 2, -1]]), np.array([[2, 3, 4]])) == pytest.approx(1 / 3)
    assert recall(np.array([[1, 2], [5, 6]]), np.array([[2, 1], [5, -1]])) == 1.0


def test_bad_input_is_named(vectors, tmp_path):
    broken = vectors[:5].copy()
    broken[2, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        Ann(broken)
    with pytest.raises(DataError, match="at least one row"):
        Ann(vectors[:0])
    with pytest.raises(ConfigError, match="'f64'"):
        Ann(vectors, dtype="f64")
    with pytest.raises(DataError, match="width 24"):
        Ann(vectors[:5], threads=1).search(np.ones((1, 3), np.float32), 1)
    (tmp_path / "bad").write_bytes(b"hello")
    with pytest.raises(ModelError, match="not an approximate index"):
        Ann.load(tmp_path / "bad")
    with pytest.raises(ModelError, match="is not an approximate index"):
        Ann.load(tmp_path / "absent")
