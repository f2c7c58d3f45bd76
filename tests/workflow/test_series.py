"""A csv of measurements: trained on, forecast, embedded by step, and refused where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from counterpoint import load
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.evaluate.forecast import BASELINES
from counterpoint.workflow.fit import fit
from tests.workflow.conftest import Run

STEPS = ("--size", "smoke", "--steps", "6", "--log-every", "3", "--tensorboard", "False")


def written(path: Path, n: int = 400, gap: bool = False) -> Path:
    rng = np.random.default_rng(0)
    t = np.arange(n)
    heat, load_ = 20 + 5 * np.sin(2 * np.pi * t / 12) + rng.normal(size=n), 1000 + np.cumsum(rng.normal(size=n))
    days = np.datetime64("2024-01-01T00:00:00") + t * np.timedelta64(3600, "s")
    lines = [
        f"{d},{h:.3f},{'' if gap and i == 30 else f'{v:.3f}'}" for i, (d, h, v) in enumerate(zip(days, heat, load_))
    ]
    path.write_text("\n".join(["time,heat,load", *lines]) + "\n")
    return path


@pytest.fixture(scope="module", autouse=True)
def no_page() -> Iterator[None]:
    """The map of a run's page costs more than all else here, and knows nothing of series."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("counterpoint.workflow.fit.report", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("series") / "rows.csv")


def channels(path: Path) -> np.ndarray:
    return np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(1, 2))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run, and what it said."""
    out, said = tmp_path_factory.mktemp("trained") / "run", []
    fit(data, out=out, size="smoke", settings={"length": 24, "horizon": 6}, train={"steps": 6}, say=said.append)
    return out, " ".join(map(str, said))


def test_from_a_csv_to_forecasts(data: Path, trained: tuple[Path, str]) -> None:
    out, said = trained
    assert "Method ts-forecasting" in said
    assert "the times of its steps (time) and numbers: heat, load." in said
    assert "400 steps of 2 channels; in order of time train: 280, dev: 40, test: 80." in said
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["systems"]) == {"model", *BASELINES}
    assert set(metrics["systems"]["model"]) == {"mse", "mae"}
    assert "The season is 12 steps long." in metrics["notes"]
    model, values = load(out), channels(data)
    assert isinstance(model, SeriesEncoder)
    assert model.forecast(values).shape == (6, 2)
    np.testing.assert_allclose(model.config.mean, values[:280].mean(0), rtol=1e-5)


def test_each_step_is_embedded_with_those_before_it(
    run: Run, data: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = trained
    model = load(out)
    assert run("encode", out, data, "--out", tmp_path / "v.npy").code == 0
    z = np.load(tmp_path / "v.npy")
    assert z.shape == (400, model.dim)
    assert np.isnan(z[:23]).all()
    assert np.isfinite(z[23:]).all()
    np.testing.assert_allclose(z[50], model.encode([channels(data)[27:51]])[0], atol=1e-5)

    assert run("encode", out, data, "--out", tmp_path / "v.parquet", "--keep", "time").code == 0
    table = pq.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["time", "embedding"]
    assert table["embedding"].null_count == 23
    np.testing.assert_allclose(table["embedding"][50].as_py(), z[50], atol=1e-6)

    for more, sentence in (
        (("--out", tmp_path / "folder/"), "are one file"),
        (("--out", tmp_path / "w.npy", "--column", "heat"), "Leave --column out"),
    ):
        said = run("encode", out, data, *more)
        assert said.code != 0
        assert sentence in said.all


def test_what_else_a_model_of_series_does(run: Run, data: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    said = run("eval", trained[0], data)
    assert said.code != 0
    assert "measured on the latest steps of what it was trained on" in said.all
    said = run("export", trained[0], "--to", "onnx", "--out", tmp_path / "m.onnx")
    assert said.code == 0, said.all


def test_a_run_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    """With another network; the decoder and the size of the windows come back with it."""
    train = {"schedule": "constant"}
    how = {"size": "smoke", "encoder": "lstm", "say": lambda _: None}
    fit(data, out=tmp_path / "whole", train={**train, "steps": 4}, **how)
    fit(data, out=tmp_path / "halves", train={**train, "steps": 2}, **how)
    fit(out=tmp_path / "halves", resume=True, train={"steps": 4}, say=lambda _: None)
    one, two = load(tmp_path / "whole"), load(tmp_path / "halves")
    assert isinstance(one, SeriesEncoder)
    assert isinstance(two, SeriesEncoder)
    assert one.config.backbone == two.config.backbone == "lstm"
    assert np.array_equal(one.forecast(channels(data)), two.forecast(channels(data)))


def test_two_steps_and_named_channels(data: Path, tmp_path: Path) -> None:
    columns, settings = {"series": "heat", "time": "time"}, {"weight": 1.0}
    fitted = fit(
        data, out=tmp_path, columns=columns, settings=settings, size="smoke", train={"steps": 4}, say=lambda _: None
    )
    assert any("a ridge on its embeddings forecasts" in note for note in fitted.notes)
    model = load(tmp_path)
    assert isinstance(model, SeriesEncoder)
    assert (model.config.names, model.decoder) == (("heat",), None)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--test", "DATA"), "its latest: leave --test out"),
        (("--split", "train"), "Leave --split out"),
        (("--streaming",), "leave --streaming out"),
        (("--set", "horizon=30"), "1 <= horizon <= length"),
        (("--set", "length=41", "horizon=41"), "dev part of the series has 40 of its 400 steps"),
        (("--columns", "series=heat+cold"), "no column 'cold' to be the series"),
        (("--method", "simcse"), "needs single texts, but the rows hold a series"),
    ],
)
def test_what_does_not_go(run: Run, data: Path, tmp_path: Path, more: tuple[str, ...], sentence: str) -> None:
    words = [data if word == "DATA" else word for word in more]
    said = run("fit", data, "--out", tmp_path / "r", *STEPS, *words)
    assert said.code != 0
    assert sentence in said.all, said.all
    assert not (tmp_path / "r" / "model").exists()


def test_gaps_are_refused(run: Run, tmp_path: Path) -> None:
    said = run("fit", written(tmp_path / "rows.csv", gap=True), "--out", tmp_path / "r", *STEPS)
    assert said.code != 0
    assert "1 of 400 steps have gaps (no value, NaN or infinity), in load; the first is row 30." in said.all
