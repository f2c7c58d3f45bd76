"""What can be drawn in a corpus: others that mean the like, others that look alike, copies that were edited."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.search.pool import Candidates, Pool, guide_of, pairs, pool_of

TEXTS = [f"{i} {i} {i}" for i in range(4)]


def words(texts):
    return [text.split() for text in texts]


def sentences(n=60, seed=0):
    """Numbers of one of three ranges: those of a range mean the like."""
    rng = np.random.default_rng(seed)
    return [" ".join(str(t) for t in 30 * (i % 3) + rng.integers(0, 30, rng.integers(4, 9))) for i in range(n)]


def made(near, far):
    """A pool of which the first text has these candidates, and the others none."""
    none = np.full((3, 3), -1)
    held = [Candidates(np.concatenate([[ids], none]), np.zeros((4, 3)), np.zeros((4, 3))) for ids in (near, far)]
    return Pool(TEXTS, {t: i for i, t in enumerate(TEXTS)}, np.eye(4), *held, 0.6, 0.4)


def first(pool, found, sign):
    """All weight on the first candidate as a positive, on the last one as a negative."""
    weights = found.there.astype(float)
    weights[:, 1 if sign > 0 else 0 :][:, : None if sign > 0 else 2] = 0
    return weights


def test_mined_candidates_are_others_and_gates_are_quantiles():
    pytest.importorskip("bm25s")
    texts = sentences()
    settings = {"neighbours": 5, "lookalikes": 4, "strangers": 3, "upper": 0.5}
    found = pool_of([*texts, texts[0] + " ", "1 2", texts[3]], "lsa", words, **settings)
    assert found.texts == [*texts, "1 2"]  # duplicates once
    n = len(found.texts)
    assert found.near.ids.shape == (n, 5)
    assert found.far.ids.shape == (n, 7)
    for c in (found.near, found.far):
        assert (c.ids != np.arange(n)[:, None]).all()
        assert not (c.ids == n - 1).any()  # two tokens: nobody's candidate
        assert (c.ids[n - 1] == -1).all()
        assert ((c.a >= 0) & (c.a <= 1) & (c.b >= 0) & (c.b <= 1)).all()
    there = found.near.there
    assert (found.near.a[there] >= found.upper).mean() == pytest.approx(0.5, abs=0.02)
    assert found.lower == pytest.approx(np.quantile(found.far.a[found.far.there], 0.5))
    assert found.upper > found.lower
    again = pool_of(found.texts, "lsa", words, **settings)
    assert np.array_equal(found.far.ids, again.far.ids)


def test_a_guide_says_what_is_near():
    pytest.importorskip("bm25s")
    angles = {"a a a a": 0.0, "b b b b": 0.1, "c c c c": 1.5, "d d d d": 1.4}

    def guide(texts):
        return np.array([[np.cos(angles[t]), np.sin(angles[t])] for t in texts], dtype=np.float32)

    found = pool_of(list(angles), guide, words, neighbours=1, lookalikes=0, strangers=0)
    assert found.near.ids[:, 0].tolist() == [1, 0, 3, 2]
    np.testing.assert_allclose(found.near.a[:, 0], np.cos(0.1), rtol=1e-5)
    assert (found.near.b == 0).all()  # not a word in common
    assert found.far.ids.shape == (4, 0)
    assert found.lower == 1  # nothing to take a quantile of


def test_guides_have_names(tmp_path):
    encoder = StaticText.from_texts(TEXTS, StaticTextConfig(dim=4)).eval()
    assert [guide_of(name, encoder) for name in ("lsa", "spelling")] == ["lsa", "spelling"]
    z = guide_of("start", encoder)(TEXTS)
    np.testing.assert_array_equal(z, encoder.encode(TEXTS, normalize=True))


def test_pairs_are_drawn_by_their_weights_and_else_a_text_is_its_own():
    pool = made([2, 1, 3], [1, 3, 2])
    found = pairs(pool, [TEXTS[0], TEXTS[1], "new"], first, np.random.default_rng(0), tokenize=words, negatives=2)
    assert found.positives == [TEXTS[2], TEXTS[1], "new"]
    assert found.ids.tolist() == [0, 1, -1]
    assert found.positive_ids.tolist() == [2, 1, -1]
    assert found.negative_ids.tolist() == [[2, 2], [-1, -1], [-1, -1]]
    assert pairs(pool, TEXTS, first, np.random.default_rng(0), tokenize=words, negatives=0).negative_ids.shape == (4, 0)


def test_an_edited_copy_means_what_its_text_means_and_looks_like_it():
    seen = {}

    def last(pool, found, sign):
        seen[sign] = found
        weights = np.zeros(found.ids.shape)
        weights[:, -1] = 1
        return weights

    edits = [lambda held, rng: held[:1], lambda held, rng: [*held[1:], "x"]]
    found = pairs(made([1, 2, 3], [1, 2, 3]), TEXTS, last, np.random.default_rng(0), tokenize=words, edits=edits)
    assert found.positives == [f"{i} {i} x" for i in range(4)]
    assert found.positive_ids.tolist() == [0, 1, 2, 3]
    copies = seen[+1]
    assert copies.ids[:, 3:].tolist() == [[i, i] for i in range(4)]
    assert (copies.a[:, 3:] == 1).all()
    # "i i i" beside "i": all of the words, two of three deleted; beside "i i x": half of the words, one replaced.
    np.testing.assert_allclose(copies.b[:, 3:], [[(1 + 1 / 3) / 2, (1 / 2 + 2 / 3) / 2]] * 4, rtol=1e-6)


def test_how_many_texts_have_what_to_draw():
    pool = made([2, 1, 3], [1, 3, 2])
    near = np.array([[0.5, 0.5, 0.0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    far = np.array([[1.0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    said = pool.coverage(near, far)
    assert "Of 4 different sentences 2 have no positive" in said
    assert "1 no negative of their own" in said
    assert "over 1.5 positives and 1.0 negatives" in said


def test_a_text_that_is_not_there_has_no_vector():
    pool = made([2, 1, 3], [1, 3, 2])
    ids = pool.find([TEXTS[3], "new"])
    assert ids.tolist() == [3, -1]
    assert torch.equal(pool.vectors(ids), torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 0]]))
    assert pool.near.of(ids).ids.tolist() == [[-1] * 3] * 2
