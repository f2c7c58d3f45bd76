"""Forecasts of the later part of a series, beside what costs nothing; and what a forecast looks back on.

Errors are of standardised values, as the literature reports them: 1 is the variance of the training part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.windows import Windows
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.errors import ConfigError
from counterpoint.evaluate import ridge
from counterpoint.evaluate.intervals import mean
from counterpoint.evaluate.result import Evaluation, compare, fallen_below
from counterpoint.evaluate.tasks import Samples

BEFORE = "ridge on the encoder before training"
BASELINES = ("last value", "seasonal naive", "ridge on the window", "ridge on each channel", BEFORE)
CLEAR = 0.2
"""Correlation from which a season counts as one."""
WIDEST = 4096
"""Values of a window up to which a ridge reads all of them."""

Forecast: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Standardised windows ``(N, L, C)`` to the steps ``(N, H, C)`` that follow them."""


def evaluate_forecasts(
    encoder: SeriesEncoder,
    windows: Windows,
    *,
    start: SeriesEncoder | None = None,
    baselines: Sequence[str] | None = None,
    draws: int = 1_000,
    seed: int = 0,
) -> Evaluation:
    """MSE and MAE of forecasts of the test part, lower is better.

    windows: of any part, as long as the encoder's: of the test part all are forecast, at every step. The encoder's
    decoder forecasts; of one that has none, a ridge from its embedding of each training window to the steps after it
    does, its strength chosen on the dev part. start: the encoder before its training, for the baseline of that name.
    baselines: out of `BASELINES` (None: all that apply).

    Neighbouring windows overlap, so intervals are of resampled blocks of windows, each as long as a window and its
    horizon.

    encoder: of series. draws: resamples of the intervals. seed: of these.
    """
    began = time.perf_counter()
    names = BASELINES if baselines is None else tuple(baselines)
    if unknown := [n for n in names if n not in BASELINES]:
        raise ConfigError(f"There is no baseline {unknown[0]!r} for forecasts. Use: {', '.join(BASELINES)}.")
    past, future = windows.like("test").arrays()
    notes = ["Errors are of values standardised by the training part; lower is better."]
    if encoder.decoder is None:
        model = probe(encoder, windows)
        notes.append("The encoder has no decoder: a ridge on its embeddings forecasts.")
    else:
        model = partial(_computed, encoder, encoder.predict)
    systems = {name: made for name in names if (made := _baseline(name, windows, start)) is not None}
    if "seasonal naive" in systems:
        notes.append(f"The season is {season(windows)} steps long.")
    elif "seasonal naive" in names:
        notes.append("No season was found that a window could hold, so there is no seasonal baseline.")
    block = windows.length + windows.horizon
    found = {name: _samples(forecast(past), future, block) for name, forecast in systems.items()}
    own = _samples(model(past), future, block)
    figures = compare(own, found, draws=draws, seed=seed)
    below = fallen_below(own, found, [["mse"]], lower=True, draws=draws, seed=seed)
    counts = {"test windows": len(past), "steps ahead": windows.horizon, "channels": future.shape[2]}
    return Evaluation("forecast", figures, counts, {}, tuple(notes), time.perf_counter() - began, below)


