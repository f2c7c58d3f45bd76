"""The quantiser: hard in value, soft in gradient; its temperature is part of its state."""

import pytest
import torch

from counterpoint.encoders.quantiser import GumbelQuantiser
from counterpoint.errors import ConfigError


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return GumbelQuantiser(6, **({"codes": 5, "out": 8, "groups": 2} | settings))


def test_shapes_and_that_vectors_are_entries():
    quantiser, x = build(), torch.randn(7, 6)
    found = quantiser(x)
    assert (found.vectors.shape, found.codes.shape, found.logits.shape) == ((7, 8), (7, 2), (7, 2, 5))
    expected = torch.cat([quantiser.entries[g][found.codes[:, g]] for g in range(2)], 1)
    torch.testing.assert_close(found.vectors, expected)
    assert torch.equal(found.choice.argmax(-1), found.codes)
    torch.testing.assert_close(found.choice.sum(-1), torch.ones(7, 2))


def test_without_training_the_largest_logit_is_taken():
    quantiser, x = build().eval(), torch.randn(7, 6)
    found = quantiser(x)
    assert torch.equal(found.codes, found.logits.argmax(-1))
    torch.testing.assert_close(found.logits.flatten(1), quantiser.into(x))


def test_codes_are_drawn_in_proportion_to_their_softmax():
    quantiser = build(codes=3, groups=1, temperature=0.3)
    with torch.no_grad():
        quantiser.into.weight.zero_()
        quantiser.into.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    codes = quantiser(torch.zeros(20_000, 6)).codes[:, 0]
    share = codes.bincount(minlength=3) / 20_000
    torch.testing.assert_close(share, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.015, rtol=0)


def test_the_gradient_is_that_of_the_softmax():
    quantiser, x = build(groups=1, temperature=0.7), torch.randn(4, 6)
    torch.manual_seed(3)
    found = quantiser(x)
    weight = torch.randn(4, 1, 5)
    (found.choice * weight).sum().backward()
    torch.manual_seed(3)
    logits = quantiser.into(x).unflatten(-1, (1, 5)).detach().requires_grad_()
    noise = -torch.empty_like(logits).exponential_().log()
    (((logits + noise) / 0.7).softmax(-1) * weight).sum().backward()
    torch.testing.assert_close(quantiser.into.bias.grad, logits.grad.sum((0, 1)))


def test_the_temperature_cools_to_its_floor_and_is_saved():
    quantiser = build(temperature=2.0, coldest=0.5, cooling=0.5)
    quantiser.cool()
    assert float(quantiser.temperature) == 1.0
    other = build(seed=1)
    other.load_state_dict(quantiser.state_dict())
    assert float(other.temperature) == 1.0
    for _ in range(3):
        quantiser.cool()
    assert float(quantiser.temperature) == 0.5


@pytest.mark.parametrize(
    "settings", [{"out": 7}, {"codes": 1}, {"temperature": 0.1, "coldest": 0.5}, {"cooling": 1.1}, {"cooling": 0.0}]
)
def test_settings_that_do_not_work_are_refused(settings):
    with pytest.raises(ConfigError, match="expected"):
        build(**settings)
