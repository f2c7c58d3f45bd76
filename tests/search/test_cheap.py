"""Indexes of cheap vectors: what is kept, what is searched, what the best are scored again by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from counterpoint.errors import ConfigError, ModelError
from counterpoint.search.exact import INT8_SCALE, top_k
from counterpoint.search.index import Index
from tests.search.encoders import Counts

ROWS = [{"n": i} for i in range(300)]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def queries(vectors: np.ndarray) -> np.ndarray:
    x = vectors[:20] + 0.1 * np.random.default_rng(1).standard_normal((20, 40)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def build(folder: Path, vectors: np.ndarray, **settings: object) -> Index:
    return Index.build(folder / "i", ROWS, embeddings=vectors, text=None, **settings)  # type: ignore[arg-type]


def test_binary_is_scored_again_by_int8_unless_told_otherwise(tmp_path, vectors, queries) -> None:
    index = build(tmp_path, vectors, dtype="binary")
    assert (index.vectors.bytes, index.full.bytes, index.width) == (5, 40, 40)
    scores, ids = index.nearest(queries, 3)
    assert ids[:, 0].tolist() == list(range(20))
    found = (queries[:, None] * vectors[ids]).sum(2)
    np.testing.assert_allclose(scores, found, atol=0.01)  # cosines, not distances of signs
    alone = build(tmp_path, vectors, dtype="binary", rescore="none", overwrite=True)
    assert alone.full is None
    steps = alone.nearest(queries, 3)[0] * 20  # cosines of signs: 1 - 2 · distance / 40
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary", "ubinary"])
@pytest.mark.parametrize("dim", [None, 7])
def test_all_candidates_scored_again_by_float32_is_the_full_ranking(tmp_path, vectors, queries, dtype, dim) -> None:
    index = build(tmp_path, vectors, dtype=dtype, dim=dim, rescore="float32", oversample=1)
    np.testing.assert_array_equal(index.nearest(queries, 10, oversample=30)[1], top_k(queries, vectors, 10)[1])
    worse = (index.nearest(queries, 10)[1] != top_k(queries, vectors, 10)[1]).mean()
    assert worse > 0.05 or dtype in ("float16", "int8")  # else the test above would say nothing


def test_truncated_without_a_second_look(tmp_path, vectors, queries) -> None:
    index = build(tmp_path, vectors, dim=8)
    assert (index.dim, index.width, index.full) == (8, 40, None)
    cut = [x[:, :8] / np.linalg.norm(x[:, :8], axis=1, keepdims=True) for x in (queries, vectors)]
    np.testing.assert_array_equal(index.nearest(queries, 5)[1], top_k(*cut, 5)[1])


def test_a_graph_proposes_and_better_vectors_decide(tmp_path, vectors, queries) -> None:
    index = build(tmp_path, vectors, dtype="int8", dim=20, rescore="float32", ann=True)
    scores, ids = index.nearest(queries, 3)
    np.testing.assert_allclose(scores, (queries[:, None] * vectors[ids]).sum(2), atol=1e-6)
    assert ids[:, 0].tolist() == list(range(20))


def test_the_parts_on_disk_add_up(tmp_path, vectors) -> None:
    sizes = build(tmp_path, vectors, dtype="int8", rescore="float16").sizes()
    assert sizes["vectors"] == 300 * 40 + 2 * 40 * 4 + 2 * 128  # codes, ranges, the heads of two .npy
    assert sizes["full"] == 300 * 40 * 2 + 128
    assert sizes["all"] == sum(n for part, n in sizes.items() if part != "all")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_index_of_format_1_opens_and_ranks_as_it_did(tmp_path, vectors, queries, dtype) -> None:
    folder = build(tmp_path, vectors, dtype=dtype, rescore="none").folder
    settings = json.loads((folder / "index.json").read_text())
    for name in ("width", "rescore", "oversample"):
        del settings[name]
    settings |= {"format": 1}
    if dtype == "int8":
        old = np.rint(vectors * INT8_SCALE).astype(np.int8)
        np.save(folder / "embeddings.npy", old)
        (folder / "ranges.npy").unlink()
        del settings["files"]["ranges.npy"]
    (folder / "index.json").write_text(json.dumps(settings))
    index = Index.open(folder)
    scores, ids = index.nearest(queries, 4)
    wanted = top_k(queries, old if dtype == "int8" else vectors, 4)
    np.testing.assert_array_equal(ids, wanted[1])
    np.testing.assert_allclose(scores, wanted[0], atol=1e-6)
    assert (index.width, index.dim) == (40, 40)


def test_texts_are_found_through_signs(tmp_path) -> None:
    encoder = Counts(["read", "file", "parse", "date", "count", "words", "its", "a"])
    rows = [{"text": t} for t in ("read a file", "parse a date", "count words of a file")]
    index = Index.build(tmp_path / "i", rows, encoder=encoder, dtype="binary", dim=6)
    hits = index.search(["date"], encoder=encoder, k=2, mode="dense")[0]
    assert hits[0].id == 1
    assert hits[0].score == pytest.approx(3**-0.5, abs=0.01)
    assert index.search(["date"], encoder=encoder, k=1, mode="hybrid", oversample=1)[0][0].id == 1
    with pytest.raises(ModelError, match="width 8, this encoder makes width 2"):
        index.search(["x"], encoder=Counts(["a", "b"]), mode="dense")


def test_bad_settings_are_named(tmp_path, vectors) -> None:
    with pytest.raises(ConfigError, match="41 dimensions were asked of vectors that have 40"):
        build(tmp_path, vectors, dim=41)
    with pytest.raises(ConfigError, match="'int4' was asked"):
        build(tmp_path, vectors, dtype="int4")
    with pytest.raises(ConfigError, match="A graph is built of numbers"):
        build(tmp_path, vectors, dtype="binary", ann=True)
    with pytest.raises(ConfigError, match="rescore='binary'"):
        build(tmp_path, vectors, rescore="binary")
    with pytest.raises(ConfigError, match="oversample=0"):
        build(tmp_path, vectors, oversample=0)
    assert not (tmp_path / "i").exists()
    zeros = vectors.copy()
    zeros[:3] = 0
    with pytest.warns(UserWarning, match="3 of 300 embeddings are all zero"):
        index = build(tmp_path, zeros, dtype="binary")
    with pytest.raises(ConfigError, match="oversample=0"):
        index.nearest(vectors[:1], 5, oversample=0)
