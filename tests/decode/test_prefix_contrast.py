"""Opposed decoding, worked out by hand."""

from __future__ import annotations

import pytest

from counterpoint.decode.prefix_contrast import opposed
from counterpoint.decode.sample import greedy
from counterpoint.errors import ConfigError, DataError
from tests.decode.table import Table

# Tokens: 0 ends, 1 begins, 2 and 3 are the two instructions, 4 and 5 words.
STATES = [[1.0, 0.0]] * 6
MODEL = Table(
    {
        2: [0.01, 0.01, 0.01, 0.01, 0.56, 0.40],  # wanted: 4 rather than 5
        3: [0.01, 0.01, 0.01, 0.01, 0.86, 0.10],  # adverse: 4 much rather than 5
        4: [0.90, 0.02, 0.02, 0.02, 0.02, 0.02],
        5: [0.90, 0.02, 0.02, 0.02, 0.02, 0.02],
    },
    STATES,
)


def test_what_both_would_write_loses() -> None:
    # ln 0.56 - ln 0.86 = -0.43 < ln 0.40 - ln 0.10 = 1.39
    assert opposed(MODEL, [[2]], [[3]], max_new=3, alpha=1.0) == [[5]]


def test_without_alpha_it_is_greedy() -> None:
    assert opposed(MODEL, [[2], [3]], [[3], [2]], max_new=3, alpha=0.0) == greedy(MODEL, [[2], [3]], max_new=3)


def test_what_the_wanted_one_finds_impossible_cannot_win() -> None:
    # 5 is less than 0.8 of the best token there, so 4 stays whatever the other says.
    assert opposed(MODEL, [[2]], [[3]], max_new=3, alpha=1.0, plausible=0.8) == [[4]]


def test_rows_end_by_themselves_and_prefixes_differ_in_length() -> None:
    found = opposed(MODEL, [[2], [1, 4, 2], [5]], [[1, 1, 3], [2], [4]], max_new=4, alpha=1.0, plausible=0.05)
    assert found[0] == [5]
    assert found[1] == [4]  # against itself all are equal: the first of those that are plausible
    assert found[2] == []


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DataError, match="one for each"):
        opposed(MODEL, [[2]], [])
    with pytest.raises(ConfigError, match="alpha is at least 0"):
        opposed(MODEL, [[2]], [[3]], alpha=-1)
    with pytest.raises(ConfigError, match="plausible above 0"):
        opposed(MODEL, [[2]], [[3]], plausible=0)