def errors(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared and mean absolute error of each forecast ``(N, H, C)``: ``(N,)`` each.

    predicted, truth: in the same units.

    >>> mse, mae = errors(np.zeros((2, 4, 1)), np.full((2, 4, 1), 2.0))
    >>> mse.tolist(), mae.tolist()
    ([4.0, 4.0], [2.0, 2.0])
    """
    apart = predicted.astype(np.float64) - truth
    return (apart**2).mean((1, 2)), np.abs(apart).mean((1, 2))


def _samples(predicted: np.ndarray, truth: np.ndarray, block: int) -> Samples:
    edges = np.arange(0, len(truth), block)
    # The mean over blocks of these is the mean over windows, though the last block may have fewer.
    each = len(truth) / len(edges)
    return {
        name: mean(np.add.reduceat(values, edges) / each)
        for name, values in zip(("mse", "mae"), errors(predicted, truth))
    }


# --- systems ---------------------------------------------------------------------------------------------------


def _computed(encoder: SeriesEncoder, of: Callable[[Tensor], Tensor], past: np.ndarray) -> np.ndarray:
    """What a function of the encoder makes of windows ``(N, L, C)``."""
    with encoder.evaluating():
        parts = [of(part.to(encoder.device)).float().cpu() for part in torch.from_numpy(past).split(512)]
    return torch.cat(parts).numpy()


def probe(encoder: SeriesEncoder, windows: Windows) -> Forecast:
    """A ridge from the embedding of a window, learned on the training part and chosen on the dev part.

    encoder: of series. windows: with all three parts.
    """
    return _ridge(partial(_computed, encoder, encoder), windows)


def _ridge(features: Callable[[np.ndarray], np.ndarray], windows: Windows) -> Forecast:
    (x, y), (held, truth) = (windows.like(part).arrays() for part in ("train", "dev"))  # type: ignore[arg-type]
    shape = y.shape[1:]
    fitted = ridge.fit(features(x), y.reshape(len(y), -1), validation=(features(held), truth.reshape(len(truth), -1)))
    return lambda past: fitted.predict(features(past)).reshape(-1, *shape)


def _own_ridge(windows: Windows) -> Forecast:
    """A ridge from a channel's own past to its future, the same for all channels."""

    def alone(x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 2, 1).reshape(-1, x.shape[1])

    (x, y), (held, truth) = (windows.like(part).arrays() for part in ("train", "dev"))  # type: ignore[arg-type]
    fitted = ridge.fit(alone(x), alone(y), validation=(alone(held), alone(truth)))
    return lambda past: fitted.predict(alone(past)).reshape(len(past), past.shape[2], -1).transpose(0, 2, 1)


def _baseline(name: str, windows: Windows, start: SeriesEncoder | None) -> Forecast | None:
    h = windows.horizon
    if name == BEFORE:
        return None if start is None else probe(start, windows)
    if name == "last value":
        return lambda past: np.repeat(past[:, -1:], h, axis=1)
    if name == "ridge on each channel":
        return _own_ridge(windows)
    if name == "ridge on the window":
        if windows.length * windows.series.values.shape[1] > WIDEST:
            return None
        return _ridge(lambda past: past.reshape(len(past), -1), windows)
    period = season(windows)
    if period is None:
        return None
    steps = np.arange(h) % period - period
    return lambda past: past[:, steps]


def season(windows: Windows) -> int | None:
    """The period, in steps, after which the training part resembles itself most, where a window holds one.

    Of the peaks of its autocorrelation, averaged over the channels, the highest that is above `CLEAR`.

    windows: whose training part is read.
    """
    series = windows.series
    x = series.scaled[: series.span("train")[1]].astype(np.float64)
    n = len(x)
    power = np.abs(np.fft.rfft(x - x.mean(0), 2 * n, axis=0)) ** 2
    found = np.fft.irfft(power.mean(1))[: min(windows.length + 2, n)]
    if found[0] <= 0:
        return None
    found = found / found[0]
    lags = np.arange(2, len(found) - 1)
    peaks = lags[(found[lags] > found[lags - 1]) & (found[lags] >= found[lags + 1]) & (found[lags] > CLEAR)]
    return int(peaks[found[peaks].argmax()]) if len(peaks) else None


# --- what it looks at ------------------------------------------------------------------------------------------


def receptive_field(encoder: SeriesEncoder, windows: np.ndarray) -> np.ndarray:
    """How much each step of the past moves each step of the forecast: ``(H, L)``, the mean over windows and channels of
    ``|Σ_c ∂ ŷ_hc / ∂ x_l|``.

    windows: (N, L, C), in the units of the series. Periods that the forecast looks back on show as ridges. encoder: one
    that forecasts. Source: Zhang et al. 2023, arXiv 2306.12086, after Luo et al. 2016, arXiv 1701.04128.
    """
    with encoder.evaluating(gradients=True), torch.enable_grad():
        x = encoder.collate(list(windows)).to(encoder.device).requires_grad_()
        steps = encoder.predict(x).sum((0, 2))
        found = [torch.autograd.grad(step, x, retain_graph=True)[0].abs().mean((0, 2)) for step in steps]
    return torch.stack(found).cpu().numpy()
