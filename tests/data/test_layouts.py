"""Layouts that many sets have: what they mean, what is changed for it, and what is said."""

from __future__ import annotations

from typing import Any

import datasets
import pyarrow as pa
import pytest

from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.data.schema import Schema
from counterpoint.data.stream import Stream
from counterpoint.errors import DataError

N = 30
A = [f"some words {i} of a text" for i in range(N)]
B = [f"other words {i}" for i in range(N)]
C = [f"unlike words {i}" for i in range(N)]


def understood(columns: dict[str, Any], **named: Any) -> tuple[Schema, list[dict[str, Any]], str]:
    """The schema, the rows that it makes, and all that was said."""
    raw, log = datasets.Dataset.from_dict(columns), Log()
    schema = infer(raw, columns=named)
    rows = list(Rows(raw, schema, log=log))
    streamed = Stream(raw.to_iterable_dataset(), schema)
    found = [streamed.row(i, values) for i, values in enumerate(streamed.dataset)]
    assert [dict(r, row=0) for r in found if r is not None] == [dict(r, row=0) for r in rows], "a stream gives the same"
    return schema, rows, " ".join(log.lines())


# --- entailment ------------------------------------------------------------------------------------------------

PREMISES = [p for p in ("a man sleeps", "a dog runs", "it rains") for _ in range(4)]
AFTER = [f"hypothesis {i}" for i in range(12)]
WORDS = ["entailment", "neutral", "contradiction", "contradiction",
         "neutral", "entailment", "entailment", "contradiction",
         "contradiction", "contradiction", "neutral", "neutral"]  # fmt: skip
CODES = {"entailment": 0, "neutral": 1, "contradiction": 2}
NLI_NAMES = datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])


def labels(how: str) -> list[Any]:
    return [CODES[w] if how == "codes" else w.upper() if how == "capitals" else w for w in WORDS]


@pytest.mark.parametrize("how", ["words", "capitals", "codes"])
@pytest.mark.parametrize("names", [("premise", "hypothesis", "label"), ("sentence1", "sentence2", "gold_label")])
def test_entailment_is_a_positive_and_contradiction_a_hard_negative(how: str, names: tuple[str, str, str]) -> None:
    schema, rows, said = understood(dict(zip(names, (PREMISES, AFTER, labels(how)))))
    assert schema.kind == "pairs"
    assert [(r["anchor"], r["positive"], r["negatives"]) for r in rows] == [
        ("a man sleeps", "hypothesis 0", ["hypothesis 2", "hypothesis 3"]),
        ("a dog runs", "hypothesis 5", ["hypothesis 7"]),
        ("a dog runs", "hypothesis 6", ["hypothesis 7"]),
    ]
    assert "3 rows of entailment are pairs, 3 of contradiction are hard negatives of the same premise" in said
    assert "4 neutral rows, 2 contradictions of a premise that nothing follows from, and 0 without a label" in said
    assert ("(0: entailment, 1: neutral, 2: contradiction)" in said) == (how == "codes")


@pytest.mark.parametrize("missing", [-1, None])
def test_judgements_that_are_missing(missing: int | None) -> None:
    codes = labels("codes")
    codes[1] = codes[5] = missing
    _, rows, said = understood({"premise": PREMISES, "hypothesis": AFTER, "label": codes})
    assert [r["positive"] for r in rows] == ["hypothesis 0", "hypothesis 6"]
    assert "and 2 without a label" in said


def test_classes_of_entailment_by_their_names() -> None:
    raw = datasets.Dataset.from_dict({"premise": PREMISES, "hypothesis": AFTER, "label": WORDS})
    turned = datasets.ClassLabel(names=["contradiction", "entailment", "neutral"])
    for names in (NLI_NAMES, turned):
        found = raw.cast_column("label", names)
        rows = Rows(found, infer(found))
        assert [r["positive"] for r in rows] == ["hypothesis 0", "hypothesis 5", "hypothesis 6"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"premise": A, "hypothesis": B, "label": [0, 1] * 15}, "sets differ in which of them means that it does"),
        ({"sentence1": A, "sentence2": B, "label": [0, 1, 2] * 10}, "stand for entailment, neutral and contradiction"),
    ],
)
def test_numbers_that_may_mean_either(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says) as error:
        infer(datasets.Dataset.from_dict(columns))
    assert "score=label" in str(error.value)


