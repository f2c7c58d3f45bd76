import numpy as np
import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.exact import INT8_SCALE, largest, select, top_k


def by_sorting(q, c, k):
    scores = q.astype(np.float64) @ c.astype(np.float64).T
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, ids, 1), ids


@pytest.mark.parametrize("block", [1, 7, 50, 64, 1000])
@pytest.mark.parametrize("query_block", [1, 3, 100])
@pytest.mark.parametrize("k", [1, 5, 49, 50, 80])
def test_equals_a_stable_sort_with_many_ties(block, query_block, k):
    g = np.random.default_rng(k)
    # Small whole numbers: products are exact, and most scores occur several times.
    q = g.integers(-2, 3, (8, 4)).astype(np.float32)
    c = g.integers(-2, 3, (50, 4)).astype(np.float32)
    scores, ids = top_k(q, c, k, block=block, query_block=query_block)
    want_scores, want_ids = by_sorting(q, c, k)
    assert scores.shape == ids.shape == (8, min(k, 50))
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("block", [7, 1000])
def test_a_few_queries_by_numpy_are_those_by_torch(metric, block):
    g = np.random.default_rng(1)
    q, c = g.standard_normal((5, 8)).astype(np.float32), g.standard_normal((60, 8)).astype(np.float32)
    scores, ids = top_k(q, c, 9, block=block, metric=metric)
    by_torch = top_k(torch.from_numpy(q), c, 9, block=block, metric=metric)
    np.testing.assert_array_equal(ids, by_torch[1])
    np.testing.assert_allclose(scores, by_torch[0], atol=1e-6)
    assert (scores.dtype, ids.dtype) == (np.float32, np.int64)


def test_largest_is_select():
    g = np.random.default_rng(2)
    for k in (1, 3, 20, 30):
        x = g.integers(-2, 3, (6, 20)).astype(np.float32)
        for ours, theirs in zip(largest(x, k), select(torch.from_numpy(x), k)):
            np.testing.assert_array_equal(ours, theirs.numpy())


def test_select_breaks_a_tie_across_the_border_to_the_left():
    scores = torch.tensor([[1.0, 3.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    values, columns = select(scores, 2)
    assert columns.tolist() == [[1, 0], [0, 1]]
    assert values.tolist() == [[3.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize("kind", ["memmap", "tensor", "float16"])
def test_reads_files_tensors_and_halves(tmp_path, kind):
    g = np.random.default_rng(0)
    q, c = g.integers(-3, 4, (5, 6)).astype(np.float32), g.integers(-3, 4, (40, 6)).astype(np.float32)
    if kind == "memmap":
        np.save(tmp_path / "c.npy", c)
        corpus = np.load(tmp_path / "c.npy", mmap_mode="r")
    else:
        corpus = torch.from_numpy(c) if kind == "tensor" else c.astype(np.float16)
    np.testing.assert_array_equal(top_k(q, corpus, 4, block=9)[1], by_sorting(q, c, 4)[1])


def test_int8_scores_are_those_of_the_rounded_vectors():
    g = np.random.default_rng(0)
    c = g.standard_normal((30, 16))
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    q = c[:3].astype(np.float32)
    scores, ids = top_k(q, np.rint(c * INT8_SCALE).astype(np.int8), 1)
    assert ids[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=0.02)


def test_cosine_ignores_length():
    q = np.array([[1.0, 0.0]], np.float32)
    c = np.array([[100.0, 100.0], [0.1, 0.0]], np.float32)
    assert top_k(q, c, 1)[1].item() == 0
    scores, ids = top_k(q, c, 2, metric="cosine")
    assert ids.tolist() == [[1, 0]]
    np.testing.assert_allclose(scores, [[1.0, 0.5**0.5]], rtol=1e-6)


def test_bad_input_is_named():
    q, c = np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)
    with pytest.raises(ConfigError, match="at least 1"):
        top_k(q, c, 0)
    with pytest.raises(DataError, match="same D"):
        top_k(q, np.ones((5, 4), np.float32), 1)
    broken = c.copy()
    broken[4] = np.nan
    with pytest.raises(DataError, match="1 of the corpus embeddings 4 to 5"):
        top_k(q, broken, 1, block=2)
    with pytest.raises(DataError, match="1 query embeddings are not finite"):
        top_k(np.array([[np.nan, 0, 0], [1, 0, 0]], np.float32), c, 1)


def test_no_queries_and_one_query():
    c = np.eye(3, dtype=np.float32)
    assert top_k(np.zeros((0, 3), np.float32), c, 2)[1].shape == (0, 2)
    assert top_k(c[2:], c, 1)[1].tolist() == [[2]]
