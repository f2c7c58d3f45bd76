"""Heads: layers in the order told, norms, unit prototypes, a projection that a folder keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from counterpoint.encoders import folder
from counterpoint.encoders.heads import DynamicHead, Predictor, Projected, Projector, PrototypeHead
from counterpoint.errors import ConfigError
from tests.encoders.samples import TEXTS, static


def kinds(net: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in net.children()]


def test_projector_layers():
    assert kinds(Projector(4, (8,), 2)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(Projector(4, (8, 6), 2, norm=None)) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(Projector(4, (), 2)) == ["Linear"]
    net = Projector(4, (8,), 2, norm="layer", affine=False, norm_out=True)
    assert kinds(net) == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm"]
    assert not any(isinstance(m, nn.LayerNorm) and list(m.parameters()) for m in net.modules())
    assert all(m.bias is None for m in net if isinstance(m, nn.Linear))


def test_projector_output_norm_standardises_the_batch():
    z = Projector(4, (8,), 3, norm_out=True)(torch.randn(64, 4))
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), atol=1e-2, rtol=0)


def test_predictor_keeps_the_width():
    net = Predictor(16, 4)
    assert net[0].out_features == 4
    assert net(torch.randn(5, 16)).shape == (5, 16)


def test_prototypes_are_cosines_whatever_the_scale():
    head = PrototypeHead(8, 3)
    z = torch.randn(5, 8)
    torch.testing.assert_close(head(z), head(7 * z))
    with torch.no_grad():
        head.weight.mul_(3)
    torch.testing.assert_close(
        head(head.weight), nn.functional.cosine_similarity(head.weight[:, None], head.weight[None], dim=-1)
    )


@pytest.mark.parametrize("wrong", [{"norm": "group"}, {"norm": None, "norm_out": True}, {"hidden": (0,)}])
def test_wrong_projectors_are_refused(wrong):
    with pytest.raises(ConfigError):
        Projector(4, **({"hidden": (8,), "out": 2} | wrong))


def test_projected_is_the_map_of_the_encoder_below(tmp_path):
    below = static()
    encoder = Projected(below, 5).eval()
    data = encoder.collate(TEXTS)
    torch.testing.assert_close(encoder(data), below(data) @ encoder.projection.weight.T)
    assert (encoder.dim, encoder.modality) == (5, "text")
    encoder.prompts = {"query": "q "}
    folder.save(encoder, tmp_path / "m")
    again = folder.load(tmp_path / "m")
    assert abs(again.encode(TEXTS) - encoder.encode(TEXTS)).max() < 1e-6
    assert again.prompts == {"query": "q "}


def test_a_dynamic_head_follows_its_words_whatever_their_length():
    torch.manual_seed(0)
    head, words = DynamicHead(4, 3).eval(), torch.rand(6, 4)
    weights = head(words)
    assert weights.shape == (6, 3)
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(head(5 * words), weights)
    torch.testing.assert_close(head(words.flip(0)), weights.flip(0))