def test_what_is_named_is_not_changed() -> None:
    schema, rows, _ = understood(
        {"premise": PREMISES, "hypothesis": AFTER, "label": labels("codes")}, text="hypothesis", label="label"
    )
    assert (schema.kind, len(rows)) == ("labelled", 12)


# --- pairs -----------------------------------------------------------------------------------------------------


def test_lists_of_positives_make_a_row_each() -> None:
    columns = {
        "query": A[:3], "pos": [["x", "y"], [], ["z"]], "neg": [["n1", "n2"], ["n3"], []],
        "pos_scores": [[0.5, 0.5], [], [0.5]], "prompt": B[:3],
    }  # fmt: skip
    schema, rows, said = understood(columns)
    assert [(r["anchor"], r["positive"], r["negatives"]) for r in rows] == [
        (A[0], "x", ["n1", "n2"]), (A[0], "y", ["n1", "n2"]), (A[2], "z", []),
    ]  # fmt: skip
    assert schema.columns == {"anchor": "query", "positive": "pos", "negatives": ["neg"]}
    assert "1 rows have an empty list in column 'pos'" in said
    assert "Column 'pos_scores'" in said
    assert "Column 'prompt' (text) is not used" in said
    named, others, _ = understood({"q": A[:2], "right": [["x", "y"], ["z"]]}, anchor="q", positive="right")
    assert [(r["anchor"], r["positive"]) for r in others] == [(A[0], "x"), (A[0], "y"), (A[1], "z")]
    assert named.kind == "pairs"


def turn(who: str, said: str, *, sharegpt: bool = False) -> dict[str, str]:
    return {"from": who, "value": said} if sharegpt else {"role": who, "content": said}


@pytest.mark.parametrize(
    ("name", "names"), [("messages", ("system", "user", "assistant")), ("conversations", ("system", "human", "gpt"))]
)
def test_conversations_are_what_is_asked_and_what_is_answered(name: str, names: tuple[str, str, str]) -> None:
    system, user, assistant = names
    share = name == "conversations"
    chat = [
        [
            turn(w, s, sharegpt=share)
            for w, s in ((system, "be kind"), (user, f"q{i}"), (assistant, f"a{i}"), (user, "bye"))
        ]
        for i in range(5)
    ]
    schema, rows, said = understood({name: chat, "id": list(range(5))})
    assert [(r["anchor"], r["positive"]) for r in rows] == [(f"q{i}", f"a{i}") for i in range(5)]
    assert "5 rows give 5 pairs" in said
    test = datasets.Dataset.from_dict({name: chat[:1], "id": [0]})
    assert infer(test, columns=schema.columns, changes=schema.changes).columns == schema.columns
    assert len(Rows(test, schema)) == 1


def test_a_column_is_named_by_a_path() -> None:
    rows_ = [[turn("user", f"q{i}"), turn("assistant", f"a{i}")] for i in range(5)]
    where = {"anchor": "messages.0.content", "positive": "messages.-1.content"}
    schema, rows, _ = understood({"messages": rows_}, **where)
    assert schema.columns == where
    assert [(r["anchor"], r["positive"]) for r in rows] == [(f"q{i}", f"a{i}") for i in range(5)]
    deep = {"meta": [{"title": a, "tags": [{"name": "x"}, {"name": "y"}]} for a in A]}
    _, found, _ = understood({**deep, "body": B}, anchor="meta.title", positive="body")
    assert found[3]["anchor"] == A[3]
    with pytest.raises(DataError, match=r"no column 'meta\.nothing\.at\.all'") as error:
        understood({"body": B}, text="meta.nothing.at.all")
    assert "body (text)" in str(error.value)


def test_nested_columns_are_hinted_at() -> None:
    nested = {"turn": [{"in": a, "out": b} for a, b in zip(A, B)], "id": list(range(N))}
    with pytest.raises(DataError, match=r"by a path: --columns anchor=turn\.in,positive=turn\.out"):
        infer(datasets.Dataset.from_dict(nested))


