"""Rows after the schema: what they hold, what is dropped, what is refused, and how they are parted."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError


def rows(**columns: Any) -> Rows:
    parts = columns.pop("parts", None)
    data = datasets.Dataset.from_dict(columns)
    return Rows(data, infer(data, columns=parts))


def pairs(n: int = 6) -> Rows:
    return rows(
        anchor=[f"a{i}" for i in range(n)],
        positive=[f"p{i}" for i in range(n)],
        negatives=[[f"n{i}", "", "shared"][: i % 4] for i in range(n)],
    )


def test_rows_by_kind() -> None:
    assert rows(text=["x", "y"])[1] == {"row": 1, "text": "y"}
    assert pairs()[3] == {"row": 3, "anchor": "a3", "positive": "p3", "negatives": ["n3", "shared"]}
    assert rows(query=["q"], answer=["a"])[0] == {"row": 0, "anchor": "q", "positive": "a", "negatives": []}
    found = rows(sentence1=["x", "y"], sentence2=["u", "v"], score=[1, 3])
    assert found[1] == {"row": 1, "a": "y", "b": "v", "score": 3.0}
    assert isinstance(found[1]["score"], float)
    assert rows(text=["x", "y", "z"], label=["b", "a", "b"])[:] == [
        {"row": 0, "text": "x", "label": 1}, {"row": 1, "text": "y", "label": 0}, {"row": 2, "text": "z", "label": 1},
    ]  # fmt: skip


def test_order_asked_is_order_given_over_many_chunks() -> None:
    data = datasets.concatenate_datasets([datasets.Dataset.from_dict({"text": [f"{i}"]}) for i in range(9)])
    assert data.data.column("text").num_chunks == 9
    found = Rows(data, infer(data))
    order = [8, 0, 3, 3, 7, 0]
    assert [r["text"] for r in found[order]] == [str(i) for i in order]
    assert [r["row"] for r in found[np.array(order)]] == order
    assert found[[]] == []
    assert found[-1]["text"] == "8"
    assert [r["text"] for r in found] == [str(i) for i in range(9)]


def test_a_selected_data_set_keeps_its_own_order() -> None:
    data = datasets.Dataset.from_dict({"text": ["a", "b", "", "d"]}).select([3, 2, 0])
    found = Rows(data, infer(data))
    assert [(r["row"], r["text"]) for r in found] == [(0, "d"), (2, "a")]
    assert found.column("text").to_pylist() == ["d", "a"]


def test_empty_rows_are_dropped_and_counted() -> None:
    found = rows(anchor=["a", " \t", "c", None], positive=["p", "q", "", "s"])
    assert [r["row"] for r in found] == [0]
    assert found.log.lines() == [
        "Skipped 2: rows with empty text in column 'anchor' (row 1, row 3).",
        "Skipped 1: rows with empty text in column 'positive' (row 2).",
    ]
    with pytest.raises(DataError, match=r"No usable row is left of 2.*empty text"):
        rows(text=["", None], parts={"text": "text"})


def test_labels_that_are_missing_are_dropped() -> None:
    found = rows(text=["a", "b", "c"], label=["x", None, "y"])
    assert found.labels().tolist() == [0, 1]
    data = datasets.Dataset.from_dict({"text": list("abcd"), "label": [1, -1, 0, 1]})
    data = data.cast_column("label", datasets.ClassLabel(names=["1", "0"]))  # names that look like other numbers
    found = Rows(data, infer(data))
    assert found.labels().tolist() == [1, 0, 1]
    assert [r["label"] for r in found] == [1, 0, 1]


def test_one_class_only() -> None:
    with pytest.raises(DataError, match=r"'label' holds one class only \('x'\).*--columns text=text"):
        rows(text=["a", "b"], label=["x", "x"])


def test_an_unknown_class_is_named() -> None:
    train = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    test = datasets.Dataset.from_dict({"text": ["c", "d"], "label": ["x", "new"]})
    with pytest.raises(DataError, match="'new' is none of the 2 classes known: x, y"):
        Rows(test, infer(train))


def test_scores_are_checked() -> None:
    texts = {"sentence1": ["a", "b", "c", ""], "sentence2": ["d", "e", "f", "g"]}
    found = rows(**texts, score=[0.0, 2.0, None, 5.0])
    assert "Scores in column 'score' reach from 0 to 2." in found.log.lines()
    assert len(found) == 2
    nan = float("nan")
    with pytest.raises(DataError, match=r"'score' is NaN or infinite in 2 of 3 rows \(first: row 1\)"):
        rows(**texts, score=[0.0, nan, float("inf"), 1.0])
    with pytest.raises(DataError, match="'score' is 1 in every row"):
        rows(**texts, score=[1, 1, 1, 1])


def test_duplicates_are_counted() -> None:
    found = rows(anchor=["a", "b", "a", "a "], positive=["p", "p", "p", "p"])
    assert found.duplicates() == 2
    assert "2 of 4 rows repeat an earlier row's texts; they are kept." in found.log.lines()


def test_keys_are_equal_where_texts_are() -> None:
    found = rows(anchor=["a", "b", " a"], positive=["b", "c", "d"], negatives=[["a"], [], ["x", "c"]])
    keys = found.keys()
    assert keys.shape == (3, 4)
    a, b = keys[0, 0], keys[0, 1]
    assert (keys[0, 2], keys[2, 0], keys[1, 0]) == (a, a, b)
    assert keys[2, 3] == keys[1, 1] != keys[1, 0]
    assert (keys[1, 2:] == -1).all()


def test_lengths_are_of_the_longest_text() -> None:
    assert rows(anchor=["ä", "bbb"], positive=["pp", "q"]).lengths().tolist() == [2, 3]


def test_codes_and_columns_skip_dropped_rows() -> None:
    found = rows(text=["a", "", "c", "d"], source=["u", "u", "v", "u"], parts={"text": "text"})
    assert found.codes("source").tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="no column 'lang'; there are text, source"):
        found.codes("lang")


def test_texts_for_a_tokenizer() -> None:
    found = pairs(100)
    everything = list(found.texts())
    assert everything[:3] == ["a0", "p0", "a1"]
    assert everything.count("shared") == 25
    assert "" not in everything
    some = list(found.texts(30))
    assert len(some) == 30
    assert list(rows(text=[f"{i}" for i in range(100)]).texts(3)) == ["0", "49", "99"]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=40).filter(lambda t: len(set(t)) > 1),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
)
def test_split_parts_without_sharing_a_text(texts: list[str], share: float, seed: int) -> None:
    found = rows(text=texts, other=[str(i) for i in range(len(texts))], parts={"text": "text"})
    size = round(share * len(texts))
    if not 0 < size < len(texts):
        return
    rest, held = found.split(share, seed=seed)
    left, right = [r["row"] for r in rest], [r["row"] for r in held]
    assert sorted(left + right) == list(range(len(texts)))
    assert left
    assert right
    assert not {texts[i] for i in left} & {texts[i] for i in right}
    again = found.split(share, seed=seed)[1]
    assert [r["row"] for r in again] == right


def test_split_by_column_and_by_number() -> None:
    found = rows(text=[f"{i}" for i in range(90)], package=[f"p{i % 9}" for i in range(90)], parts={"text": "text"})
    rest, held = found.split(20, by="package", seed=1)
    assert len(held) == 20
    assert not {r["row"] % 9 for r in rest} & {r["row"] % 9 for r in held}
    rest, held = found.split(0.1)
    assert (len(rest), len(held)) == (81, 9)
    assert held.index.tolist() != sorted(range(9))
    for wrong in (0, 90, 0.001):
        with pytest.raises(DataError, match="both sides need"):
            found.split(wrong)


def test_towers_may_miss_a_side(tmp_path: Any) -> None:
    pytest.importorskip("PIL")
    from counterpoint.data.files import media
    from counterpoint.modalities import image as images

    png = {"bytes": images.encode_png(np.zeros((2, 2, 3), np.uint8)), "path": None}
    import pyarrow as pa

    table = pa.table({"image": pa.array([png, None, None], media.ARROW), "caption": ["c", "d", " "]})
    data = datasets.Dataset(table.cast(media.features(table).arrow_schema))
    found = Rows(data, infer(data, columns={"image": "image", "text": "caption"}))
    assert [(r["row"], r["image"] is None, r["text"]) for r in found] == [(0, False, "c"), (1, True, "d")]


SAID = ["one", "two", "three", "four"]
ORIGIN = ["law", "news", None, "law"]


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"text": SAID}, "texts"),
        ({"anchor": SAID, "positive": SAID[::-1]}, "pairs"),
        ({"a": SAID, "b": SAID, "score": [0.1, 0.2, 0.3, 0.4]}, "scored"),
        ({"text": SAID, "label": ["x", "y", "x", "y"]}, "labelled"),
    ],
)
def test_rows_say_their_source_where_a_column_is_named_for_it(columns: dict[str, Any], kind: str) -> None:
    data = datasets.Dataset.from_dict({**columns, "domain": ORIGIN})
    told = Rows(data, infer(data, columns={"source": "domain"}))
    assert told.schema.kind == kind
    assert told.schema.sources == ("law", "news")
    assert [row["source"] for row in told] == [0, 1, 0] == told.sources().tolist()
    assert [told.schema.sources[row["source"]] for row in told] == ["law", "news", "law"]
    assert "no source in column" in " ".join(told.log.lines())
    named = infer(data, columns={**{c: c for c in columns}, "source": "domain"})
    assert (named.kind, named.columns, named.sources) == (kind, told.schema.columns, told.schema.sources)
    plain = datasets.Dataset.from_dict(columns)
    rest = Rows(plain, infer(plain))
    assert told.schema.modalities == rest.schema.modalities  # a source is no item
    assert "source" not in rest[0]
    with pytest.raises(DataError, match="--columns source=COLUMN"):
        rest.sources()


def test_sources_may_be_numbers_or_class_labels_and_a_label_too() -> None:
    feature = datasets.Features({"text": datasets.Value("string"), "lang": datasets.ClassLabel(names=["sv", "de"])})
    data = datasets.Dataset.from_dict({"text": SAID, "lang": [1, 0, -1, 1]}, features=feature)
    told = Rows(data, infer(data, columns={"text": "text", "source": "lang"}))
    assert told.schema.sources == ("sv", "de")
    assert [row["source"] for row in told] == [1, 0, 1]
    data = datasets.Dataset.from_dict({"text": SAID, "task": [10, 9, 10, 9]})
    told = Rows(data, infer(data, columns={"text": "text", "label": "task", "source": "task"}))
    assert told.schema.sources == ("9", "10")
    assert told.sources().tolist() == [1, 0, 1, 0]
    assert [row["source"] for row in told] == [row["label"] for row in told] == [1, 0, 1, 0]


def test_sources_of_rows_that_have_none() -> None:
    data = datasets.Dataset.from_dict({"v": [[0.1, 0.2], [0.3, 0.4]], "domain": ["a", "b"]})
    with pytest.raises(DataError, match="do not go together"):
        infer(data, columns={"vector": "v", "source": "domain"})
    other = datasets.Dataset.from_dict({"text": SAID, "domain": ["a", "b", "c", "d"]})
    schema = infer(datasets.Dataset.from_dict({"text": SAID, "domain": ORIGIN}), columns={"source": "domain"})
    with pytest.raises(DataError, match="The source 'a' is none of the 2 sources known: law, news"):
        Rows(other, schema)[0]


def test_positives_that_are_their_anchor_are_counted() -> None:
    found = rows(anchor=["a", "b ", "c"], positive=["p", " b", "c"])
    assert any(line.startswith("In 2 of 3 rows the positive is its anchor word for word") for line in found.log.lines())
    assert len(found) == 3
    assert not any("word for word" in line for line in rows(anchor=["a", "b"], positive=["b", "a"]).log.lines())


def test_negatives_that_are_the_row_itself_are_counted() -> None:
    said = "a negative is the row's own anchor or positive word for word"
    found = rows(anchor=["a", "b", "c", "d"], positive=["p", "q", "r", "s"], negative=["x", " q", "c", "p"])
    assert any(
        line.startswith("In 2 of 4 rows " + said) for line in found.log.lines()
    )  # the last is another's positive
    lists = rows(anchor=["a", "b"], positive=["p", "q"], negatives=[["x", "y", "p", "p"], []])
    assert any(line.startswith("In 1 of 2 rows " + said) for line in lists.log.lines())
    other = rows(anchor=["a", "b"], positive=["p", "q"], negatives=[["q", "b"], ["a"]])
    assert not any(said in line for line in other.log.lines())


def test_scores_that_contradict_each_other_are_told() -> None:
    one, two = ["x", "a", "b", "a", "c"], ["y", "b", "a", "b", "d"]
    told = rows(sentence1=one, sentence2=two, score=[1.0, 0.0, 5.0, 2.0, 3.0]).log.lines()
    assert any(
        line.startswith("1 pairs of texts have several scores that contradict each other, up to 0 and 5 (first: row 1)")
        for line in told
    )
    told = rows(sentence1=one, sentence2=two, score=[1.0, 2.0, 2.0, 2.0, 3.0]).log.lines()
    assert not any("contradict" in line for line in told)


def test_scores_outside_of_what_there_can_be_are_refused_with_their_number() -> None:
    held: dict[str, Any] = {"left": list("uvwxyz"), "right": list("opqrst"), "score": [0, 5, 7.5, 1, -1, 2]}
    assert rows(**held).schema.range is None
    found = rows(**held, parts={"range": "-1..7.5"})
    assert (len(found), found.schema.range) == (6, (-1, 7.5))
    with pytest.raises(DataError, match=r"'score' lies outside 0 to 5 in 2 of 6 rows \(first: row 2, with 7\.5\)"):
        rows(**held, parts={"range": "0..5"})
    named = {"a": "left", "b": "right", "score": "score"}
    with pytest.raises(DataError, match=r"outside 0 to 7\.5 in 1 of 6 rows \(first: row 4, with -1\)"):
        rows(**held, parts={**named, "range": "0..7.5"})
    # A row without a text is dropped, with its score.
    held["left"][4] = ""
    assert len(rows(**held, parts={**named, "range": "0..7.5"})) == 5


@pytest.mark.parametrize("said", ["5", "5..0", "1..1", "0,5", "0..inf", "low..high", "0..1..2"])
def test_a_range_that_is_none(said: str) -> None:
    with pytest.raises(DataError, match=r"expected the lowest and the highest score.*--columns range=0\.\.5"):
        rows(a=["x", "y"], b=["u", "v"], score=[1, 2], parts={"range": said})


def test_a_range_of_rows_without_scores() -> None:
    with pytest.raises(DataError, match=r"these rows have none: texts: .*--columns a=COLUMN,b=COLUMN,score=COLUMN"):
        rows(text=["x", "y"], parts={"range": "0..1"})


def test_rows_know_their_sources_and_their_batches() -> None:
    plain = rows(anchor=["a", "b", "c", "d"], positive=["p", "q", "r", "s"])
    assert plain.table
    assert plain.independent
    assert not plain.whole
    assert not plain.mixed
    assert plain.by_source() == {}
    assert plain.taught() is plain
    assert plain.roomy(4, 0) == 4
    shared = rows(anchor=["a"] * 6, positive=list("pqrstu"))
    assert shared.roomy(6, 0) <= 2  # no two of them may meet
    data = datasets.Dataset.from_dict({"text": SAID, "domain": ORIGIN})
    sourced = Rows(data, infer(data, columns={"source": "domain"}))
    found = sourced.by_source()
    assert list(found) == [sourced.schema.sources[s] for s in np.unique(sourced.sources())]
    for name, (part, places) in found.items():
        assert [r["text"] for r in part] == [r["text"] for r in sourced[places]]
        assert {ORIGIN[i] for i in part.index} == {name}
