"""Forecast errors, baselines that are exact where they should be, ridge, what a forecast looks at."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from counterpoint.data.windows import Series, Windows
from counterpoint.encoders.series import SeriesConfig, SeriesEncoder, of_series
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate import ridge
from counterpoint.evaluate.forecast import errors, evaluate_forecasts, receptive_field, season

RNG = np.random.default_rng(0)
T = np.arange(400)


def windows(values, length=12, horizon=5):
    values = np.asarray(values, dtype=float).reshape(len(values), -1)
    return Windows(Series(values=values, names=tuple("abcd"[: values.shape[1]])), length=length, horizon=horizon)


def encoder(rows, decoder=True):
    torch.manual_seed(0)
    found = SeriesEncoder(of_series(SeriesConfig(backbone="tcn", layers=1, width=8, dim=8), rows.series))
    found.reshape(length=rows.length, horizon=rows.horizon, decoder=decoder)
    return found.eval()


def figures(found, metric="mse"):
    return {name: c.value.value for name, c in found[metric].baselines.items()}


def test_errors_by_hand():
    squared, absolute = errors(np.array([[[1.0], [0.0]], [[2.0], [2.0]]]), np.zeros((2, 2, 1)))
    assert squared.tolist() == [0.5, 4.0]
    assert absolute.tolist() == [0.5, 2.0]


def test_a_wave_is_foretold_by_its_season_and_by_a_ridge():
    rows = windows(np.column_stack((np.sin(2 * np.pi * T / 8), np.cos(2 * np.pi * T / 8))))
    assert season(rows) == 8
    found = figures(evaluate_forecasts(encoder(rows), rows, draws=5))
    assert found["seasonal naive"] < 1e-9
    assert found["ridge on the window"] < 1e-3
    assert found["last value"] > 0.5


def test_the_last_value_of_a_stair():
    rows = windows(T.astype(float), horizon=3)
    step = 1 / rows.series.deviation[0]
    found = evaluate_forecasts(encoder(rows), rows, baselines=("last value",), draws=5)
    assert figures(found)["last value"] == pytest.approx((1 + 4 + 9) / 3 * step**2, rel=1e-4)
    assert figures(found, "mae")["last value"] == pytest.approx(2 * step, rel=1e-4)


def test_no_season_no_seasonal_baseline():
    rows = windows(np.cumsum(RNG.normal(size=400)))
    assert season(rows) is None
    found = evaluate_forecasts(encoder(rows), rows, draws=5)
    assert set(figures(found)) == {"last value", "ridge on the window", "ridge on each channel"}
    assert any("No season" in note for note in found.notes)


def test_the_model_is_its_decoder_over_every_test_window():
    rows = windows(RNG.normal(size=(300, 2)))
    model = encoder(rows)
    past, future = rows.like("test").arrays()
    with torch.no_grad():
        expected = ((model.predict(torch.from_numpy(past)).numpy() - future) ** 2).mean()
    found = evaluate_forecasts(model, rows, baselines=(), draws=5)
    assert found["mse"].value.value == pytest.approx(expected, rel=1e-5)
    assert found.counts == {"test windows": len(past), "steps ahead": 5, "channels": 2}


def test_without_a_decoder_a_ridge_on_embeddings_forecasts():
    rows = windows(np.sin(2 * np.pi * T / 8) + 0.1 * RNG.normal(size=400))
    found = evaluate_forecasts(encoder(rows, decoder=False), rows, baselines=(), draws=5)
    assert any("a ridge on its embeddings" in note for note in found.notes)
    assert found["mse"].value.value < 1


def test_a_ridge_of_all_channels_reads_only_a_channels_own_past(monkeypatch):
    rows = windows(np.column_stack((np.sin(2 * np.pi * T / 8), 3 * np.cos(2 * np.pi * T / 6))))
    found = figures(evaluate_forecasts(encoder(rows), rows, draws=5))
    assert found["ridge on each channel"] < 1e-3
    follows = windows(np.stack((noise := RNG.normal(size=400), np.roll(noise, 5)), axis=1))
    found = figures(evaluate_forecasts(encoder(follows), follows, draws=5))
    assert found["ridge on the window"] < 0.7 < 0.9 < found["ridge on each channel"]
    monkeypatch.setattr("counterpoint.evaluate.forecast.WIDEST", 20)
    assert "ridge on the window" not in figures(evaluate_forecasts(encoder(follows), follows, draws=5))


def test_intervals_are_of_blocks_of_windows():
    """One error repeated in neighbouring windows counts once: the interval is much wider than of single windows."""
    values = np.concatenate((np.zeros(320), np.repeat(RNG.normal(size=8), 10)))
    values[:320] = RNG.normal(size=320)
    rows = windows(values)
    found = evaluate_forecasts(encoder(rows), rows, baselines=(), draws=200)["mse"].value
    past, future = rows.like("test").arrays()
    with torch.no_grad():
        each = errors(encoder(rows).predict(torch.from_numpy(past)).numpy(), future)[0]
    assert found.high - found.low > 2 * 1.96 * each.std() / len(each) ** 0.5


def test_a_forecast_with_a_larger_error_is_below():
    rows = windows(np.column_stack((np.sin(2 * np.pi * T / 8), np.cos(2 * np.pi * T / 8))))
    found = evaluate_forecasts(encoder(rows), rows, draws=20)
    better = {name for name, mse in figures(found).items() if mse < found["mse"].value.value}
    assert {b.baseline for b in found.below} == better >= {"seasonal naive", "ridge on the window"}
    assert all(b.metric == "mse" and b.difference.value > 0 for b in found.below)
    assert found.verdict


def test_the_encoder_before_training_forecasts_by_a_ridge():
    rows = windows(np.sin(2 * np.pi * T / 8) + 0.1 * RNG.normal(size=400))
    model = encoder(rows, decoder=False)
    found = evaluate_forecasts(model, rows, start=model, draws=20)
    assert found["mse"].baselines["ridge on the encoder before training"].difference.value == 0
    assert "ridge on the encoder before training" not in figures(evaluate_forecasts(model, rows, draws=5))


def test_an_unknown_baseline_is_refused():
    rows = windows(RNG.normal(size=300))
    with pytest.raises(ConfigError, match="no baseline 'arima'"):
        evaluate_forecasts(encoder(rows), rows, baselines=("arima",))


def test_ridge_is_ridge():
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(50, 3))
    found = ridge.fit(x, y, validation=(x, y), strengths=(7.0,))
    expected = Ridge(alpha=7.0).fit(x, y)
    np.testing.assert_allclose(found.weight, expected.coef_.T, rtol=1e-8)
    np.testing.assert_allclose(found.predict(x), expected.predict(x), rtol=1e-8)


def test_the_strength_is_chosen_on_the_validation_rows():
    x = RNG.normal(size=(30, 20))
    y = x[:, :1] + RNG.normal(size=(30, 1))
    held = RNG.normal(size=(500, 20))
    truth = held[:, :1]
    scores = {}
    for strength in ridge.STRENGTHS:
        apart = Ridge(alpha=strength).fit(x, y).predict(held).reshape(-1, 1) - truth
        scores[strength] = np.sqrt((apart**2).mean()) + np.abs(apart).mean()
    assert ridge.fit(x, y, validation=(held, truth)).strength == min(scores, key=scores.get)
    with pytest.raises(DataError, match="too few"):
        ridge.fit(x, y, validation=(held[:0], truth[:0]))


def test_what_a_forecast_looks_back_on():
    rows = windows(RNG.normal(size=(300, 2)))
    model = encoder(rows)
    found = receptive_field(model, np.stack([row["series"] for row in rows[:4]]))
    assert found.shape == (5, 12)
    for h in range(5):  # one layer of two convolutions over three steps, around the step it is read off
        assert np.flatnonzero(found[h]).tolist() == [i for i in range(12) if abs(i - (12 - 5 + h)) <= 2]
