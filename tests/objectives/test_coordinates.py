"""Agreement of coordinates, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from counterpoint.errors import ConfigError
from counterpoint.objectives.coordinates import coordinate_kl


def test_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2) at any temperature T, as the coordinates are T times the logits.
    for t in (1.0, 0.5, 3.0):
        target, x = t * torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[2.0, 2.0]])
        expected = t * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
        assert float(coordinate_kl(x, target, temperature=t)) == pytest.approx(expected, rel=1e-5)


def test_equal_embeddings_agree_without_a_gradient() -> None:
    z = torch.randn(3, 5, dtype=torch.float64)
    x, target = z.clone().requires_grad_(), (z + 1).requires_grad_()  # a constant is no difference
    loss = coordinate_kl(x, target)
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-12
    assert target.grad is not None
    assert target.grad.abs().max() < 1e-12


def test_the_gradient_of_the_target_can_be_stopped() -> None:
    for stop in (False, True):
        x, target = torch.randn(2, 3, 5, dtype=torch.float64).unbind()
        x, target = x.clone().requires_grad_(), target.clone().requires_grad_()
        coordinate_kl(x, target, stop_gradient=stop).backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
        assert (target.grad is None) == stop


def test_a_temperature_is_positive() -> None:
    with pytest.raises(ConfigError, match="positive"):
        coordinate_kl(torch.ones(1, 2), torch.ones(1, 2), temperature=0)
