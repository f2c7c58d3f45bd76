import io
import json
import os

import numpy as np
import pytest
import torch
from rich.console import Console

from counterpoint.data.sets.beir import Retrieval
from counterpoint.errors import ConfigError, DataError, NotFiniteError
from counterpoint.evaluate import evaluate
from counterpoint.evaluate.intervals import Sample, mean
from counterpoint.evaluate.result import fallen_below
from counterpoint.evaluate.similarity import pearson
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
    assert list(found["ndcg@10"].baselines) == ["bm25", "random encoder"]
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


def test_pairs_that_are_no_texts_stand_beside_their_features():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 200, (20, 6, 6, 3)).astype(np.uint8)
    rows = [{"anchor": x, "positive": x + rng.integers(0, 40, x.shape).astype(np.uint8)} for x in base]

    class Nothing(Counts):
        def collate(self, items, role=None):
            return torch.tensor(rng.normal(size=(len(items), self.dim)), dtype=torch.float32)

    model = Nothing(VOCABULARY)
    model.modality = "image"
    found = evaluate(model, rows, draws=20)
    assert list(found["map"].baselines) == ["random ranking", "pixels", "random encoder"]
    assert found["map"].baselines["pixels"].value.value == 1.0
    assert "pixels" in [b.baseline for b in found.below]


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
    assert list(found["pearson"].baselines) == ["TF-IDF of words", "TF-IDF of character n-grams", "random encoder"]


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
    cheap = ["TF-IDF of words", "TF-IDF of character n-grams", "random encoder"]
    assert list(found["probe accuracy"].baselines) == ["majority", *cheap]
    assert list(found["nmi"].baselines) == cheap
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
    assert "TF-IDF of character" in text
    assert "5 pairs" in text


