import numpy as np
import pytest

from counterpoint.errors import ConfigError
from counterpoint.views.series import jitter_scale_shift, keep_steps

X = np.random.default_rng(0).normal(size=(400, 6, 2)).astype(np.float32)


def test_without_noise_or_chance_nothing_changes():
    for settings in ({"sigma": 0.0}, {"probability": 0.0}):
        assert np.array_equal(jitter_scale_shift(X, np.random.default_rng(1), **settings), X)


def test_a_window_is_scaled_shifted_and_jittered_by_itself():
    """Of eight equal chances one leaves a window as it is; scale and shift are one number per channel and window."""
    changed = jitter_scale_shift(X, np.random.default_rng(1))
    assert changed.dtype == np.float32
    same = (changed == X).all((1, 2))
    assert 0.06 < same.mean() < 0.2
    # Without jitter a channel is a straight line of what it was: half of the windows, and the unchanged ones.
    straight = 0
    for before, after in zip(X, changed):
        line = np.polyfit(before[:, 0], after[:, 0], 1)
        straight += np.allclose(np.polyval(line, before[:, 0]), after[:, 0], atol=1e-4)
    assert 0.4 < straight / len(X) < 0.6


def test_the_same_seed_gives_the_same_view():
    one, two = (jitter_scale_shift(X, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two)


def test_steps_are_kept_by_chance():
    kept = keep_steps(300, 20, np.random.default_rng(0), probability=0.3)
    assert kept.shape == (300, 20)
    assert 0.27 < kept.mean() < 0.33
    assert keep_steps(3, 4, np.random.default_rng(0), probability=1.0).all()


def test_chances_are_checked():
    with pytest.raises(ConfigError, match="some steps must be seen"):
        keep_steps(3, 4, np.random.default_rng(0), probability=0.0)
    with pytest.raises(ConfigError, match="sigma >= 0"):
        jitter_scale_shift(X, np.random.default_rng(0), sigma=-1)
