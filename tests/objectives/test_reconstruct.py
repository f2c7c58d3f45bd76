import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.reconstruct import masked_mse, scaled_cosine_error

MASK = torch.tensor([[True, False, True], [False, False, True]])


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_scaled_cosine_error_by_hand():
    z, x = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    assert torch.allclose(scaled_cosine_error(z, x, gamma=2, reduction="none"), torch.tensor([1.0, 0.0]), atol=1e-6)
    assert scaled_cosine_error(-z, z, gamma=3).item() == pytest.approx(8)


def test_gamma_one_is_the_cosine_distance():
    z, x = draw(2, 7, 4)
    assert torch.allclose(scaled_cosine_error(z, x, gamma=1), 1 - torch.cosine_similarity(z, x).mean())


@pytest.mark.parametrize("loss", [scaled_cosine_error, masked_mse])
def test_what_was_not_hidden_does_not_matter(loss):
    z, x = draw(2, 2, 3, 4).unbind()
    z.requires_grad_()
    grad = torch.autograd.grad(loss(z, x, mask=MASK), z)[0]
    assert grad[~MASK].abs().max() == 0
    assert grad[MASK].abs().min() > 0
    changed = torch.where(MASK[..., None], z, 100.0)
    assert torch.equal(loss(changed, x, mask=MASK), loss(z, x, mask=MASK))
    assert loss(z, x, mask=MASK, reduction="none").shape == (3,)


@pytest.mark.parametrize("loss", [scaled_cosine_error, masked_mse])
def test_nothing_hidden_costs_nothing(loss):
    z = draw(2, 3, 4).requires_grad_()
    value = loss(z, draw(2, 3, 4, seed=1), mask=torch.zeros(2, 3, dtype=torch.bool))
    assert value == 0
    assert torch.autograd.grad(value, z)[0].abs().max() == 0


def test_rows_without_direction_are_left_out():
    z, x = draw(3, 4), draw(3, 4, seed=1)
    x[1] = 0
    assert torch.equal(scaled_cosine_error(z, x), scaled_cosine_error(z[[0, 2]], x[[0, 2]]))


def test_perfect_reconstruction_has_a_finite_gradient():
    z = draw(5, 4).requires_grad_()
    loss = scaled_cosine_error(z, z.detach() * 2, gamma=1.5)
    assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_masked_mse_by_hand_and_normalised_targets():
    z, x = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]])
    assert masked_mse(z, x) == 2
    x = draw(4, 6)
    unit = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)
    assert masked_mse(unit, 10 * x + 3, normalize_target=True).item() < 1e-10


def test_gradcheck_and_bad_input():
    z, x = draw(4, 3).requires_grad_(), draw(4, 3, seed=1)
    for loss in (scaled_cosine_error, masked_mse):
        assert torch.autograd.gradcheck(lambda q, f=loss: f(q, x), z)
    with pytest.raises(ConfigError, match="gamma >= 1"):
        scaled_cosine_error(z, x, gamma=0.5)
    with pytest.raises(DataError, match=r"expected torch.bool \(4,\)"):
        masked_mse(z, x, mask=torch.ones(4))
