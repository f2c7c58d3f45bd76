"""Entries and what they are said to be."""

from __future__ import annotations

import warnings

import pytest

from counterpoint.data.glossary import Glossary
from counterpoint.errors import DataError

ROWS = [
    {"anchor": "cat", "positive": "a cat sat on the mat", "row": 0},
    {"anchor": "dog", "positive": "the dog and the cat", "row": 1},
    {"anchor": " cat ", "positive": "voices in counterpoint", "row": 2},
    {"anchor": "mat", "positive": "on the mat", "row": 3},
]


def test_a_row_given_twice_is_one_definition() -> None:
    glossary = Glossary([*ROWS, {**ROWS[0], "row": 9}])
    assert (glossary.size, len(glossary.definitions), glossary.repeated) == (3, 4, 0)
    assert glossary.entry("voices in counterpoint") == glossary.entry("a cat sat on the mat ") == 0
    assert glossary.owners.tolist() == [[0, 0], [1, 1], [2, 0], [3, 2]]


def test_a_definition_of_two_entries_has_no_one_answer() -> None:
    rows = [*ROWS, {"anchor": "rug", "positive": "on the mat ", "row": 5}]
    with pytest.warns(UserWarning, match="1 of 4 definitions stand under several entries"):
        glossary = Glossary.whole(rows)
    assert glossary.entry("on the mat") == -1
    assert glossary.owners.tolist()[-2:] == [[3, 2], [3, 3]]


def test_there_must_be_two_entries_to_tell_apart() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Glossary.whole(ROWS).size == 3
    with pytest.raises(DataError, match="1 entry"):
        Glossary.whole([ROWS[0], ROWS[2]])
    assert Glossary([]).size == 0
