"""The measure of a proof: where a class stands when classes are ranked by their names."""

import pytest

from counterpoint.data.sets.docstrings import Docstring
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.proofs.text import primer

TEXTS = ["red apple on a tree", "a boat on the sea", "the apple boat", "seven birds sing at dawn near a tree"]


@pytest.fixture
def encoder():
    return StaticText.from_texts(TEXTS, StaticTextConfig(dim=16)).eval()


def test_the_place_of_a_class_by_its_name(encoder):
    names = ["red_apple", "boat", "birds"]
    place = primer.rank_of_label(encoder, ["red apple", "boat", "boat"], [0, 1, 2], names)
    assert place[:2].tolist() == [1, 1]
    assert 2 <= place[2] <= 3


def test_no_name_is_left_in_a_text_that_names_are_ranked_for(monkeypatch, encoder):
    monkeypatch.setattr(primer, "FEWEST", 2)
    modules = ["one.linear_model.ridge", "two.linear_model", "one.stats", "two.stats._core", "one._private", "two.rare"]
    docs = [Docstring("", f"Stats of the linear_model, {i} models.", "", "", m, "") for i, m in enumerate(modules)]
    seen, encode = [], encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts: seen.append(list(texts)) or encode(texts))
    places = primer._ranked(encoder, docs[:2], docs[2:], primer._module)
    assert [text.split() for text in seen[0]] == [["of", "the", "_,", str(i), "models."] for i in (2, 3)]
    assert seen[1] == ["linear model", "stats"]
    assert list(places) == ["stats"]
    assert len(places["stats"]) == 2
