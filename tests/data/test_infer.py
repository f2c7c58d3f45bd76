"""The columns decide: every row of the decision table, and every way in which they cannot."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from counterpoint.data.files import media
from counterpoint.data.infer import infer
from counterpoint.errors import DataError

N = 30
WORDS = [f"some words {i}" for i in range(N)]
OTHER = [f"other words {i}" for i in range(N)]
CLASSES = ["x", "y", "z"] * (N // 3)
HALVES = [i / N for i in range(N)]
IMAGES = [{"bytes": b"", "path": None}] * N


def make(**columns: Any) -> datasets.Dataset:
    if "image" in columns:
        return media.dataset(columns)
    return datasets.Dataset.from_dict(columns)


DECISIONS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("one text", {"body": WORDS}, "texts", {"text": "body"}),
    ("ids are no data", {"id": OTHER, "doc_id": WORDS, "body": WORDS}, "texts", {"text": "body"}),
    ("a lone url is", {"url": WORDS}, "texts", {"text": "url"}),
    ("origins are no classes", {"source": CLASSES, "text": WORDS}, "texts", {"text": "text"}),
    ("names in any order", {"answer": WORDS, "question": OTHER}, "pairs", {"anchor": "question", "positive": "answer"}),
    (
        "negatives, numbered",
        {"Query": WORDS, "positive": OTHER, "negative_1": WORDS, "neg2": OTHER},
        "pairs",
        {"anchor": "Query", "positive": "positive", "negatives": ["negative_1", "neg2"]},
    ),
    (
        "negatives, a list",
        {"anchor": WORDS, "positive": OTHER, "hard_negatives": [["a", "b"]] * N},
        "pairs",
        {"anchor": "anchor", "positive": "positive", "negatives": ["hard_negatives"]},
    ),
    ("two texts", {"first": WORDS, "second": OTHER}, "pairs", {"anchor": "first", "positive": "second"}),
    (
        "a score",
        {"sentence1": WORDS, "sentence2": OTHER, "score": HALVES, "index": list(range(N))},
        "scored",
        {"a": "sentence1", "b": "sentence2", "score": "score"},
    ),
    (
        "a number by any name",
        {"first": WORDS, "second": OTHER, "judged": HALVES},
        "scored",
        {"a": "first", "b": "second", "score": "judged"},
    ),
    (
        "a label that judges a pair",
        {"sentence1": WORDS, "sentence2": OTHER, "label": [0, 1] * (N // 2)},
        "scored",
        {"a": "sentence1", "b": "sentence2", "score": "label"},
    ),
    (
        "a label that names a class",
        {"title": WORDS, "description": OTHER, "label": [0, 1] * (N // 2)},
        "labelled",
        {"text": "description", "label": "label"},
    ),
    ("labels", {"text": WORDS, "intent": CLASSES}, "labelled", {"text": "text", "label": "intent"}),
    ("few values", {"said": WORDS, "mood": CLASSES}, "labelled", {"text": "said", "label": "mood"}),
    ("images", {"image": IMAGES}, "items", {"image": "image"}),
    ("image and class", {"image": IMAGES, "label": CLASSES}, "labelled", {"image": "image", "label": "label"}),
    ("image and few values", {"image": IMAGES, "breed": CLASSES}, "labelled", {"image": "image", "label": "breed"}),
    ("image and text", {"image": IMAGES, "said": WORDS}, "towers", {"image": "image", "text": "said"}),
    (
        "image, text and class",
        {"image": IMAGES, "caption": WORDS, "title": OTHER, "label": CLASSES},
        "towers",
        {"image": "image", "text": "caption"},
    ),
]


@pytest.mark.parametrize(("columns", "kind", "parts"), [d[1:] for d in DECISIONS], ids=[d[0] for d in DECISIONS])
def test_decisions(columns: dict[str, Any], kind: str, parts: dict[str, Any]) -> None:
    schema = infer(make(**columns))
    assert (schema.kind, schema.columns) == (kind, parts)
    assert schema.why.startswith(f"{kind}: ")
    for column in parts.values():
        assert column[0] in schema.why if isinstance(column, list) else column in schema.why


def test_it_says_when_names_did_not_tell() -> None:
    assert "names do not tell, so the first is the anchor" in infer(make(first=WORDS, second=OTHER)).why


UNDECIDED: list[tuple[str, dict[str, Any], str]] = [
    ("three texts", {"a1": WORDS, "b1": OTHER, "c1": WORDS}, "--columns anchor=a1,positive=b1"),
    ("a judged pair", {"premise": WORDS, "hypothesis": OTHER, "label": CLASSES}, "--columns anchor=premise,"),
    ("numbers without order", {"n": [v * 17 % 41 for v in range(40)]}, "No column holds text, "),
    ("an image, two texts", {"image": IMAGES, "one": WORDS, "two": OTHER}, "--columns image=image,text=one"),
]


@pytest.mark.parametrize(("columns", "says"), [u[1:] for u in UNDECIDED], ids=[u[0] for u in UNDECIDED])
def test_undecided(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as error:
        infer(make(**columns))
    assert says in str(error.value)
    assert all(name in str(error.value) for name in columns)


def test_named_columns_decide() -> None:
    rows = make(one=WORDS, two=OTHER, three=WORDS, n=HALVES, many=[["a"]] * N)
    schema = infer(rows, columns={"anchor": "two", "positive": "one", "negative": "three"})
    assert (schema.kind, schema.columns["negatives"]) == ("pairs", ["three"])
    schema = infer(rows, columns={"anchor": "two", "positive": "one", "negatives": ["three", "many"]})
    assert schema.columns["negatives"] == ["three", "many"]
    assert infer(rows, columns={"a": "one", "b": "two", "score": "n"}).kind == "scored"
    assert infer(rows, columns={"text": "three"}).modalities == {"text": "text"}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"anchor": "qestion", "positive": "answer"}, "no column 'qestion'.*question .text.*--columns anchor=question"),
        ({"anchor": "n", "positive": "answer"}, "'n' holds number, but the anchor must be .*image or .*text"),
        ({"a": "question", "b": "answer", "score": "answer"}, "the score must be number.*--columns score=n"),
        ({"query": "question"}, "cannot play the part 'query'. The parts are: text"),
        ({"anchor": "question"}, "The parts anchor do not go together"),
    ],
)
def test_wrongly_named_columns(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        infer(make(question=WORDS, answer=OTHER, n=HALVES), columns=columns)


def test_class_names_are_sorted_by_value() -> None:
    assert infer(make(text=WORDS, label=[10, 9, 2] * 10)).labels == ("2", "9", "10")
    assert infer(make(text=WORDS, label=["b", "a", None] * 10)).labels == ("a", "b")
    named = make(text=WORDS, label=[0, 1, 1] * 10).cast_column("label", datasets.ClassLabel(names=["z", "a"]))
    assert infer(named).labels == ("z", "a")


def test_values_that_are_no_classes() -> None:
    many = [f"{i}" for i in range(2_000)]
    with pytest.raises(DataError, match="2,000 different values in 2,000 rows"):
        infer(make(text=many, label=many))


def test_a_stream_is_sampled_and_nothing_is_refused_silently() -> None:
    stream = make(question=WORDS, answer=OTHER).to_iterable_dataset()
    assert infer(stream).kind == "pairs"
    assert [r["question"] for r in stream] == WORDS
    with pytest.raises(DataError, match="no rows"):
        infer(make(text=WORDS).select([]))
    with pytest.raises(DataError, match="gives no rows"):
        infer(make(text=WORDS).to_iterable_dataset().filter(lambda _: False))
