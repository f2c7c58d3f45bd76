"""Curation of triplets: what counts as a score, what is kept, turned round and dropped."""

from __future__ import annotations

import pytest

from counterpoint.data.curate import Triplet, curate, histogram, parse_score, sound
from counterpoint.errors import DataError

T = Triplet("a", "p", "n")


@pytest.mark.parametrize(
    ("said", "score"),
    [("4", 4.0), (" 3.5\n", 3.5), ("0.0", 0.0), ("5", 5.0), ("5.0", 5.0)]
    + [(x, None) for x in ("", "4.25", "10", "6", "-1", "about 4", "4.5/5", "4.", "four", "５", None)],
)
def test_a_score_is_a_digit_or_one_with_a_decimal(said: str | None, score: float | None) -> None:
    assert parse_score(said) == score


def test_what_is_kept_turned_and_dropped() -> None:
    scores = [(4.0, 1.0), (1.0, 4.0), (3.0, 3.0), (2.9, 1.0), (5.0, 3.1), (None, 1.0), (4.0, None), (3.0, 2.9)]
    triplets = [Triplet(str(i), f"p{i}", f"n{i}") for i in range(len(scores))]
    found = curate(triplets, scores)
    assert found.kept == [triplets[0], Triplet("1", "n1", "p1"), triplets[7]]
    assert found.places == [0, 1, 7]
    assert found.swapped == 1
    assert found.dropped == {
        "both scores are the same": 1,
        "the positive is below 3": 1,
        "the negative is above 3": 1,
        "no score": 2,
    }


def test_without_swapping_a_turned_triplet_is_dropped() -> None:
    found = curate([T, T], [(1.0, 4.0), (4.0, 1.0)], swap=False)
    assert found.places == [1]
    assert found.swapped == 0


def test_nothing_left_shows_the_scores() -> None:
    with pytest.raises(DataError, match=r"None of 2 triplets.*below 3.*half point on: 1.0: 2, 2.5: 2\. Choose"):
        curate([T, T], [(2.5, 1.0), (2.6, 1.4)])
    with pytest.raises(DataError, match="from 0 to 1: multiply them by 5"):
        curate([T] * 10, [(0.9, 0.1)] * 10)
    with pytest.raises(DataError, match="half point on: none"):
        curate([T], [(None, None)])


def test_no_triplets_are_no_error() -> None:
    assert curate([], []).kept == []
    assert histogram([]) == "none"


@pytest.mark.parametrize(
    ("triplet", "why"),
    [
        (T, ""),
        (Triplet("a", " ", "n"), "an empty text"),
        (Triplet("A cat.", "a  cat", "n"), "a copy of the sentence"),
        (Triplet("a", "b", '"a"'), "a copy of the sentence"),
        (Triplet("a", "b.", "B"), "positive and negative are the same"),
    ],
)
def test_triplets_that_say_nothing(triplet: Triplet, why: str) -> None:
    assert sound(triplet) == why
