"""The measurements of a proof: mel filters, and classes by prototypes."""

import numpy as np
import pytest
import torch

from counterpoint.data.made import Made
from counterpoint.methods.multimodal.digits import BANDS, Digits, mel_filters, zero_shot


def test_mel_filters_cover_the_band_and_widen_with_the_pitch():
    filters = mel_filters(8000)
    assert filters.shape == (BANDS, 129)
    assert float(filters.min()) == 0
    assert float(filters.max()) <= 1
    heights = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), BANDS + 2) / 2595) - 1)
    peaks = filters.argmax(1) * 8000 / 256
    assert np.abs(peaks.numpy() - heights[1:-1]).max() <= 8000 / 256  # to one bin
    inner = filters.sum(0)[int(heights[1] / 31.25) + 1 : int(heights[-2] / 31.25)]
    torch.testing.assert_close(inner, torch.ones_like(inner))  # neighbours share each frequency


def test_classes_by_the_mean_of_examples_and_by_one():
    # Ten directions; of each digit two recordings lie on it and one points the other way.
    eye = np.eye(10, dtype=np.float32)
    found = Digits(Made([]), [], np.arange(10), np.concatenate([eye, 3 * eye, -eye]), np.tile(np.arange(10), 3))
    result = zero_shot(eye, found, draws=400)
    assert result["accuracy by mean prototypes"] == 1
    assert result["accuracy by one example"] == pytest.approx(2 / 3, abs=0.05)
    assert result["accuracy by one example, 5th percentile"] <= 0.5
