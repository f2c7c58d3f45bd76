"""The share of a hybrid on its way: learned by `fit`, copied or learned by `index`, told by `search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint.data.files.read import read
from counterpoint.data.log import Log
from counterpoint.errors import DataError, ModelError
from counterpoint.search.hybrid import Share
from counterpoint.search.index import Index
from counterpoint.workflow.gather import gather
from counterpoint.workflow.share import FILE, learn_for_index, of_model, pairs_in, pairs_to_learn_from, set_aside
from tests.search.encoders import Counts
from tests.workflow import made
from tests.workflow.conftest import Run

FIT = ("--size", "smoke", "--steps", "2", "--tensorboard", "False")


def gathered(path: Path, **more: Any) -> Any:
    return gather(path, **{"columns": {}, "test": (), "split": None, "streaming": None, **more})


# --- what is set aside -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_a_twentieth_is_on_neither_side(tmp_path: Path, kind: str) -> None:
    given = gathered(made.jsonl(tmp_path / "x.jsonl", made.rows(kind, 1000)))
    found = set_aside(given)
    rows = [{r["row"] for r in part} for part in (found.rows, found.held, found.paired)]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 1000
    assert found.held == given.held
    assert 45 <= len(found.paired) <= 60
    assert f"{len(found.paired)} more are set aside to learn" in " ".join(found.log.lines())


def test_given_test_rows_are_not_learned_from(tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", made.rows("pairs", 400))
    test = made.jsonl(tmp_path / "t.jsonl", made.rows("pairs", 50, seed=1))
    found = set_aside(gathered(data, test=test))
    assert len(found.held) == 50
    assert not {r["anchor"] for r in found.paired} & {r["anchor"] for r in (*found.held, *found.rows)}
    assert len(found.paired) + len(found.rows) == 400


@pytest.mark.parametrize(("kind", "n"), [("pairs", 200), ("labelled", 400), ("scored", 400)])
def test_few_rows_and_other_kinds_are_left_alone(tmp_path: Path, kind: str, n: int) -> None:
    given = gathered(made.jsonl(tmp_path / "x.jsonl", made.rows(kind, n)))
    assert set_aside(given) is given


@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_the_fewest_rows_that_are_enough(tmp_path: Path, kind: str) -> None:
    found = set_aside(gathered(made.jsonl(tmp_path / "x.jsonl", made.rows(kind, 225))))
    assert 20 <= len(found.paired) <= 25


def test_rows_that_cannot_be_told_apart_are_left_alone(tmp_path: Path) -> None:
    """One anchor stands in nearly all rows: they would all have to go."""
    rows = [{"question": "q" if i else "p", "answer": f"a {i}"} for i in range(400)]
    given = gathered(made.jsonl(tmp_path / "x.jsonl", rows), test=made.jsonl(tmp_path / "t.jsonl", rows[:20]))
    assert len(set_aside(given).rows) >= 360


# --- fit, index, search ----------------------------------------------------------------------------------------------


def unlike(n: int) -> list[dict[str, str]]:
    """Pairs whose sides share a rare word: BM25 knows them all, two steps of training hardly any."""
    rng = np.random.default_rng(0)
    return [
        {"question": f"q{i} {made.text(rng, 'music')}", "answer": f"q{i} {made.text(rng, 'garden')}"} for i in range(n)
    ]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from counterpoint import fit

    folder = tmp_path_factory.mktemp("share")
    data = made.jsonl(folder / "pairs.jsonl", unlike(500))
    fit(data, out=folder / "run", size="smoke", train={"steps": 2, "tensorboard": False}, say=lambda _: None)
    return folder


def test_fit_learns_it_and_index_copies_it_and_search_tells_it(run: Run, fitted: Path, tmp_path: Path) -> None:
    share = of_model(fitted / "run")
    assert share is not None
    assert share == of_model(fitted / "run" / "model")
    assert share.source == f"learned by fit on {share.figures['queries']} held-out pairs"
    assert share.figures["queries"] >= 20
    assert max(share.figures["dense"], share.figures["bm25"]) <= share.figures["hybrid"]
    metrics = json.loads((fitted / "run" / "metrics.json").read_text())
    assert metrics["hybrid"] == share.to_json()
    assert f"counts {share.alpha:g} of 1: learned by fit" in " ".join(metrics["notes"])

    texts = made.jsonl(tmp_path / "x.jsonl", made.rows("texts", 20))
    said = run("index", fitted / "run", texts, "--out", tmp_path / "i")
    assert said.code == 0, said.all
    assert f"counts {share.alpha:g} of 1: {share.source}" in said.all
    assert Index.open(tmp_path / "i").share == share
    said = run("search", tmp_path / "i", "rose")
    assert f"The dense score counts {share.alpha:g}, BM25 {1 - share.alpha:g} ({share.source})." in said.out
    said = run("search", tmp_path / "i", "rose", "--alpha", "0.9")
    assert "The dense score counts 0.9, BM25 0.1 (--alpha)." in said.out
    said = run("search", tmp_path / "i", "rose", "--json")
    assert share.source in said.err
    assert all(json.loads(line)["query"] == "rose" for line in said.out.splitlines())
    for mode in ("dense", "bm25"):
        assert "counts" not in run("search", tmp_path / "i", "rose", "--mode", mode).all
        said = run("search", tmp_path / "i", "rose", "--mode", mode, "--alpha", "0.3")
        assert f"--alpha has no effect in the mode {mode}" in said.all
    said = run("search", tmp_path / "i", "rose", "--alpha", "1.2")
    assert said.code == 2
    assert "alpha is 1.2" in said.all


def test_a_model_folder_without_it_gives_the_default_which_is_told(run: Run, fitted: Path, tmp_path: Path) -> None:
    import shutil

    model = shutil.copytree(fitted / "run" / "model", tmp_path / "m")
    (model / FILE).unlink()
    texts = made.jsonl(tmp_path / "x.jsonl", made.rows("texts", 20))
    said = run("index", model, texts)
    assert "counts 0.5 of 1: the default, as no pairs were there to learn it from" in said.all
    assert "hybrid" not in Index.open(model / "index").settings
    assert "(the default, as no pairs were there to learn it from)" in run("search", model, "rose").out
    for text in ("{", "[]", '{"alpha": 2, "source": "x"}', '{"alpha": 0.5}'):
        (model / FILE).write_text(text)
        said = run("index", model, texts, "--overwrite")
        assert said.code == 2
        assert f"{model / FILE}" in said.all
        with pytest.raises(ModelError):
            of_model(model)


def test_index_learns_from_its_own_pairs_and_from_those_given(run: Run, fitted: Path, tmp_path: Path) -> None:
    rows = [{"query": f"where is k{i}", "document": f"k{i} lies here"} for i in range(60)]
    named = ({"anchor": r["query"], "positive": r["document"]} for r in rows)
    said = run("index", fitted / "run", made.jsonl(tmp_path / "n.jsonl", named), "--out", tmp_path / "n")
    assert said.code == 0, said.all
    assert "The column 'positive' is indexed, as the rows hold pairs: anchor and positive" in said.all
    assert Index.open(tmp_path / "n").share.source == "learned by index on 60 pairs"
    data = made.jsonl(tmp_path / "x.jsonl", rows)
    said = run("index", fitted / "run", data, "--out", tmp_path / "i", "--column", "document")
    assert said.code == 0, said.all
    share = Index.open(tmp_path / "i").share
    assert share.source == "learned by index on 60 pairs"
    assert share.figures["bm25"] == 1.0
    assert f"counts {share.alpha:g} of 1: learned by index on 60 pairs" in said.all
    Index.open(tmp_path / "i").verify()

    documents = made.jsonl(tmp_path / "d.jsonl", ({"text": r["document"]} for r in rows))
    odd = [*rows[:40], {"query": "where", "document": "nowhere"}]
    pairs = made.jsonl(tmp_path / "p.jsonl", odd)
    said = run("index", fitted / "run", documents, "--queries", pairs, "--out", tmp_path / "j")
    assert said.code == 0, said.all
    assert "1 of 41 pairs of --queries have no text of the index as their positive." in said.all
    assert Index.open(tmp_path / "j").share.source == "learned by index on 40 pairs"
    said = run("index", fitted / "run", documents, "--queries", documents, "--out", tmp_path / "k")
    assert said.code == 2
    assert "Give pairs of texts, in columns with the names anchor" in said.all
    strangers = made.jsonl(tmp_path / "s.jsonl", [{"query": "a", "document": "b"}] * 30)
    said = run("index", fitted / "run", documents, "--queries", strangers, "--out", tmp_path / "k")
    assert said.code == 2
    assert "None of the 30 pairs" in said.all
    said = run("index", fitted / "run", documents, "--queries", pairs, "--no-bm25", "--out", tmp_path / "k")
    assert said.code == 2
    assert "--no-bm25 leaves the words out" in said.all
    assert not (tmp_path / "k").exists()


def test_rows_that_were_trained_on_are_not_learned_from(run: Run, fitted: Path, tmp_path: Path) -> None:
    said = run("index", fitted / "run", fitted / "pairs.jsonl", "--out", tmp_path / "i", "--column", "answer")
    assert said.code == 0, said.all
    assert "how search mixes is not learned from these rows" in said.all
    assert Index.open(tmp_path / "i").share == of_model(fitted / "run")


# --- learning by an index --------------------------------------------------------------------------------------------


def test_a_question_with_several_answers_has_them_all(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(30)]
    rows = [{"text": f"read {w} {n}"} for w in words for n in ("one", "two")]
    pairs = [(f"{r['text'].split()[1]} of mine", r["text"]) for r in rows]
    index = Index.build(tmp_path / "i", rows, encoder=Counts(["read", "file", *words[:10]]))
    learn_for_index(index, Counts(["read", "file", *words[:10]]), pairs)
    assert Index.open(tmp_path / "i").share.figures["bm25"] == 1.0
    assert Index.open(tmp_path / "i").share.figures["queries"] == 30
    assert Index.open(tmp_path / "i").share.figures["dense"] < 0.9


def test_too_few_pairs_do_not_replace_what_the_model_knows(tmp_path: Path) -> None:
    rows = [{"text": f"file w{i}"} for i in range(9)]
    encoder, known = Counts(["read", "file"]), Share(0.3, "learned by fit on 40 held-out pairs")
    pairs = [(r["text"], r["text"]) for r in rows]
    index = Index.build(tmp_path / "i", rows, encoder=encoder, share=known)
    learn_for_index(index, encoder, pairs)
    assert index.share == known
    index = Index.build(tmp_path / "j", rows, encoder=encoder)
    learn_for_index(index, encoder, pairs)
    assert "9 pairs are too few" in Index.open(tmp_path / "j").share.source


@pytest.mark.parametrize(
    ("columns", "pairs"),
    [
        (("question", "answer"), True),
        (("query", "passage"), True),
        (("title", "text"), False),
        (("text", "file"), False),
    ],
)
def test_pairs_are_known_by_their_names_alone(tmp_path: Path, columns: tuple[str, str], pairs: bool) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", (dict(zip(columns, r.values())) for r in made.rows("pairs", 30)))
    assert (pairs_in(read(data, streaming=False), [str(data)]) is not None) == pairs


def test_another_column_is_not_what_the_pairs_answer_with(tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "x.jsonl", made.rows("pairs", 30))
    rows = read(data, streaming=False)
    own = pairs_in(rows, [str(data)])
    more = {"own": own, "queries": (), "data": [str(data)], "model": tmp_path, "log": Log()}
    assert pairs_to_learn_from(rows, "question", **more) == []
    assert len(pairs_to_learn_from(rows, "answer", **more)) == 30
    with pytest.raises(DataError, match="None of the 30 pairs"):
        pairs_to_learn_from(rows, "question", **{**more, "queries": (str(data),)})
