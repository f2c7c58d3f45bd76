import io
import json
import os

import numpy as np
import pytest
import torch
from rich.console import Console

from counterpoint.data.sets.beir import Retrieval
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate import evaluate
from counterpoint.evaluate.tasks import split
from tests.search.encoders import Counts

VOCABULARY = ["red", "blue", "cat", "dog", "sun", "sea"]


@pytest.fixture
def encoder():
    return Counts(VOCABULARY)


def test_retrieval_beside_bm25(encoder):
    data = Retrieval(
        corpus={"x": "cat cat sun", "y": "dog sea", "z": "red dog"},
        queries={"1": "dog sea sea", "2": "red"},
        qrels={"1": {"y": 2.0, "z": 1.0}, "2": {"x": 1.0}},
    )
    found = evaluate(encoder, data, draws=50)
    assert found.task == "retrieval"
    assert found.counts == {"queries": 2, "documents": 3}
    # Query 1: y, z, x, as judged. Query 2: z first, then x and y, equal, by their order.
    assert found["mrr@10"].value.value == pytest.approx((1 + 1 / 2) / 2)
    assert found["recall@100"].value.value == 1.0
    assert set(found["ndcg@10"].baselines) == {"bm25"}
    # BM25 does not return x for "red" at all.
    assert found["mrr@10"].baselines["bm25"].value.value == pytest.approx(0.5)
    assert found["mrr@10"].baselines["bm25"].difference.value == pytest.approx(0.25)


def test_a_query_that_is_a_document_is_no_answer_to_itself(encoder):
    texts = {"a": "cat", "b": "cat sun", "c": "dog"}
    data = Retrieval(corpus=texts, queries={"a": "cat"}, qrels={"a": {"a": 1.0, "b": 1.0}})
    found = evaluate(encoder, data, exclude_self=True, draws=10)
    assert found["mrr@10"].value.value == 1.0
    assert found["map"].value.value == 1.0
    assert found["mrr@10"].baselines["bm25"].value.value == 1.0
    self_found = evaluate(encoder, data, baselines=[], draws=10)
    assert self_found["recall@10"].value.value == 1.0


def test_pairs_share_equal_texts(encoder):
    rows = [
        {"anchor": "cat", "positive": "cat sun", "negatives": [], "row": 0},
        {"anchor": "dog", "positive": "dog sea", "negatives": [], "row": 1},
        {"anchor": "cat", "positive": "cat red", "negatives": [], "row": 2},
        {"anchor": "sea", "positive": "dog sea", "negatives": [], "row": 3},
    ]
    found = evaluate(encoder, rows, baselines=["random ranking", "hashed n-grams", "random encoder"], draws=20)
    assert found.counts == {"queries": 3, "documents": 3}
    assert found["map"].value.value == 1.0
    assert list(found["map"].baselines) == ["random ranking", "hashed n-grams", "random encoder"]
    assert found.geometry["alignment"] == pytest.approx(2 - 2 * 0.5**0.5, abs=1e-5)


def test_scored_rows_are_similarity(encoder):
    rows = [
        {"a": "cat", "b": "cat", "score": 5.0},
        {"a": "cat dog", "b": "cat", "score": 3.0},
        {"a": "cat dog sun sea", "b": "cat", "score": 2.0},
        {"a": "cat", "b": "dog", "score": 0.0},
    ]
    found = evaluate(encoder, rows, draws=50)
    assert found.task == "similarity"
    assert found["spearman"].value.value == pytest.approx(1.0)
    assert set(found["pearson"].baselines) == {"hashed n-grams", "random encoder"}


def test_scores_of_0_and_1_are_pair_classification(encoder):
    rows = [{"a": "cat", "b": t, "score": float(s)} for t, s in (("cat", 1), ("cat dog", 1), ("dog", 0), ("sea", 0))]
    found = evaluate(encoder, rows, baselines=["hashed n-grams"], draws=50)
    assert found.task == "pair classification"
    assert found["average precision"].value.value == 1.0
    assert found["best accuracy"].value.value == 1.0
    assert any("threshold" in note for note in found.notes)


