"""Mel filters, log-mel frames, crops, and spans of frames that are hidden."""

import numpy as np
import pytest
import torch

from counterpoint.data.audio import Recording
from counterpoint.errors import ConfigError
from counterpoint.views.audio import crop, log_mel, mel_filters, span_mask


def tone(pitch, rate=8000, seconds=1.0):
    return Recording(np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate).astype(np.float32), rate)


def test_mel_filters_cover_the_band_and_widen_with_the_pitch():
    bands = 40
    filters = mel_filters(8000, bands=bands, window=256)
    assert filters.shape == (bands, 129)
    assert float(filters.min()) == 0
    assert float(filters.max()) <= 1
    heights = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), bands + 2) / 2595) - 1)
    peaks = filters.argmax(1) * 8000 / 256
    assert np.abs(peaks - heights[1:-1]).max() <= 8000 / 256  # to one bin
    inner = filters.sum(0)[int(heights[1] / 31.25) + 1 : int(heights[-2] / 31.25)]
    assert np.allclose(inner, 1)  # neighbours share each frequency


@pytest.mark.parametrize("pitch", [300, 1000, 2500])
def test_a_tone_lights_the_band_of_its_pitch(pitch):
    x = log_mel(tone(pitch), bands=40, window=256, hop=80)
    assert x.shape == (101, 40)
    filters = mel_filters(8000, bands=40, window=256)
    assert int(x[50].argmax()) == int(filters[:, round(pitch / 31.25)].argmax())


def test_a_louder_recording_is_the_same_frames_and_a_constant():
    one = log_mel(tone(500), bands=20, window=256, hop=80)
    half = log_mel(Recording(tone(500).samples / 2, 8000), bands=20, window=256, hop=80)
    loud = one > -8  # far above the floor
    assert loud.any()
    assert np.allclose((one - half)[loud], 2 * np.log(2), atol=2e-2)


def test_frames_are_those_of_the_short_time_transform_of_torch():
    one = Recording(np.random.default_rng(0).normal(size=1000).astype(np.float32), 8000)
    wave = torch.from_numpy(one.samples)
    power = torch.stft(wave, 200, 80, window=torch.hann_window(200), return_complex=True).abs().square()
    expected = (torch.from_numpy(mel_filters(8000, bands=20, window=200)) @ power + 1e-6).log().T
    torch.testing.assert_close(torch.from_numpy(log_mel(one, bands=20, window=200, hop=80)), expected)


def test_a_recording_of_one_sample_has_frames():
    assert np.isfinite(log_mel(Recording(np.ones(1, np.float32), 8000), bands=8, window=64, hop=32)).all()


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
