from __future__ import annotations

import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.exact import top_k
from counterpoint.search.quantise import (
    Vectors,
    blank,
    hamming,
    hamming_top_k,
    quantised,
    ranges_of,
    restored,
    truncated,
)


def unit(n: int, dim: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_signs_are_packed_first_dimension_first_and_filled_with_zeros() -> None:
    x = np.array([[0.5, -0.1, 0.0, 2.0, -1.0, -1.0, 0.1, 0.1, 3.0]])
    np.testing.assert_array_equal(quantised(x, "ubinary"), [[0b10010011, 0b10000000]])
    np.testing.assert_array_equal(quantised(x, "binary"), [[0b10010011 - 128, 0]])
    back = restored(quantised(x, "binary"), "binary", 9)
    np.testing.assert_allclose(back, np.where(x > 0, 1, -1) / 3)
    np.testing.assert_array_equal(back, restored(quantised(x, "ubinary"), "ubinary", 9))


def test_codes_are_those_of_sentence_transformers() -> None:
    theirs = pytest.importorskip("sentence_transformers").quantize_embeddings
    x = unit(50, 40)
    for dtype in ("binary", "ubinary"):
        np.testing.assert_array_equal(quantised(x, dtype), theirs(x, dtype))
    # They take the step below, we the nearest one: at most one apart.
    apart = quantised(x, "int8", ranges_of(x)).astype(int) - theirs(x, "int8", ranges=ranges_of(x)).astype(int)
    assert set(np.unique(apart)) == {0, 1}


@pytest.mark.parametrize("dim", [1, 7, 8, 63, 64, 65, 130])
def test_hamming_distance_is_the_number_of_signs_that_differ(dim: int) -> None:
    q, c = unit(5, dim, 1), unit(9, dim, 2)
    by_hand = ((q > 0)[:, None] != (c > 0)[None]).sum(axis=2)
    for dtype in ("binary", "ubinary"):
        np.testing.assert_array_equal(hamming(quantised(q, dtype), quantised(c, dtype)), by_hand)


def test_hamming_by_hand_and_ties_by_id() -> None:
    codes = np.array([[0b00001111], [0b11110000], [0b00001110], [0b00001111]], dtype=np.uint8)
    distance, ids = hamming_top_k(np.array([[0b00001111]], dtype=np.uint8), codes, 9, block=2)
    assert (distance.tolist(), ids.tolist()) == ([[0, 0, 1, 8]], [[0, 3, 2, 1]])


@pytest.mark.parametrize(("block", "query_block"), [(7, 3), (100, 64), (1, 1)])
def test_blocks_do_not_change_the_ranking(block: int, query_block: int) -> None:
    q, c = (quantised(unit(n, 20, n), "ubinary") for n in (10, 90))
    every = hamming(q, c)
    order = np.lexsort((np.broadcast_to(np.arange(90), every.shape), every), axis=1)[:, :11]
    distance, ids = hamming_top_k(q, c, 11, block=block, query_block=query_block)
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(distance, np.take_along_axis(every, order, 1))


def test_int8_is_within_half_a_step_and_exact_at_the_ends() -> None:
    x = unit(200, 16)
    ranges = ranges_of(x)
    back = restored(quantised(x, "int8", ranges), "int8", 16, ranges)
    half = (ranges[1] - ranges[0]) / 255 / 2
    assert (np.abs(back - x) <= half * (1 + 1e-4)).all()
    for column in range(16):
        for end in (x[:, column].argmin(), x[:, column].argmax()):
            assert back[end, column] == pytest.approx(x[end, column], abs=1e-6)
    assert quantised(x, "int8", ranges).min() == -128
    assert quantised(x, "int8", ranges).max() == 127


def test_what_lies_beyond_the_range_is_cut_off() -> None:
    ranges = np.array([[-1.0], [1.0]], dtype=np.float32)
    np.testing.assert_array_equal(quantised(np.array([[-9.0], [9.0]]), "int8", ranges), [[-128], [127]])


def test_a_constant_dimension_comes_back_as_it_was() -> None:
    x = np.array([[0.25, 1.0], [0.25, -1.0]], dtype=np.float32)
    kept = Vectors.of(x, "int8")
    np.testing.assert_allclose(kept.floats(slice(None)), x, atol=1e-6)
    np.testing.assert_allclose(kept.nearest(np.array([[1.0, 0.0]], dtype=np.float32), 2)[0], [[0.25, 0.25]], atol=1e-6)


def test_a_truncated_vector_is_the_slice_at_unit_length() -> None:
    x = unit(6, 12)
    sliced = x[:, :5] / np.linalg.norm(x[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(truncated(x, 5), sliced, rtol=1e-6)
    kept = Vectors.of(x, "float32", dim=5)
    np.testing.assert_allclose(kept.floats(slice(None)), sliced, rtol=1e-6)
    assert (kept.dim, kept.bytes) == (5, 20)
    with pytest.raises(ConfigError, match="13 dimensions were asked of vectors that have 12"):
        truncated(x, 13)
    with pytest.raises(ConfigError, match="0 dimensions"):
        truncated(x, 0)


def test_zero_vectors_stay_finite() -> None:
    x = np.zeros((2, 12), dtype=np.float32)
    assert (truncated(x, 4) == 0).all()
    assert blank(x) == 2
    for dtype in ("float16", "int8", "binary"):
        scores, ids = Vectors.of(x, dtype).nearest(unit(1, 12), 2)
        assert np.isfinite(scores).all()
        assert ids.tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary", "ubinary"])
def test_the_score_is_the_product_with_what_the_codes_stand_for(dtype: str) -> None:
    q, kept = unit(4, 24, 1), Vectors.of(unit(60, 24, 2), dtype)
    asked = restored(quantised(q, dtype), dtype, 24) if "binary" in dtype else q
    scores, ids = top_k(asked, kept.floats(slice(None)), 60)
    found = kept.nearest(q, 60)
    np.testing.assert_allclose(found[0], scores, atol=1e-5)
    if "binary" not in dtype:  # signs have ties, which the product of floats may order otherwise
        np.testing.assert_array_equal(found[1], ids)


def test_bytes_of_a_vector() -> None:
    x = unit(3, 100)
    held = {dtype: Vectors.of(x, dtype).bytes for dtype in ("float32", "float16", "int8", "binary", "ubinary")}
    assert held == {"float32": 400, "float16": 200, "int8": 100, "binary": 13, "ubinary": 13}


@pytest.mark.parametrize("cheap", ["binary", "int8", "float16"])
def test_scoring_all_candidates_again_is_the_full_ranking(cheap: str) -> None:
    q, c = unit(8, 32, 1), unit(150, 32, 2)
    full = Vectors.of(c)
    ids = Vectors.of(c, cheap, dim=9).nearest(truncated(q, 9), 150)[1]
    scores, found = full.rescored(q, ids, 10)
    np.testing.assert_array_equal(found, top_k(q, c, 10)[1])
    np.testing.assert_allclose(scores, top_k(q, c, 10)[0], rtol=1e-5)


def test_few_candidates_leave_the_rest_empty() -> None:
    scores, ids = Vectors.of(unit(5, 8)).rescored(unit(2, 8, 3), np.array([[3, -1, -1], [-1, -1, -1]]), 2)
    assert ids.tolist() == [[3, -1], [-1, -1]]
    assert np.isneginf(scores[ids < 0]).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="kept as float32, float16, int8, binary, ubinary; 'int4' was asked"):
        quantised(unit(2, 8), "int4")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not finite"):
        Vectors.of(np.array([[np.nan, 1.0]]), "int8")
    with pytest.raises(DataError, match="at least one"):
        ranges_of(np.zeros((0, 4)))
    with pytest.raises(DataError, match=r"need \(2, 8\)"):
        quantised(unit(2, 8), "int8", np.zeros((2, 7)))
    with pytest.raises(DataError, match="Packed signs"):
        hamming(np.zeros((1, 2), np.uint8), np.zeros((1, 3), np.uint8))
