"""Two views of an item are of that item, and differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from counterpoint.modalities.audio import Recording
from counterpoint.views.audio import disturbed
from counterpoint.views.base import two_views
from counterpoint.views.table import counterparts


def test_a_modality_without_views_stands_for_itself_twice() -> None:
    one, other = two_views("vector")([[1.0], [2.0]], np.random.default_rng(0), lambda x: torch.tensor(x))
    assert torch.equal(one, other)  # type: ignore[arg-type]


def test_a_disturbed_recording_is_a_louder_or_softer_part_in_noise() -> None:
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(8000) / 8000 * 2 * np.pi * 440).astype(np.float32)
    lengths = []
    for _ in range(20):
        found = disturbed(Recording(wave, 8000), rng)
        lengths.append(len(found))
        spectrum = np.abs(np.fft.rfft(found.samples))
        assert abs(np.fft.rfftfreq(len(found), 1 / 8000)[spectrum.argmax()] - 440) < 5
        assert 0.4 < np.sqrt(np.mean(found.samples**2)) / np.sqrt(0.5) < 2.2
    assert min(lengths) >= 4800
    assert max(lengths) > min(lengths)


@pytest.mark.parametrize("length", [1, 2, 50])
def test_short_and_silent_recordings_stay_whole(length: int) -> None:
    silent = disturbed(Recording(np.zeros(length, np.float32), 8000), np.random.default_rng(0))
    assert len(silent) >= 1
    assert not silent.samples.any()


def test_dna_views_are_stretches_of_the_sequence() -> None:
    sequence = "ACGT" * 100
    kept: list[list[str]] = []
    two_views("dna")([sequence], np.random.default_rng(0), lambda x: kept.append(list(x)) or torch.zeros(1))
    for view in (v for views in kept for v in views):
        assert 200 <= len(view) <= 400
        assert max(sum(a == b for a, b in zip(view, sequence[k:])) for k in range(4)) > 0.9 * len(view)


def test_halves_of_a_row_share_no_cell_and_hold_all() -> None:
    row = {"a": 1, "b": None, "c": "x", "d": 2.0, "e": float("nan"), "f": 3}
    first, second = counterparts([row, {"a": 1}], np.random.default_rng(0), None)  # type: ignore[arg-type]
    assert not first[0].keys() & second[0].keys()
    assert {**first[0], **second[0]} == {"a": 1, "c": "x", "d": 2.0, "f": 3}
    assert (first[1], second[1]) == (None, None)
