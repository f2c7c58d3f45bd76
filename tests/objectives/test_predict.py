import math

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.predict import negative_cosine, squared_error, symmetric_negative_cosine


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_hand_case():
    p, z = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    assert torch.allclose(negative_cosine(p, z, reduction="none"), torch.tensor([-24 / 25, 0.0]))
    assert math.isclose(negative_cosine(p, z), -12 / 25, rel_tol=1e-6)


@pytest.mark.parametrize("loss", [negative_cosine, squared_error])
def test_no_gradient_reaches_the_target(loss):
    p, z = draw(2, 5, 3).unbind()
    p.requires_grad_(), z.requires_grad_()
    loss(p, z).backward()
    assert z.grad is None
    assert p.grad.abs().min() > 0


def test_one_shared_encoder_learns_from_the_prediction_alone():
    """With p = w x and z = w y the gradient is that of p only: what makes SimSiam differ from plain attraction."""
    w = draw(3, 3, seed=1).requires_grad_()
    x, y = draw(2, 5, 3)
    stopped = torch.autograd.grad(negative_cosine(x @ w, y @ w), w)[0]
    constant = torch.autograd.grad(negative_cosine(x @ w, (y @ w).detach()), w)[0]
    both = torch.autograd.grad(-torch.cosine_similarity(x @ w, y @ w).mean(), w)[0]
    assert torch.equal(stopped, constant)
    assert not torch.allclose(stopped, both)


def test_normalised_squared_error_is_byols_form_of_the_cosine():
    p, z = draw(2, 7, 4)
    assert torch.allclose(squared_error(p, z, normalize=True), 2 + 2 * negative_cosine(p, z))


def test_each_view_predicts_the_other():
    p1, p2 = draw(2, 5, 3)
    # Every target is the *other* view's prediction exactly, so the crossing must give the least value.
    assert torch.allclose(symmetric_negative_cosine(p1, p2, p2, p1), torch.tensor(-1.0, dtype=torch.float64))
    assert symmetric_negative_cosine(p1, p2, p1, p2) > -0.9


def test_prediction_scale_is_free_and_gradcheck():
    p, z = draw(2, 4, 3)
    assert torch.allclose(negative_cosine(7 * p, z), negative_cosine(p, z / 3))
    assert torch.autograd.gradcheck(lambda q: negative_cosine(q, z, reduction="none"), p.requires_grad_())
    assert torch.autograd.gradcheck(lambda q: squared_error(q, z, normalize=True), p)


def test_no_rows_and_wrong_shapes():
    empty = torch.zeros(0, 3, requires_grad=True)
    loss = negative_cosine(empty, empty)
    loss.backward()
    assert loss == 0
    with pytest.raises(DataError, match=r"prediction \(2, 3\), target \(2, 4\)"):
        negative_cosine(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ConfigError, match="reduction='sum'"):
        negative_cosine(torch.ones(2, 3), torch.ones(2, 3), reduction="sum")
