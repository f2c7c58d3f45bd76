"""Heads: layers in the order told, norms, unit prototypes, a projection that a folder keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from counterpoint.encoders import folder
from counterpoint.encoders.heads import (
    AsymmetricHead,
    DynamicHead,
    Predictor,
    Projected,
    Projector,
    PrototypeHead,
    dense_pooler,
)
from counterpoint.errors import ConfigError, DataError
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


def asymmetric(**settings):
    torch.manual_seed(0)
    head = AsymmetricHead(3, 5, 2, warmup=1, **settings).train()
    return head, torch.randn(6, 3), torch.randn(6, 3) + 1


def by(head, x, mean, var):
    x = head.into(x)
    return head.out((x - mean) / (var + head.norm.eps).sqrt() * head.norm.weight + head.norm.bias)


def by_batch(head, x):
    y = head.into(x)
    return by(head, x, y.mean(0), y.var(0, unbiased=False))


def test_an_asymmetric_head_normalises_one_role_by_its_batch_and_the_other_by_what_was_before():
    head, a, b = asymmetric()
    za, zb = head(a, b)  # warming up: both by their own batch
    torch.testing.assert_close(za, by_batch(head, a))
    torch.testing.assert_close(zb, by_batch(head, b))
    for step in range(1, 5):
        head.step()
        mean, var = head.norm.running_mean.clone(), head.norm.running_var.clone()
        za, zb = head(a, b)
        own, other = (b, a) if step % 2 else (a, b)
        found = (zb, za) if step % 2 else (za, zb)
        torch.testing.assert_close(found[0], by_batch(head, own))
        torch.testing.assert_close(found[1], by(head, other, mean, var))
        (za.square().sum() + zb.square().sum()).backward()  # statistics moved in between
        y = head.into(own)
        torch.testing.assert_close(head.norm.running_mean, 0.9 * mean + 0.1 * y.mean(0))


def test_rows_of_the_role_on_running_statistics_do_not_see_each_other():
    head, a, b = asymmetric()
    head(a, b)
    head.step()
    a.requires_grad_()
    b.requires_grad_()
    za, zb = head(a, b)  # step 1: b by its batch, a by running statistics
    of_a, of_b = torch.autograd.grad(za[0].sum(), a, retain_graph=True)[0], torch.autograd.grad(zb[0].sum(), b)[0]
    assert not of_a[1:].any()
    assert of_b[1:].abs().max() > 0


def test_an_asymmetric_head_goes_on_from_its_state_and_is_plain_in_eval():
    head, a, b = asymmetric()
    for _ in range(2):
        head(a, b)
        head.step()
    other, _, _ = asymmetric()
    other.load_state_dict(head.state_dict())
    for x, y in zip(head(a, b), other(a, b), strict=True):
        assert torch.equal(x, y)
    head.eval()
    mean, var = head.norm.running_mean.clone(), head.norm.running_var.clone()
    for x, y in zip(head(a, b), (a, b), strict=True):
        torch.testing.assert_close(x, by(head, y, mean, var))
    assert torch.equal(mean, head.norm.running_mean)


def test_an_ordinary_head_uses_both_batches_always_and_one_row_is_refused():
    head, a, b = asymmetric(asymmetric=False)
    for _ in range(3):
        head.step()
        torch.testing.assert_close(head(a, b), (by_batch(head, a), by_batch(head, b)))
    with pytest.raises(DataError, match="at least 2 rows"):
        head(a[:1], b[:1])
    with pytest.raises(ConfigError, match="warmup=0"):
        AsymmetricHead(3, 5, 2, warmup=0)


def test_a_dense_pooler_begins_as_its_activation_alone() -> None:
    z = torch.randn(4, 3)
    torch.testing.assert_close(dense_pooler(3)(z), z.tanh())
    torch.testing.assert_close(dense_pooler(3, "gelu")(z), nn.functional.gelu(z))
    assert torch.equal(dense_pooler(3, "none")(z), z)
    with pytest.raises(ConfigError, match="tanh, gelu or none"):
        dense_pooler(3, "relu")  # type: ignore[arg-type]
