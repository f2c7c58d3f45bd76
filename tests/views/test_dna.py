"""Reads lie inside their fragments; noise has the rate it says and touches nothing unknown."""

import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.views.dna import fragment_and_read, indels, subsequence, substitute


def sequence(n=5000, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


def test_a_read_lies_inside_its_fragment_and_that_inside_the_sequence():
    whole, rng = sequence(), np.random.default_rng(1)
    for _ in range(50):
        fragment, read = fragment_and_read(whole, rng, fragment=(800, 2000), read=(100, 500))
        assert fragment in whole
        assert read in fragment
        assert 800 <= len(fragment) < 2000
        assert 100 <= len(read) < 500


def test_a_short_sequence_is_the_fragment_and_the_read_at_most_half_of_it():
    for n in (1, 7, 300):
        fragment, read = fragment_and_read(sequence(n), np.random.default_rng(0), fragment=(800, 2000), read=(100, 500))
        assert len(fragment) == n
        assert 1 <= len(read) <= max(1, n // 2)


def test_places_are_uniform():
    rng = np.random.default_rng(2)
    starts = ["ABCDE".index(subsequence("ABCDEFG", rng, length=(3, 4))[0]) for _ in range(5000)]
    assert np.abs(np.bincount(starts, minlength=5) / 5000 - 0.2).max() < 0.03


def test_substitutions_have_their_rate_and_are_never_the_base_itself():
    whole, rng = sequence(20_000), np.random.default_rng(3)
    noisy = substitute(whole, rng, rate=0.1)
    changed = np.mean([a != b for a, b in zip(whole, noisy)])
    assert len(noisy) == len(whole)
    assert abs(changed - 0.1) < 0.01
    assert substitute(whole, rng, rate=0.0) == whole
    assert all(a != b for a, b in zip(whole, substitute(whole, rng, rate=1.0)))
    assert substitute("NNNN", rng, rate=1.0) == "NNNN"


def test_indels_change_the_length_by_nothing_on_average_and_keep_the_rest():
    whole, rng = sequence(20_000), np.random.default_rng(4)
    noisy = indels(whole, rng, rate=0.02)
    assert noisy != whole
    assert abs(len(noisy) - len(whole)) < 120
    only = indels("A" * 2000, rng, rate=0.5)
    assert set(only) > {"A"}  # what is put in is drawn from all bases
    assert indels(whole, rng, rate=0.0) is whole


def test_one_seed_one_view_and_impossible_settings_are_sentences():
    assert substitute(sequence(), np.random.default_rng(5), rate=0.1) == substitute(
        sequence(), np.random.default_rng(5), rate=0.1
    )
    with pytest.raises(ConfigError, match="not a probability"):
        indels("ACGT", np.random.default_rng(0), rate=2)
    with pytest.raises(ConfigError, match="0 < least < beyond"):
        subsequence("ACGT", np.random.default_rng(0), length=(5, 5))
    with pytest.raises(DataError, match="empty sequence"):
        subsequence("", np.random.default_rng(0), length=(1, 2))
