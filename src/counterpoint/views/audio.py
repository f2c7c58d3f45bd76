"""Views of recordings: parts of one, spans of frames to hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from counterpoint.data.batch import Data
from counterpoint.errors import ConfigError
from counterpoint.modalities.audio import Recording, log_mel
from counterpoint.views.base import Collate
from counterpoint.views.features import Cheap, Matrix, standardised


def crop(recording: Recording, rng: np.random.Generator, *, seconds: float) -> Recording:
    """A part of so many seconds from anywhere in the recording; all of one that is no longer than that.

    rng: every draw comes from it.

    >>> recording = Recording(np.zeros(16_000, dtype=np.float32), rate=8_000)
    >>> crop(recording, np.random.default_rng(0), seconds=0.5).seconds
    0.5
    """
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

    rng: every draw comes from it.

    >>> hidden = span_mask(np.array([50, 20]), np.random.default_rng(0))
    >>> hidden.shape, bool(hidden[1, 20:].any())
    ((2, 50), False)
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


def disturbed(
    recording: Recording,
    rng: np.random.Generator,
    *,
    keep: float = 0.6,
    gain: float = 6.0,
    noise: tuple[float, float] = (10.0, 40.0),
) -> Recording:
    """A part of the recording, louder or softer, in white noise.

    keep: the least share of it that is kept. gain: most decibels up or down. noise: least and most decibels by which
    the recording is louder than the noise. Silence stays silence. rng: every draw comes from it.

    >>> recording = Recording(np.sin(np.arange(8_000, dtype=np.float32)), rate=8_000)
    >>> view = disturbed(recording, np.random.default_rng(0))
    >>> 0.6 <= view.seconds <= 1.0, view.rate
    (True, 8000)
    """
    part = crop(recording, rng, seconds=float(rng.uniform(keep, 1)) * len(recording) / recording.rate)
    samples = part.samples * np.float32(10 ** (rng.uniform(-gain, gain) / 20))
    loud = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    level = loud / 10 ** (rng.uniform(*noise) / 20)
    return Recording((samples + level * rng.standard_normal(len(samples))).astype(np.float32), part.rate)


def two_views(recordings: Sequence[Recording], rng: np.random.Generator, collate: Collate) -> tuple[Data, Data]:
    """Each recording `disturbed` twice; see `counterpoint.views.base.TwoViews`.

    recordings: N of them. rng: every draw comes from it. collate: the encoder's, to what it reads.

    >>> recordings = [Recording(np.sin(np.arange(8_000, dtype=np.float32)), rate=8_000)]
    >>> one, other = two_views(recordings, np.random.default_rng(0), lambda views: [v.samples for v in views])
    >>> len(one), np.array_equal(one[0], other[0])
    (1, False)
    """
    one, other = ([disturbed(recording, rng) for recording in recordings] for _ in range(2))
    return collate(one), collate(other)


def counterparts(items: Sequence[Recording], rng: np.random.Generator, collate: Collate) -> tuple[list[Any], list[Any]]:
    """The first half of each recording had to find its second half.

    Recordings of a single sample have none. See `counterpoint.views.base.Counterparts`.

    items: N recordings. rng: not used, nothing is drawn. collate: not used, halves are recordings.

    >>> recordings = [Recording(np.zeros(8_000, dtype=np.float32), rate=8_000)]
    >>> first, second = counterparts(recordings, np.random.default_rng(0), list)
    >>> first[0].seconds, second[0].seconds
    (0.5, 0.5)
    """
    cut = [len(x) // 2 for x in items]
    first = [x.part(0, n) if n else None for x, n in zip(items, cut)]
    return first, [x.part(n, len(x)) if n else None for x, n in zip(items, cut)]


# --- cheap features ----------------------------------------------------------------------------------------------

RATE, SECONDS, BANDS = 16_000, 10, 64
"""Hertz (or the lowest rate among the recordings), seconds of a recording that are looked at, mel bands."""


def log_mel_statistics(train: Sequence[Recording], test: Sequence[Recording]) -> tuple[Matrix, Matrix, str]:
    """Mean and standard deviation over time of each log-mel band, standardised by the training recordings.

    train, test: recordings. Returns the matrices of both, and what was left out of them in words.

    >>> recordings = [Recording(np.sin(f * np.arange(8_000, dtype=np.float32)), rate=8_000) for f in (0.1, 0.5)]
    >>> train, test, cut = log_mel_statistics(recordings, recordings[:1])
    >>> train.shape[0], test.shape[0], train.shape[1] == test.shape[1]
    (2, 1, True)
    """
    rate = min([RATE, *(x.rate for items in (train, test) for x in items)])
    long = sum(x.seconds > SECONDS for items in (train, test) for x in items)
    cut = f"of {long:,} recordings the first {SECONDS} seconds were heard" if long else ""
    known, unseen = (np.stack([_bands(x, rate) for x in items]) for items in (train, test))
    return *standardised(known, unseen), cut


def _bands(recording: Recording, rate: int) -> np.ndarray:
    heard = recording.part(0, SECONDS * recording.rate).at(rate)
    bands = max(8, min(BANDS, rate // 250))
    frames = log_mel(heard, bands=bands, window=max(16, rate // 40), hop=max(1, rate // 100))
    return np.concatenate((frames.mean(0), frames.std(0)))


cheap = (Cheap(name="log-mel mean and deviation", of=log_mel_statistics),)