def test_one_seed_one_result(encoder):
    first, again = (evaluate(encoder, labelled(18), draws=30, seed=3).to_json() for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def test_a_broken_encoder_is_named(encoder):
    with torch.no_grad():
        encoder.weight[:] = float("nan")
    rows = [{"anchor": "cat", "positive": "cat sun"}]
    with pytest.raises(NotFiniteError, match=r"The text encoder .* gives embeddings with NaN"):
        evaluate(encoder, rows)
    other = Counts(VOCABULARY)
    other.modality = "image"
    rows = [{"text": w, "image": w, "row": i} for i, w in enumerate(VOCABULARY)]
    for towers in ({"text": encoder, "image": other}, {"image": other, "text": encoder}):
        with pytest.raises(NotFiniteError, match="The text encoder"):
            evaluate(towers, rows)


# --- baselines that are better --------------------------------------------------------------------------------------


def noisy(n=90, seed=0):
    """Texts whose class is one of their words, which the encoder below does not count."""
    rng = np.random.default_rng(seed)
    words = ["boat", "rose", "drum"]
    return [
        {"text": " ".join([*rng.choice(VOCABULARY, 6), words[i % 3], *rng.choice(VOCABULARY, 6)]), "label": i % 3}
        for i in range(n)
    ]


def test_a_model_below_a_cheap_baseline_is_told_so(encoder):
    found = evaluate(encoder, noisy(60, 1), train=noisy(120), draws=60)
    assert [b.baseline for b in found.below][:2] == ["TF-IDF of words", "TF-IDF of character n-grams"]
    first = found.below[0]
    assert first.value == found["probe accuracy"].baselines["TF-IDF of words"].value.value == 1.0
    assert first.model == max(found[m].value.value for m in ("kNN accuracy", "probe accuracy")) < 0.7
    assert first.difference.value == pytest.approx(first.model - first.value)
    assert first.difference.high < 0
    assert first.clear
    assert found.verdict.startswith(f"The model is below {len(found.below)} baselines. TF-IDF of words: probe accuracy")
    assert f"1.000, the model {first.model:.3f}" in found.verdict
    held = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert held["verdict"] == found.verdict
    assert held["below"][0]["baseline"] == "TF-IDF of words"


def test_a_model_above_its_baselines_has_no_verdict(encoder):
    found = evaluate(encoder, labelled(60), train=labelled(60), draws=20, baselines=["majority", "TF-IDF of words"])
    assert (found.below, found.verdict) == ((), "")
    assert found["probe accuracy"].baselines["TF-IDF of words"].difference.value == 0, "equal is not below"


def test_the_best_of_several_metrics_decides():
    """A model that is good for neighbours is not below a line for having none."""
    right, wrong, half = (mean(np.array(x, float)) for x in ([1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]))
    group = [["near", "line"]]
    assert fallen_below({"near": right, "line": wrong}, {"b": {"near": wrong, "line": half}}, group) == ()
    (found,) = fallen_below({"near": half, "line": wrong}, {"b": {"near": wrong, "line": right}}, group)
    assert (found.metric, found.model_metric, found.value, found.model) == ("line", "near", 1, 0.5)
    assert str(found).startswith("b: line 1.000, the model 0.500 (near), difference -0.500 [")
    lower = fallen_below({"near": half}, {"b": {"near": right}, "c": {"near": wrong}}, group, lower=True)
    assert [b.baseline for b in lower] == ["c"]


def test_a_figure_that_is_not_defined_is_below_any_that_is():
    x = np.arange(8.0)
    flat, good = (Sample((a, x), pearson) for a in (np.ones(8), x))
    (found,) = fallen_below({"pearson": flat}, {"b": {"pearson": good}, "c": {"pearson": flat}}, [["pearson"]])
    assert found.baseline == "b"
    assert str(found) == "b: pearson 1.000, the model's is not defined"
    assert not found.clear


def test_the_encoder_before_training_stands_beside_it():
    before, after = Counts(VOCABULARY), Counts(VOCABULARY)
    with torch.no_grad():
        after.weight[:3] = 0  # forgets
    found = evaluate(after, labelled(60), train=labelled(60), start=before, draws=50)
    assert "random encoder" not in found["kNN accuracy"].baselines
    held = found["kNN accuracy"].baselines["encoder before training"]
    assert (
        held.value.value == evaluate(before, labelled(60), train=labelled(60), baselines=[])["kNN accuracy"].value.value
    )
    assert "encoder before training" in [b.baseline for b in found.below]
    with pytest.raises(ConfigError, match="Nobody has kept the encoder before training"):
        evaluate(after, labelled(9), baselines=["encoder before training"])


def test_two_modalities_stand_beside_a_ridge_of_their_cheap_features():
    rng = np.random.default_rng(0)
    dark, light = (np.full((8, 8, 3), v, np.uint8) for v in (30, 220))
    rows = [
        {"text": f"{'night' if i % 2 else 'day'} {rng.choice(VOCABULARY)}", "image": (dark if i % 2 else light) + i % 7}
        for i in range(60)
    ]

    class Shades(Counts):
        def collate(self, items, role=None):
            return torch.tensor([[float(np.mean(x)) % 5] * self.dim for x in items])

    towers = {"text": Counts(VOCABULARY), "image": Shades(VOCABULARY)}
    towers["image"].modality = "image"
    found = evaluate(towers, rows[40:], train=rows[:40], draws=20)
    metric = "text → image: ndcg@10"
    assert list(found[metric].baselines) == ["random ranking", "random encoder", "ridge on cheap features"]
    assert found[metric].baselines["ridge on cheap features"].value.value > found[metric].value.value
    assert {b.metric for b in found.below} >= {metric}
    assert "ridge on cheap features" not in evaluate(towers, rows[40:], draws=20)[metric].baselines
    with pytest.raises(ConfigError, match="learns from training rows"):
        evaluate(towers, rows, baselines=["ridge on cheap features"])
    same = evaluate(towers, rows[40:], start=towers, draws=20)[metric].baselines["encoder before training"]
    assert same.difference.value == 0


def test_a_usual_baseline_that_cannot_be_is_left_out_and_said(encoder):
    rows = [{"text": t, "label": i % 2} for i, t in enumerate(["!!", "?!", "!", "??"] * 6)]
    found = evaluate(encoder, rows, draws=10)
    assert "The baseline TF-IDF of words was not measured: None of the training texts has a word." in found.notes
    assert "TF-IDF of words" not in found["probe accuracy"].baselines
    with pytest.raises(DataError, match="has a word"):
        evaluate(encoder, rows, baselines=["TF-IDF of words"])


def test_many_training_rows_are_thinned_for_all_systems_alike(encoder):
    found = evaluate(encoder, labelled(30), train=labelled(90), most=45, draws=10, k=3)
    assert found.counts["training rows"] == 45
    assert any("Of 90 training rows 45, spread evenly" in note for note in found.notes)


def test_a_large_collection_is_not_encoded_again_unasked(encoder, monkeypatch):
    monkeypatch.setattr("counterpoint.evaluate.systems.MOST_ENCODED", 3)
    rows = [{"anchor": w, "positive": f"{w} sea"} for w in VOCABULARY]
    found = evaluate(encoder, rows, draws=10)
    assert list(found["map"].baselines) == ["bm25"]
    assert any("--baselines 'random encoder'" in note for note in found.notes)
    assert "random encoder" in evaluate(encoder, rows, baselines=["random encoder"], draws=10)["map"].baselines


# --- rows that say little -------------------------------------------------------------------------------------------


def test_three_rows_are_measured_and_have_no_clusters(encoder):
    rows = [{"text": t, "label": label} for t, label in (("cat", 0), ("cat dog", 0), ("sea", 1))]
    found = evaluate(encoder, rows, draws=20)
    assert found.counts == {"training rows": 2, "test rows": 1, "classes": 1}
    assert [f.metric for f in found.figures] == ["kNN accuracy", "probe accuracy"]
    assert any("All test rows are of one class" in note for note in found.notes)
    value = found["kNN accuracy"].value
    assert value.high - value.low > 0.7, "one row says next to nothing"
    assert all(np.isnan(c.difference.low) for c in found["kNN accuracy"].baselines.values())
    json.dumps(found.to_json(), allow_nan=False)


def test_one_class_or_classes_of_one_row_are_refused(encoder):
    with pytest.raises(DataError, match="of one class only"):
        evaluate(encoder, [{"text": w, "label": 0} for w in VOCABULARY])
    unknown = [*labelled(6), {"text": "sea", "label": 7}]
    assert (
        "1 of 7 test rows are of classes that no training row has."
        in evaluate(encoder, unknown, train=labelled(9), draws=10, k=3).notes
    )
    with pytest.raises(DataError, match="Every class has one row only"):
        evaluate(encoder, [{"text": w, "label": i} for i, w in enumerate(VOCABULARY)])
    with pytest.raises(DataError, match="Every class has one row only"):
        evaluate(encoder, [{"text": "cat", "label": 0}])


def test_equal_scores_are_refused(encoder):
    with pytest.raises(DataError, match="All 2 scores are 3"):
        evaluate(encoder, [{"a": "cat", "b": "dog", "score": 3.0}] * 2)
    with pytest.raises(DataError, match="All 1 scores are 1"):
        evaluate(encoder, [{"a": "cat", "b": "dog", "score": 1.0}])


def test_embeddings_that_are_all_equal_are_told(encoder):
    with torch.no_grad():
        encoder.weight[:] = 0
    said = "All 6 items have the same embedding"
    found = evaluate(encoder, labelled(6), train=labelled(12), k=3, draws=10)
    assert any(said in note for note in found.notes)
    assert "majority" not in [b.baseline for b in found.below]
    pairs = [{"anchor": w, "positive": f"{w} sea"} for w in VOCABULARY]
    assert any(said in note for note in evaluate(encoder, pairs, draws=10).notes)
    scored = [{"a": w, "b": "sea", "score": float(i)} for i, w in enumerate(VOCABULARY)]
    found = evaluate(encoder, scored, draws=10)
    assert np.isnan(found["spearman"].value.value)
    assert found.below, "what is not defined is not better than what is"
    assert found.verdict
    equal = [{"text": "cat", "label": i % 2} for i in range(9)]
    assert not any("same embedding" in note for note in evaluate(Counts(VOCABULARY), equal, draws=10).notes)


def test_queries_that_are_their_own_answers_are_counted(encoder):
    rows = [{"anchor": w, "positive": w if i < 2 else f"{w} sea"} for i, w in enumerate(VOCABULARY)]
    found = evaluate(encoder, rows, draws=10)
    assert any(note.startswith("2 of 6 queries are word for word") for note in found.notes)
    assert any("so few documents (6) has a recall@10 of 1" in note for note in found.notes)


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