def test_texts_that_belong_together() -> None:
    _, rows, said = understood({"sentences": [["a", "b", "c"], ["d"], ["e", "f"]]})
    assert [(r["anchor"], r["positive"]) for r in rows] == [("a", "b"), ("b", "c"), ("e", "f")]
    assert "3 rows give 3" in said


def test_numbers_of_things_as_texts() -> None:
    schema, rows, said = understood({"anchor": list(range(1000, 1000 + N)), "positive": B})
    assert (schema.kind, rows[4]["anchor"]) == ("pairs", "1004")
    assert "'anchor' holds numbers: they are read as texts" in said


def test_questions_contexts_and_answers() -> None:
    answers = [{"text": ["x"], "answer_start": [1]}] * N
    schema, _, said = understood({"id": C, "question": A, "context": B, "answers": answers})
    assert schema.columns == {"anchor": "question", "positive": "context"}
    assert "Column 'answers'" in said


# --- scores and labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [[str(i / 10) for i in range(N)], [f"{i / 10}".replace(".", ",") for i in range(N)],
                                   [[i / 10] for i in range(N)], [str(i) for i in range(N)]])  # fmt: skip
def test_scores_of_other_types_are_scores(score: list[Any]) -> None:
    schema, rows, said = understood({"sentence1": A, "sentence2": B, "score": score})
    assert schema.kind == "scored"
    assert rows[7]["score"] in (0.7, 7.0)
    assert "'score'" in said


def test_scores_that_are_decimals() -> None:
    import decimal

    array = pa.array([decimal.Decimal(i) / 10 for i in range(N)], pa.decimal128(4, 1))
    raw = datasets.Dataset(pa.table({"a": A, "b": B, "score": array}))
    assert infer(raw).kind == "scored"
    assert Rows(raw, infer(raw))[7]["score"] == 0.7


def test_texts_that_are_no_scores_are_counted_and_refused_where_they_are_many() -> None:
    some = ["bad" if i in (3, 9) else str(i) for i in range(N)]
    _, rows, said = understood({"sentence1": A, "sentence2": B, "score": some})
    assert len(rows) == N - 2
    assert "2 texts in column 'score' are no numbers (row 3: 'bad')" in said
    with pytest.raises(DataError, match=r"'score' holds words .'high'.*anchor=sentence1,positive=sentence2"):
        infer(datasets.Dataset.from_dict({"sentence1": A, "sentence2": B, "score": ["high"] * N}))


