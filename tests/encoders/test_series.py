"""Steps, windows and forecasts; what the backbones can see; the decoder is kept with the encoder."""

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.decomposition import SeasonHead, TrendHead
from counterpoint.encoders.export import onnx
from counterpoint.encoders.series import BACKBONES, SeriesConfig, SeriesEncoder, of_series
from counterpoint.errors import ConfigError, DataError, ModelError
from tests.conformance.rows import series


def make(backbone="transformer", **settings):
    torch.manual_seed(0)
    config = SeriesConfig(backbone=backbone, dim=12, width=8, layers=2, heads=2, feedforward=8, **settings)
    encoder = SeriesEncoder(of_series(config, series()))
    encoder.reshape(length=10, horizon=4, decoder=True)
    return encoder.eval()


def reach(encoder, at, length=10):
    """Which steps of the window the embedding of a step depends on."""
    x = torch.randn(1, length, 3, requires_grad=True)
    encoder.steps(x)[0, at].sum().backward()
    return x.grad[0].abs().sum(1).nonzero().flatten().tolist()


def test_what_a_step_sees():
    assert reach(make("transformer"), 4) == list(range(10))
    assert reach(make("lstm"), 4) == list(range(5))
    assert reach(make("tcn"), 8, 20) == list(range(4, 13))  # two layers of two convolutions over 3 steps
    assert reach(make("dilated-tcn"), 8, 20) == list(range(2, 15))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_forecast_is_read_off_the_last_steps(backbone):
    encoder, window = make(backbone), series().values[:10]
    x = encoder.collate([window])
    with torch.no_grad():
        each = torch.stack([encoder.decoder(encoder.steps(x)[0, 10 - 4 + i]) for i in range(4)])
    expected = each.numpy() * encoder.config.deviation + encoder.config.mean
    np.testing.assert_allclose(encoder.forecast(window), expected, rtol=1e-5, atol=1e-5)


def test_forecasts_are_in_the_units_of_the_series():
    encoder = make()
    with torch.no_grad():
        encoder.decoder[-1].weight.zero_()
        encoder.decoder[-1].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    mean, deviation = np.array(encoder.config.mean), np.array(encoder.config.deviation)
    expected = np.tile(mean + deviation * [0, 1, -1], (4, 1))
    np.testing.assert_allclose(encoder.forecast(series().values[:10]), expected, rtol=1e-6)


def test_a_longer_window_is_read_from_its_end_and_several_at_once():
    encoder, values = make(), series().values
    last = encoder.forecast(values[20:30])
    assert np.array_equal(encoder.forecast(values[:30]), last)
    both = encoder.forecast(np.stack([values[:30], values[10:40]]))
    assert both.shape == (2, 4, 3)
    np.testing.assert_allclose(both[0], last, atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_forecasts_survive_saving(backbone, tmp_path):
    encoder, window = make(backbone), series().values[50:60]
    folder.save(encoder, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    assert np.array_equal(again.forecast(window), encoder.forecast(window))
    assert (again.config.length, again.config.horizon, again.config.names) == (10, 4, ("a", "b", "c"))


def test_only_the_last_step_makes_the_embedding_unless_told_otherwise():
    x = torch.randn(2, 10, 3)
    for pooling, pool in (("last", lambda z: z[:, -1]), ("mean", lambda z: z.mean(1)), ("max", lambda z: z.amax(1))):
        encoder = make(pooling=pooling)
        assert torch.equal(encoder(x), pool(encoder.steps(x)))


def test_steps_can_be_asked_for_and_left_out():
    encoder, x = make("tcn"), torch.randn(2, 10, 3)
    z = encoder.steps(x)
    at = torch.tensor([[9, 0], [3, 3]])
    asked = encoder({"values": x, "at": at})
    assert torch.equal(asked, torch.stack([z[0, [9, 0]], z[1, [3, 3]]]))
    keep = torch.ones(2, 10, dtype=torch.bool)
    assert torch.equal(encoder.steps(x, keep), z)
    keep[:, 4] = False
    x2 = x.clone()
    x2[:, 4] += 1
    assert torch.equal(encoder.steps(x, keep), encoder.steps(x2, keep))


def test_what_cannot_work_is_refused():
    encoder = make()
    with pytest.raises(ConfigError, match="1 <= horizon <= length"):
        encoder.reshape(length=4, horizon=5, decoder=True)
    with pytest.raises(DataError, match=r"expected \(L, 3\).*\(a, b, c\)"):
        encoder.encode([np.zeros((5, 2))])
    with pytest.raises(DataError, match="NaN or infinity"):
        encoder.encode([np.full((5, 3), np.nan)])
    with pytest.raises(DataError, match="one length"):
        encoder.collate([np.zeros((5, 3)), np.zeros((6, 3))])
    with pytest.raises(DataError, match=r"the last 10 steps"):
        encoder.forecast(np.zeros((9, 3)))
    encoder.reshape(length=10, horizon=4, decoder=False)
    with pytest.raises(ModelError, match="no decoder"):
        encoder.forecast(np.zeros((10, 3)))
    with pytest.raises(ConfigError, match="channels=C"):
        SeriesEncoder(SeriesConfig())
    with pytest.raises(ConfigError, match="odd number"):
        SeriesConfig(kernel=4)


def test_reshaping_keeps_a_decoder_that_is_there():
    encoder = make()
    held = encoder.decoder
    encoder.reshape(length=12, horizon=6, decoder=True)
    assert encoder.decoder is held
    assert encoder.forecast(series().values[:12]).shape == (6, 3)


def test_it_is_exported(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    items = [series().values[i : i + 10] for i in range(3)]
    assert onnx(make("tcn"), tmp_path / "m.onnx", items=items) <= 1e-5


def test_a_trend_looks_back_and_never_ahead():
    head = TrendHead(3, 2, kernels=(1, 4))
    x = torch.randn(1, 9, 3, requires_grad=True)
    head(x)[0, 5].sum().backward()
    assert x.grad[0].abs().sum(1).nonzero().flatten().tolist() == [2, 3, 4, 5]
    ones = TrendHead(3, 2, kernels=(1,))
    torch.testing.assert_close(ones(x)[0, 0], ones.convolutions[0].weight[..., 0] @ x[0, 0] + ones.convolutions[0].bias)


def test_a_season_treats_each_frequency_by_itself():
    head = SeasonHead(2, 2, length=8)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[2, :, :, 0] = 3 * torch.eye(2)  # two waves in eight steps, three times as strong
    t = torch.arange(8) / 8
    wave, other = torch.cos(2 * torch.pi * 2 * t), torch.cos(2 * torch.pi * 3 * t)
    out = head(torch.stack((wave + other, other), dim=1)[None])
    torch.testing.assert_close(out[0], torch.stack((3 * wave, 0 * t), dim=1), atol=1e-5, rtol=1e-5)
