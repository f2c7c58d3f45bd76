"""Crops are contiguous and in range, nothing is ever empty, and the same generator gives the same view."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import ConfigError, DataError
from counterpoint.views import text as views

tokens_and_seed = given(length=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@tokens_and_seed
def test_crops_are_contiguous_and_as_long_as_the_ratio_says(length, seed):
    tokens = list(range(length))
    for crop in views.independent_crops(tokens, rng(seed), ratio=(0.2, 0.6)):
        assert crop == list(range(crop[0], crop[0] + len(crop)))
        assert max(1, int(0.2 * length)) <= len(crop) <= max(1, int(0.6 * length))


def test_the_two_crops_are_drawn_independently_and_every_start_is_possible():
    pairs = [views.independent_crops(range(4), rng(s), ratio=(0.5, 0.5)) for s in range(900)]
    seen = Counter((a[0], b[0]) for a, b in pairs)
    assert set(seen) == {(i, j) for i in range(3) for j in range(3)}
    # Each of the 9 combinations has probability 1/9: 100 of 900, deviation 9.4.
    assert all(60 < n < 140 for n in seen.values())


def test_a_ratio_of_one_is_the_whole_text():
    assert views.random_crop("abc", rng(0), ratio=(1, 1)) == ["a", "b", "c"]


@tokens_and_seed
def test_the_inverse_cloze_takes_the_span_out_or_leaves_everything(length, seed):
    tokens = list(range(length))
    span, rest = views.inverse_cloze(tokens, rng(seed), keep=0)
    assert rest == ([t for t in tokens if t not in span] or tokens)
    assert views.inverse_cloze(tokens, rng(seed), keep=1) == (span, tokens)


@tokens_and_seed
def test_deletion_keeps_order_and_never_everything(length, seed):
    kept = views.delete_tokens(range(length), rng(seed), p=0.9)
    assert len(kept) >= 1
    assert kept == sorted(set(kept))
    assert len(views.delete_tokens(range(length), rng(seed), p=1)) == 1
    assert views.delete_tokens(range(length), rng(seed), p=0) == list(range(length))


@tokens_and_seed
def test_repetition_only_doubles_tokens(length, seed):
    tokens = list(range(length))
    longer = views.repeat_tokens(tokens, rng(seed), p=0.3)
    assert sorted(set(longer)) == tokens
    assert longer == sorted(longer)
    assert length <= len(longer) <= length + min(length, max(2, int(0.3 * length)))
    assert max(Counter(longer).values()) <= 2


def test_deletion_removes_the_asked_share():
    kept = views.delete_tokens(range(10_000), rng(0), p=0.1)
    assert len(kept) == pytest.approx(9_000, abs=120)  # four deviations


@tokens_and_seed
def test_masking_replacing_and_shuffling_touch_only_what_they_say(length, seed):
    tokens = list(range(length))
    masked = views.mask_tokens(tokens, rng(seed), mask=-1, p=0.5)
    assert all(m in (-1, t) for m, t in zip(masked, tokens))
    replaced = views.replace_tokens(tokens, rng(seed), candidates=range(100, 110), p=0.5)
    assert all(r == t or 100 <= r < 110 for r, t in zip(replaced, tokens))
    assert [r != t for r, t in zip(replaced, tokens)] == [m == -1 for m in masked]  # one draw, one choice of places
    assert sorted(views.shuffle_tokens(tokens, rng(seed), p=0.5)) == tokens
    assert views.mask_tokens(tokens, rng(seed), mask=-1, p=1) == [-1] * length
    assert all(100 <= t < 110 for t in views.replace_tokens(tokens, rng(seed), candidates=range(100, 110), p=1))


def test_shuffling_everything_is_a_uniform_permutation():
    seen = Counter(tuple(views.shuffle_tokens("abc", rng(s), p=1)) for s in range(600))
    assert len(seen) == 6
    assert all(60 < n < 140 for n in seen.values())


@given(text=st.text(alphabet="ab \n.", min_size=1).filter(str.strip), seed=st.integers(0, 1000))
def test_word_crops_are_substrings_made_of_whole_words(text, seed):
    crop = views.crop_words(text, rng(seed))
    assert crop
    assert crop in text
    assert crop == crop.strip()
    assert f" {' '.join(crop.split())} " in f" {' '.join(text.split())} "


@pytest.mark.parametrize(
    "view",
    [
        lambda t, g: views.independent_crops(t, g),
        lambda t, g: views.inverse_cloze(t, g),
        lambda t, g: views.delete_tokens(t, g),
        lambda t, g: views.mask_tokens(t, g, mask=0),
        lambda t, g: views.replace_tokens(t, g, candidates=[1]),
        lambda t, g: views.shuffle_tokens(t, g),
    ],
)
def test_views_are_pure_and_refuse_nothing_at_all(view):
    tokens = list(range(50))
    assert view(tokens, rng(7)) == view(tokens, rng(7))
    assert tokens == list(range(50))
    with pytest.raises(DataError, match="empty text"):
        view([], rng(0))


def test_settings_out_of_range_are_named():
    for call in (
        lambda: views.random_crop("abc", rng(0), ratio=(0.6, 0.5)),
        lambda: views.random_crop("abc", rng(0), ratio=(0, 0.5)),
        lambda: views.delete_tokens("abc", rng(0), p=1.5),
        lambda: views.replace_tokens("abc", rng(0), candidates=[]),
        lambda: views.inverse_cloze("abc", rng(0), keep=-1),
    ):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(DataError, match="without words"):
        views.crop_words(" \n ", rng(0))


def test_sentences_are_lines_or_what_ends_like_one_each_once():
    assert views.sentences("one\n\n two \none\n") == ["one", "two"]
    assert views.sentences("It is 3.5 m. Is it? Yes") == ["It is 3.5 m.", "Is it?", "Yes"]
    assert views.sentences("今日は雨。明日は？晴れ") == ["今日は雨。", "明日は？", "晴れ"]
    assert views.sentences("one line only\n") == ["one line only"]
    assert views.sentences(" \n ") == []


def test_neighbours_lie_within_the_window_and_all_are_drawn():
    items = list(range(6))
    for window in (1, 2):
        seen = {views.neighbours(items, rng(i), window=window) for i in range(400)}
        assert seen == {(c, i) for c in items for i in items if 0 < abs(c - i) <= window}
    assert views.neighbours(["alone"], rng(0)) is None
    assert views.neighbours([], rng(0)) is None
    with pytest.raises(ConfigError, match="window=0"):
        views.neighbours(items, rng(0), window=0)
