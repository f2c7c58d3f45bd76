"""Crops of recordings, and spans of frames that are hidden."""

import numpy as np
import pytest

from counterpoint.errors import ConfigError
from counterpoint.modalities.audio import Recording
from counterpoint.views.audio import crop, span_mask


def test_crops_are_whole_parts():
    whole = Recording(np.arange(1, 101, dtype=np.float32), 10)
    starts = {float(crop(whole, np.random.default_rng(i), seconds=3).samples[0]) for i in range(200)}
    assert min(starts) == 1
    assert max(starts) == 71
    part = crop(whole, np.random.default_rng(0), seconds=3).samples
    assert np.array_equal(np.diff(part), np.ones(29))
    assert crop(whole, np.random.default_rng(0), seconds=10) is whole


def test_half_of_the_frames_are_hidden_in_spans():
    hidden = span_mask(np.full(50, 400), np.random.default_rng(0))
    assert 0.42 < hidden.mean() < 0.54  # 1 - (1 - 0.065)^10 = 0.49
    # A run that the end does not cut is as long as a span or longer.
    for row in hidden:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(int), [0]))))
        runs = edges[1::2] - edges[::2]
        assert all(run >= 10 or end == 400 for run, end in zip(runs, edges[1::2]))


def test_nothing_beyond_the_end_is_hidden_and_something_always_stays():
    lengths = np.array([40, 1, 2, 3, 12, 0])
    for seed in range(100):
        hidden = span_mask(lengths, np.random.default_rng(seed), rate=0.5)
        assert hidden.shape == (6, 40)
        for row, length in zip(hidden, lengths):
            assert not row[length:].any()
            count = row.sum()
            assert count == 0 if length < 3 else 2 <= count < length


def test_too_few_spans_are_made_up_for():
    hidden = span_mask(np.full(20, 30), np.random.default_rng(0), rate=0.0, span=4, least=3)
    assert (hidden.sum(1) >= 4).all()
    assert hidden.sum(1).max() <= 12
    none = span_mask(np.full(20, 30), np.random.default_rng(0), rate=0.0, span=4, least=0)
    assert not none.any()


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="span=0"):
        span_mask(np.array([5]), np.random.default_rng(0), span=0)
