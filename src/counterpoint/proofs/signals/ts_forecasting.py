"""A forecast with MoCo beside its error, and without: ETTh1, 24 hours foretold from 48.

Measured on the test months, from every hour of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from counterpoint.data.sets.registry import load
from counterpoint.data.windows import Series, Windows
from counterpoint.encoders.series import SeriesEncoder, of_series
from counterpoint.evaluate.forecast import evaluate_forecasts
from counterpoint.methods.signals.ts_forecasting import TSForecasting
from counterpoint.proofs.base import Proof, train

ARMS: dict[str, dict[str, Any]] = {
    "forecast + moco": {},
    "forecast alone": {"contrast": "none"},
    "moco, then ridge": {"weight": 1.0},
}


def run(arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
    series = load("etth1")
    assert isinstance(series, Series)
    recipe = TSForecasting.recipe("smoke" if smoke else "small")
    config = replace(recipe.config, **ARMS[arm])
    torch.manual_seed(seed)
    encoder = SeriesEncoder(of_series(recipe.encoder, series))
    trained = TSForecasting(encoder, config)
    windows = Windows(series, length=config.length, horizon=config.horizon)
    train(trained, windows, recipe=recipe.train, steps=4 if smoke else None, seed=seed)
    found = evaluate_forecasts(encoder, windows, baselines=(), draws=2)
    return {name: found[name].value.value for name in ("mse", "mae")}


proof = Proof(
    TSForecasting,
    claim="On ETTh1, 24 hours ahead, a transformer forecasts better with MoCo beside the forecast's error than with "
    "the error alone, and better than a ridge on embeddings learned by MoCo.",
    arms={
        "forecast + moco": "error and contrast, half of each, one run",
        "forecast alone": "the error alone",
        "moco, then ridge": "contrast alone, then a ridge from the embedding of each window",
    },
    metrics={"mse": False, "mae": False},
    data=("etth1",),
    run=run,
    full="ETTh1, ETTm1 and ECL, five horizons of 24 to 720 steps, four networks, three runs each: days on one large "
    "GPU.",
    minutes=6,
)
