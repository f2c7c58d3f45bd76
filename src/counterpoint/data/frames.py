"""Recordings to log-mel frames, spectra as the ear resolves them: what encoders of recordings eat."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import rfft

from counterpoint.data.audio import Recording


@lru_cache(maxsize=16)
def mel_filters(rate: int, *, bands: int, window: int) -> np.ndarray:
    """Triangles ``(bands, window // 2 + 1)`` at even distances on the mel scale, from 0 to half the rate (in hertz)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, window // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.minimum(rising, falling).clip(0).astype(np.float32)


@lru_cache(maxsize=16)
def _hann(window: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


def log_mel(recording: Recording, *, bands: int, window: int, hop: int) -> np.ndarray:
    """``log(power in each mel band + 1e-6)`` of frames around every ``hop``-th sample, ``(T // hop + 1, bands)``.

    window: samples of a frame, weighed by Hann's window. The recording goes on mirrored at both ends; one shorter than
    a frame is followed by silence first. In numpy, as many small operations of torch on a core that is busy otherwise
    wait for its other threads.
    """
    half = window // 2
    wave = np.pad(recording.samples, (0, max(0, window - len(recording))))
    around = sliding_window_view(np.pad(wave, half, mode="reflect"), window)[::hop]
    power = np.abs(rfft(around * _hann(window))) ** 2
    found: np.ndarray = np.log(power @ mel_filters(recording.rate, bands=bands, window=window).T + np.float32(1e-6))
    return found
