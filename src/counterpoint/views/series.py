"""Views of windows of a series: scaled, shifted, jittered; steps left out."""

from __future__ import annotations

import numpy as np

from counterpoint.errors import ConfigError


def jitter_scale_shift(
    windows: np.ndarray, rng: np.random.Generator, *, sigma: float = 0.5, probability: float = 0.5
) -> np.ndarray:
    """Windows ``(N, L, C)``, standardised, that were scaled, ``x (1 + σ ε_c)``, shifted, ``x + σ ε_c``, and jittered,
    ``x + σ ε_lc``, each of the three with this probability. Noise ε is normal, and drawn anew for each window.

    rng: every draw comes from it. windows: the values. sigma: σ, in deviations of the series. probability: of each of
    the three.

    Source: Woo et al. 2022 (CoST), arXiv 2202.01575, which draws for each window, as here; the published code of Zhang
    et al. 2023 draws once for a batch.

    >>> windows = np.zeros((4, 24, 2), dtype=np.float32)
    >>> jitter_scale_shift(windows, np.random.default_rng(0), probability=1.0).shape
    (4, 24, 2)
    """
    if sigma < 0 or not 0 <= probability <= 1:
        raise ConfigError(f"sigma={sigma}, probability={probability}: expected sigma >= 0, probability from 0 to 1.")
    n, _, channels = windows.shape

    def noise(*shape: int) -> np.ndarray:
        chosen = rng.random((n, 1, 1)) < probability
        return chosen * sigma * rng.standard_normal(shape)

    x = windows * (1 + noise(n, 1, channels))
    x = x + noise(n, 1, channels)
    return (x + noise(*windows.shape)).astype(windows.dtype)


def keep_steps(n: int, length: int, rng: np.random.Generator, *, probability: float) -> np.ndarray:
    """Which steps of n windows are kept, ``(N, L)`` bool, each with this probability and by itself.

    rng: every draw comes from it. length: L. n: N.

    Source: Yue et al. 2022 (TS2Vec), arXiv 2106.10466.

    >>> kept = keep_steps(2, 100, np.random.default_rng(0), probability=0.5)
    >>> kept.shape, bool(0.3 < kept.mean() < 0.7)
    ((2, 100), True)
    """
    if not 0 < probability <= 1:
        raise ConfigError(
            f"probability={probability}: expected more than 0, as some steps must be seen, and at most 1."
        )
    return rng.random((n, length)) < probability
