"""Mel filters and log-mel frames."""

import numpy as np
import pytest
import torch

from counterpoint.modalities.audio import Recording, log_mel, mel_filters


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
