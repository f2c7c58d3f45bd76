import json
import math

import bm25s
import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.search.bm25 import BM25

DOCS = ["the cat sat", "the dog sat on the mat", "a bird", "cat cat dog"]


def score(query, doc, k1=1.5, b=0.75):
    docs = [d.split() for d in DOCS]
    mean = sum(map(len, docs)) / len(docs)
    total = 0.0
    for term in query.split():
        tf, df = docs[doc].count(term), sum(term in d for d in docs)
        if tf:
            idf = math.log(1 + (len(docs) - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + k1 * (1 - b + b * len(docs[doc]) / mean))
    return total


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (1.2, 0.0)])
def test_scores_are_the_formula(k1, b):
    queries = ["cat", "the dog dog", "nothing here", "bird cat"]
    want = [[score(q, d, k1, b) for d in range(len(DOCS))] for q in queries]
    np.testing.assert_allclose(BM25(DOCS, k1=k1, b=b).scores(queries), want, rtol=1e-5)


def test_ranks_as_bm25s_itself_does():
    g = np.random.default_rng(0)
    docs = [[f"w{i}" for i in g.zipf(1.3, 30) % 200] for _ in range(60)]
    queries = [[f"w{i}" for i in g.integers(0, 200, 5)] for _ in range(10)]
    theirs = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    theirs.index(docs, show_progress=False)
    ours = BM25([" ".join(d) for d in docs]).scores([" ".join(q) for q in queries])
    np.testing.assert_allclose(ours, [theirs.get_scores(q) for q in queries], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [1, 2, 100])
def test_search_orders_and_leaves_strangers_out(block):
    scores, ids = BM25(DOCS).search(["cat", "zebra", "the sat"], 3, block=block)
    assert score("the sat", 0) > score("the sat", 1)
    assert ids.tolist() == [[3, 0, -1], [-1, -1, -1], [0, 1, -1]]
    assert np.isneginf(scores[1]).all()
    assert scores[0, 0] == pytest.approx(score("cat", 3), rel=1e-5)


def test_equal_scores_by_id_and_k_beyond_the_corpus():
    scores, ids = BM25(["x y", "x z", "x y"]).search(["x"], 10)
    assert ids.tolist() == [[0, 1, 2]]
    assert scores[0, 0] == scores[0, 2]


def test_code_tokenizer_meets_a_question_half_way():
    bodies = ["def f(): return parseISODate(x)", "def g(): return openFile(name)"]
    assert BM25(bodies, tokenizer="code").search(["parse a date"], 1)[1].tolist() == [[0]]
    assert BM25(bodies).search(["parse a date"], 1)[1].tolist() == [[-1]]


def test_save_and_load_give_the_same_search(tmp_path):
    index = BM25(DOCS, tokenizer="code", k1=1.1)
    index.save(tmp_path / "i")
    again = BM25.load(tmp_path / "i")
    for a, b in zip(index.search(["cat dog", "the"], 4), again.search(["cat dog", "the"], 4)):
        np.testing.assert_array_equal(a, b)
    assert (again.tokenizer, again.k1, len(again)) == ("code", 1.1, 4)
    assert {p.suffix for p in (tmp_path / "i").iterdir()} == {".npy", ".json"}


def test_a_pickled_array_is_refused(tmp_path):
    BM25(DOCS).save(tmp_path)
    np.save(tmp_path / "data.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="complete BM25 index"):
        BM25.load(tmp_path)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(DataError, match="None of the 2 texts holds a word"):
        BM25(["", "!!"])
    with pytest.raises(ConfigError, match="no tokenizer 'subword'"):
        BM25(DOCS, tokenizer="subword")
    with pytest.raises(ConfigError, match="cannot be saved"):
        BM25(DOCS, tokenizer=str.split).save(tmp_path)
    with pytest.raises(ConfigError, match="at least 1"):
        BM25(DOCS).search(["cat"], 0)
    (tmp_path / "bm25.json").write_text(json.dumps({"tokenizer": "words"}))
    with pytest.raises(ModelError, match="complete BM25 index"):
        BM25.load(tmp_path)