def labelled(n):
    kinds = (["cat dog", "dog dog cat", "cat"], ["sun sea", "sea sea sun", "sun"], ["red", "blue red", "blue blue"])
    return [{"text": kinds[i % 3][(i // 3) % 3], "label": i % 3, "row": i} for i in range(n)]


def test_labelled_rows_are_classified(encoder):
    found = evaluate(encoder, labelled(18), train=labelled(30), k=3, draws=50)
    assert found["kNN accuracy"].value.value == 1.0
    assert found["probe accuracy"].value.value == 1.0
    assert found["kNN accuracy"].baselines["majority"].value.value == pytest.approx(1 / 3)
    assert found["kNN accuracy"].baselines["majority"].difference.low > 0
    assert "majority" not in found["nmi"].baselines
    assert found.counts == {"training rows": 30, "test rows": 18, "classes": 3}
    assert any("18 of 18 test texts are training texts too" in note for note in found.notes)


def test_class_numbers_may_have_gaps(encoder):
    names = {0: -1, 1: 5, 2: 1_000_000_000}
    test, train = ([{**r, "label": names[r["label"]]} for r in labelled(n)] for n in (18, 30))
    found = evaluate(encoder, test, train=train, k=3, draws=10)
    assert found["kNN accuracy"].value.value == 1.0
    assert found["ari"].value.value == evaluate(encoder, labelled(18), train=labelled(30), draws=10)["ari"].value.value


def test_labelled_rows_are_split_by_class_when_no_training_rows_are_given(encoder):
    rows = [*labelled(30), {"text": "sea", "label": 7, "row": 30}]
    train, test = split(rows, share=0.3)
    assert sorted(r["row"] for r in train + test) == list(range(31))
    assert [sum(r["label"] == c for r in test) for c in (0, 1, 2, 7)] == [3, 3, 3, 0]
    found = evaluate(encoder, rows, baselines=["majority"], draws=10, k=3)
    assert found.counts["test rows"] == 9
    assert any("70 %" in note for note in found.notes)


def test_two_modalities_both_ways():
    left, right = Counts(VOCABULARY), Counts(VOCABULARY)
    right.modality = "image"
    rows = [{"text": w, "image": w, "row": i} for i, w in enumerate(VOCABULARY)]
    rows.append({"text": "sea", "image": None, "row": 6})
    found = evaluate({"text": left, "image": right}, rows, draws=20)
    assert found["text → image: recall@10"].value.value == 1.0
    assert found["image → text: mrr@10"].value.value == 1.0
    assert found["image → text: mrr@10"].baselines["random ranking"].value.value < 1
    assert any("1 of 7 rows" in note for note in found.notes)
    with pytest.raises(DataError, match="encoders for text"):
        evaluate({"text": left}, rows)
    with pytest.raises(ConfigError, match="mapping"):
        evaluate(left, rows)


def test_json_and_table_hold_the_figures(encoder):
    rows = [{"a": "cat", "b": "cat dog"[: 3 + i], "score": float(i)} for i in range(5)]
    found = evaluate(encoder, rows, draws=20)
    held = json.loads(json.dumps(found.to_json(), allow_nan=False))
    figure = held["figures"][0]
    assert figure["metric"] == "spearman"
    assert figure["value"] == pytest.approx(found["spearman"].value.value)
    assert set(figure["baselines"]["random encoder"]) == {"value", "ci95", "difference"}
    console = Console(file=io.StringIO(), width=80)
    console.print(found.table(name="mine"))
    text = console.file.getvalue()
    assert str(found["pearson"].value) in text
    assert "hashed" in text
    assert "5 pairs" in text


def test_one_seed_one_result(encoder):
    first, again = (evaluate(encoder, labelled(18), draws=30, seed=3).to_json() for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def test_a_broken_encoder_is_named(encoder):
    with torch.no_grad():
        encoder.weight[:] = float("nan")
    rows = [{"anchor": "cat", "positive": "cat sun"}]
    with pytest.raises(DataError, match="not finite"):
        evaluate(encoder, rows)


def test_bad_input_is_named(encoder):
    with pytest.raises(DataError, match="no rows"):
        evaluate(encoder, [])
    with pytest.raises(DataError, match="hold nothing to measure against"):
        evaluate(encoder, [{"text": "cat", "row": 0}])
    with pytest.raises(ConfigError, match="no baseline 'majority' for scored data"):
        evaluate(encoder, [{"a": "x", "b": "y", "score": 1.0}], baselines=["majority"])
    encoder.modality = "image"
    with pytest.raises(ConfigError, match="reads text"):
        evaluate(encoder, [{"anchor": "x", "positive": "y"}], baselines=["bm25"])


@pytest.mark.parametrize(("name", "least"), [("cranfield", 0.45), ("cisi", 0.30), ("npl", 0.33)])
def test_bm25_on_classic_collections(name, least):
    if "COUNTERPOINT_DATA" not in os.environ:
        pytest.skip("COUNTERPOINT_DATA is not set: the folder of shared data sets")
    from counterpoint.data.sets.beir import read_beir

    data = read_beir(os.path.join(os.environ["COUNTERPOINT_DATA"], "retrieval", name))
    found = evaluate(Counts(["the", "of"]), data, draws=100)["ndcg@10"].baselines["bm25"]
    assert least < found.value.value < least + 0.12
    assert found.value.low < found.value.value < found.value.high
    assert found.difference.value < 0
    assert np.isfinite(found.difference.low)
