"""Candidates of a corpus: never the text itself, nearest first, fewer where there are fewer; and latent semantics."""

import numpy as np
import pytest

from counterpoint.search import candidates
from counterpoint.search.candidates import lookalikes, neighbours, products, strangers
from counterpoint.search.lsa import lsa

TEXTS = ["the wing of a bird", "the wing of a plane", "a bank by the river", "a bank lends money", "🎈🎈"]


def test_neighbours_are_the_nearest_others():
    z = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    z[7] = z[3]  # an equal row may stand before the row itself
    z[20] = z[3]
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    found = neighbours(z, 2)
    assert (found != np.arange(30)[:, None]).all()
    best = -np.sort(-cosine, axis=1)[:, :2]
    assert np.allclose(np.take_along_axis(cosine, found, 1), best, atol=1e-6)


def test_an_index_takes_over_where_there_are_many(monkeypatch):
    pytest.importorskip("usearch")
    z = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    exact = neighbours(z, 5)
    monkeypatch.setattr(candidates, "EXACT", 100)
    assert (neighbours(z, 5) == exact).mean() > 0.95


def test_lookalikes_share_words():
    pytest.importorskip("bm25s")
    found = lookalikes(TEXTS, 2)
    assert found[:4, 0].tolist() == [1, 0, 3, 2]
    assert found[4].tolist() == [-1, -1]  # not a word
    assert (lookalikes(["🎈", "🎉"], 3) == -1).all()


def test_a_share_of_the_rows_is_that_of_all():
    pytest.importorskip("bm25s")
    z = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    texts = [TEXTS[i % 4] + f" {i % 7}" for i in range(30)]
    whole, words = neighbours(z, 3), lookalikes(texts, 4)
    for of in (range(11), range(11, 30), range(5, 5)):
        assert np.array_equal(neighbours(z, 3, of=of), whole[of.start : of.stop])
        assert np.array_equal(lookalikes(texts, 4, of=of), words[of.start : of.stop])
        found = products(z, whole[of.start : of.stop], of=of, block=4)
        assert np.array_equal(found, products(z, whole)[of.start : of.stop])


def test_strangers_are_others_and_the_same_for_the_same_seed():
    found = strangers(50, 400, seed=1)
    assert found.shape == (50, 49)
    assert (found != np.arange(50)[:, None]).all()
    assert set(found.ravel().tolist()) == set(range(50))
    assert np.array_equal(found, strangers(50, 400, seed=1))


@pytest.mark.parametrize("n", [0, 1])
def test_a_corpus_of_one_has_no_candidates(n):
    assert neighbours(np.ones((n, 3), np.float32), 4).shape == (n, 0)
    assert lookalikes(["one text"] * n, 4).shape == (n, 0)
    assert strangers(n, 4).shape == (n, 0)


def test_products_are_of_the_pairs_named():
    z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    ids = np.array([[1, 2], [0, -1], [4, 4], [-1, -1], [0, 3]])
    found = products(z, ids, block=2)
    assert found[0, 1] == pytest.approx(float(z[0] @ z[2]), rel=1e-6)
    assert found[4, 1] == pytest.approx(float(z[4] @ z[3]), rel=1e-6)
    assert found[1, 1] == found[3, 0] == 0


def test_latent_semantics_bring_texts_of_one_subject_together():
    sea = [f"the {a} sails the {b}" for a in ("ship", "boat", "crew") for b in ("sea", "ocean", "water")]
    court = [f"a {a} asks the {b}" for a in ("judge", "lawyer", "clerk") for b in ("court", "jury", "witness")]
    z = lsa([*sea, *court, "🎈"], dim=2)
    assert z.shape == (19, 2)
    cosine = z @ z.T
    assert cosine[:9, :9].min() > cosine[:9, 9:18].max()
    assert np.allclose(np.linalg.norm(z[:18], axis=1), 1, atol=1e-5)
    assert (z[18] == 0).all()
    assert np.array_equal(z, lsa([*sea, *court, "🎈"], dim=2))
    assert lsa(["🎈"], dim=2).shape == (1, 1)
