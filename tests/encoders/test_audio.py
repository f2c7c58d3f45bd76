"""The encoder of recordings: what is padding takes part in nothing, and how loud a recording is does not count."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders.audio import Attention, AudioTransformer, AudioTransformerConfig, rotated
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.audio import Recording

RNG = np.random.default_rng(0)


def noise(seconds, rate=8000):
    return Recording(RNG.normal(size=int(seconds * rate)).astype(np.float32) * 0.1, rate)


def build(seed=0, **settings):
    torch.manual_seed(seed)
    small = {"rate": 8000, "bands": 20, "channels": 4, "dim": 16, "depth": 3, "heads": 2, "kernel": 5}
    return AudioTransformer(AudioTransformerConfig(**(small | settings))).eval()


@pytest.mark.parametrize("blocks", ["conformer", "transformer"])
@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
def test_padding_takes_part_in_nothing(blocks, halvings):
    encoder = build(blocks=blocks, halvings=halvings)
    items = [noise(s) for s in (0.013, 0.31, 0.64)]
    data = encoder.collate(items)
    with torch.no_grad():
        together, mask = encoder.tokens(data)
        assert mask.shape[1] == encoder.places(data["frames"].shape[1])
        assert encoder.lengths(items).tolist() == mask.sum(1).tolist()
        for i, item in enumerate(items):
            alone, real = encoder.tokens(encoder.collate([item]))
            assert real.all()
            torch.testing.assert_close(together[i][mask[i]], alone[0], atol=1e-5, rtol=0)
        other = dict(data, frames=data["frames"].masked_fill(~data["attention_mask"].unsqueeze(-1), 7.0))
        torch.testing.assert_close(encoder.tokens(other)[0][mask], together[mask], atol=0, rtol=0)


def test_loudness_does_not_count():
    encoder, one = build(), noise(0.5)
    loud = Recording(one.samples * 3, one.rate)
    assert np.abs(encoder.encode([one]) - encoder.encode([loud])).max() < 1e-3
    x = encoder.frames(one)
    assert abs(float(x.mean())) < 1e-5
    assert float(x.var(correction=0)) == pytest.approx(1, abs=1e-4)


def test_a_layer_is_chosen_and_those_above_it_do_not_count():
    first, last = build(layer=1), build()
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), last.state_dict().values()))
    data = first.collate([noise(0.4), noise(0.2)])
    with torch.no_grad():
        every = last.layers(*last.features(data))
        assert len(every) == 3
        torch.testing.assert_close(first.tokens(data)[0], every[0])
        torch.testing.assert_close(last.tokens(data)[0], every[2])
        mask = last.features(data)[1]
        mean = (every[2] * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(last(data), mean)


def test_rotary_scores_depend_on_distance_alone():
    q, k = torch.randn(2, 1, 8, dtype=torch.float64).expand(2, 12, 8)
    scores = rotated(q) @ rotated(k).T
    for offset in range(-11, 12):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert not torch.allclose(scores[0, 0], scores[0, 5])
    torch.testing.assert_close(rotated(q).norm(dim=-1), q.norm(dim=-1))


def test_attention_written_out():
    torch.manual_seed(0)
    layer = Attention(8, 2, 0.0).eval()
    x, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    y = F.layer_norm(x, (8,), layer.norm.weight, layer.norm.bias)
    q, k, v = F.linear(y, layer.into.weight, layer.into.bias).view(2, 5, 3, 2, 4).unbind(2)
    out = torch.zeros(2, 5, 2, 4)
    for n in range(2):
        for h in range(2):
            scores = rotated(q[n, :, h]) @ rotated(k[n, :, h]).T / 4**0.5
            out[n, :, h] = scores.masked_fill(~mask[n], -torch.inf).softmax(-1) @ v[n, :, h]
    torch.testing.assert_close(layer(x, mask), layer.out(out.flatten(2)))


def test_other_rates_and_long_recordings():
    encoder = build(longest=0.5)
    assert encoder.collate([noise(0.5, 16000)])["frames"].shape == (1, 51, 20)
    assert encoder.collate([noise(3.0, 44100)])["frames"].shape == (1, 51, 20)
    assert encoder.lengths([noise(3.0)]).tolist() == [13]


def test_paths_and_numbers_are_encoded_too(tmp_path: Path):
    from scipy.io import wavfile

    encoder, one = build(), noise(0.3)
    wavfile.write(tmp_path / "a.wav", 8000, one.samples)
    z = encoder.encode([one, str(tmp_path / "a.wav"), {"array": one.samples, "sampling_rate": 8000}])
    assert np.abs(z - z[0]).max() < 1e-6
    with pytest.raises(DataError, match="not finite"):
        encoder.encode([{"array": [float("nan")], "sampling_rate": 8000}])
    with pytest.raises(DataError, match="no samples"):
        encoder.encode([{"array": [], "sampling_rate": 8000}])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dim": 18, "heads": 4}, "dim=18"),
        ({"kernel": 4}, "odd"),
        ({"layer": 4}, "blocks 1 to 3"),
        ({"blocks": "rnn"}, "conformer or transformer"),
        ({"hop": 0.0}, "hop=0.0"),
    ],
)
def test_settings_that_do_not_work_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        build(**settings)


@pytest.mark.parametrize("blocks", ["conformer", "transformer"])
def test_onnx_at_another_length(blocks, tmp_path: Path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    from counterpoint.encoders.export import onnx

    encoder, items = build(blocks=blocks, depth=2), [noise(0.2), noise(0.7)]
    assert onnx(encoder, tmp_path / "sound.onnx") <= 1e-5
    data = {name: x.numpy() for name, x in encoder.collate(items).items()}
    (given,) = runtime.InferenceSession(str(tmp_path / "sound.onnx")).run(None, data)
    assert np.abs(given - encoder.encode(items)).max() <= 1e-5
