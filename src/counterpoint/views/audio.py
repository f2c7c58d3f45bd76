"""Views of recordings: spectra as the ear resolves them, parts of a recording, spans of frames to hide."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import rfft

from counterpoint.data.audio import Recording
from counterpoint.errors import ConfigError


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


def crop(recording: Recording, rng: np.random.Generator, *, seconds: float) -> Recording:
    """A part of so many seconds from anywhere in the recording; all of one that is no longer than that."""
    wanted = max(1, round(seconds * recording.rate))
    if len(recording) <= wanted:
        return recording
    start = int(rng.integers(len(recording) - wanted + 1))
    return recording.part(start, start + wanted)


def span_mask(
    lengths: np.ndarray, rng: np.random.Generator, *, rate: float = 0.065, span: int = 10, least: int = 2
) -> np.ndarray:
    """Which places of sequences are hidden, ``(N, max(lengths))`` bool; nothing beyond a sequence's end ever is.

    Every place begins a span of ``span`` places with probability ``rate``; spans may overlap and are cut off by the end
    (rate 0.065 and span 10 hide about half). A sequence with fewer than ``least`` spans gets further ones at random
    starts. One place at least stays visible and, of two or more places, two are hidden where it has three; a sequence
    of one or two places has none hidden, as nothing could be told from what is left.
    Source: Baevski et al. 2020 (wav2vec 2.0), arXiv 2006.11477, section 3.1.
    """
    if not 0 <= rate < 1 or span < 1 or least < 0:
        raise ConfigError(f"rate={rate}, span={span}, least={least}: expected 0 <= rate < 1, span >= 1, least >= 0.")
    hidden = np.zeros((len(lengths), int(lengths.max(initial=0))), dtype=bool)
    for row, length in zip(hidden, lengths.tolist()):
        if length < 3:
            continue
        starts = np.flatnonzero(rng.random(length) < rate)
        if len(starts) < least:
            others = np.setdiff1d(np.arange(length), starts)
            starts = np.append(starts, rng.choice(others, min(least - len(starts), len(others)), replace=False))
        places = (starts[:, None] + np.arange(span)).ravel()
        row[places[places < length]] = True
        count = int(row.sum())
        if count == length:
            row[rng.integers(length)] = False
        elif 0 < count < 2:  # a lone place has no other to be told from
            row[rng.choice(np.flatnonzero(~row[:length]))] = True
    return hidden