@pytest.mark.parametrize(
    "words",
    [("duplicate", "not_duplicate"), ("yes", "no"), ("paraphrase", "non-paraphrase"), ("True", "False"), (True, False)],
)
def test_words_that_judge_pairs(words: tuple[Any, Any]) -> None:
    schema, rows, _ = understood({"question1": A, "question2": B, "label": list(words) * (N // 2)})
    assert schema.kind == "scored"
    assert [r["score"] for r in rows[:2]] == [1.0, 0.0]


def test_classes_that_judge_pairs() -> None:
    raw = datasets.Dataset.from_dict({"sentence1": A, "sentence2": B, "label": [0, 1] * (N // 2)})
    raw = raw.cast_column("label", datasets.ClassLabel(names=["equivalent", "not_equivalent"]))
    assert [r["score"] for r in Rows(raw, infer(raw))[:2]] == [1.0, 0.0]


def test_labels_in_lists() -> None:
    schema, rows, said = understood({"text": A, "label": [[i % 3] for i in range(N)]})
    assert (schema.kind, schema.labels, rows[4]["label"]) == ("labelled", ("0", "1", "2"), 1)
    assert "lists of one value" in said
    with pytest.raises(DataError, match=r"lists of up to 2 labels.*--columns text=text"):
        infer(datasets.Dataset.from_dict({"text": A, "labels": [["x"], ["x", "y"]] * (N // 2)}))


# --- classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["01", "1", "007", "7"], ("007", "01", "1", "7")),
        ([1.0, 0.0, None, 1.0], ("0", "1")),
        ([1.0, 0.0, float("nan"), 1.0], ("0", "1")),
        (["a", "nan", "b", ""], ("a", "b")),
        (["a", "none", "b", "N/A"], ("a", "b", "none")),
        ([2**63, 2**63 + 1, 2**64 - 1, 5], ("5", str(2**63), str(2**63 + 1), str(2**64 - 1))),
        ([True, False, True, None], ("False", "True")),
    ],
)
def test_a_class_is_what_is_written(values: list[Any], names: tuple[str, ...]) -> None:
    type_ = pa.uint64() if max((v for v in values if type(v) is int and v > 1), default=0) >= 2**63 else None
    raw = datasets.Dataset(pa.table({"text": A[:28], "label": pa.array(values * 7, type_)}))
    log = Log()
    schema = infer(raw)
    rows = Rows(raw, schema, log=log)
    assert schema.labels == names
    missing = sum(v is None or v != v or v in ("nan", "", "N/A") for v in values) * 7
    assert len(rows) == 28 - missing
    assert (f"Skipped {missing}: rows with no label" in " ".join(log.lines())) == bool(missing)
    assert [schema.labels[n] for n in rows.labels()] == [schema.labels[r["label"]] for r in rows]


# --- what is not used ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": A, "score": list(range(N))}, "'score' (number) is not used: scores are of two texts"),
        ({"anchor": A, "positive": B, "negative": C, "score": list(range(N))},
         "'score' (number) is not used: the pairs are learned from alike. To learn its scores, type: --columns "
         "a=anchor,b=positive,score=score"),
        ({"text": A, "label": [None] * N}, "'label' (null) is not used: it holds nothing"),
        ({"text": A, "label": ["x", "y"] * 15, "negatives": [["x"]] * N}, "'negatives' (texts) is not used"),
        ({"text": A, "answer": list(range(N))}, "'answer' (number) is not used"),
    ],
)  # fmt: skip
def test_a_known_name_that_is_not_used_is_told(columns: dict[str, Any], says: str) -> None:
    assert says in " ".join(infer(datasets.Dataset.from_dict(columns)).notes)


def test_ordinary_columns_are_not_told() -> None:
    assert infer(datasets.Dataset.from_dict({"text": A, "id": list(range(N)), "source": ["x", "y"] * 15})).notes == ()


def test_passages_with_titles_are_positives_and_negatives() -> None:
    """The layouts of Tevatron and of DPR: lists of mappings."""
    data = datasets.Dataset.from_list([
        {
            "query": f"question {i}",
            "positive_passages": [{"docid": "1", "title": "Boats", "text": f"answer {i}"}],
            "negative_passages": [{"docid": "2", "title": "", "text": f"other {i}"}, {"docid": "3", "text": None}],
        }
        for i in range(4)
    ])  # fmt: skip
    log = Log()
    rows = Rows(data, infer(data), log=log)
    assert rows.schema.kind == "pairs"
    row = rows[2]
    assert (row["anchor"], row["positive"], row["negatives"]) == ("question 2", "Boats answer 2", ["other 2"])
    assert "Column 'positive_passages' holds passages: their titles and texts are read." in log.lines()
    dpr = [
        {"question": f"q {i}", "answers": ["x"], "positive_ctxs": [{"title": "", "text": f"p {i}"}],
         "hard_negative_ctxs": [{"title": "t", "text": f"n {i}"}]}
        for i in range(4)
    ]  # fmt: skip
    schema = infer(datasets.Dataset.from_list(dpr))
    assert schema.columns == {"anchor": "question", "positive": "positive_ctxs", "negatives": ["hard_negative_ctxs"]}
    assert any(note.startswith("Column 'answers'") for note in schema.notes)


def test_a_nested_column_that_is_not_used_is_told() -> None:
    data = datasets.Dataset.from_list(
        [{"text": f"a river {i}", "meta": {"said": f"by some one {i}"}} for i in range(4)]
    )
    assert infer(data).notes == (
        "Column 'meta' is not used: it holds other columns, whose texts are named by a path: --columns PART=meta.said",
    )
