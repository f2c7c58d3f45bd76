import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.cluster import prototype_cross_entropy, sinkhorn, swapped_prediction


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_marginals():
    q = sinkhorn(draw(24, 6), epsilon=0.5, iterations=500)
    assert torch.allclose(q.sum(1), torch.ones(24, dtype=torch.float64))
    assert torch.allclose(q.sum(0), torch.full((6,), 4.0, dtype=torch.float64), atol=1e-8)
    prior = torch.tensor([0.5, 0.3, 0.2])
    q = sinkhorn(draw(20, 3), epsilon=0.5, iterations=500, prior=prior)
    assert torch.allclose(q.sum(0), 20 * prior.double(), atol=1e-6)


def test_plain_form_agrees():
    """The textbook form, multiplied out in the plain domain."""
    scores = draw(8, 5)
    q = (scores / 0.3).exp().T
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / 5
        q = q / q.sum(0, keepdim=True) / 8
    assert torch.allclose(sinkhorn(scores, epsilon=0.3), (q * 8).T)


def test_assignment_ignores_what_a_row_or_a_prototype_adds_to_all():
    scores = draw(10, 4)
    q = sinkhorn(scores, epsilon=0.4, iterations=400)
    moved = scores + draw(10, 1, seed=1) + draw(1, 4, seed=2)
    assert torch.allclose(sinkhorn(moved, epsilon=0.4, iterations=400), q, atol=1e-7)


def test_no_score_overflows():
    scores = torch.tensor([[1000.0, 0.0], [999.0, 0.0]])
    q = sinkhorn(scores, epsilon=0.01, iterations=50)
    assert q.isfinite().all()
    assert torch.equal(q.round(), torch.eye(2))  # balance gives the second prototype its best row


def test_queue_takes_part_in_the_balance_but_is_not_returned():
    scores, queue = draw(3, 4), draw(30, 4, seed=1)
    q = sinkhorn(scores, extra=queue, iterations=5)
    assert q.shape == (3, 4)
    assert torch.equal(q, sinkhorn(torch.cat([scores, queue]), iterations=5)[:3])
    assert not torch.allclose(q, sinkhorn(scores, iterations=5))


def test_cross_entropy_targets():
    scores, labels = draw(6, 4), torch.tensor([0, 1, 2, 3, 1, 0])
    expected = F.cross_entropy(scores / 0.2, labels)
    assert torch.allclose(prototype_cross_entropy(scores, labels, temperature=0.2), expected)
    soft = F.one_hot(labels, 4).double()
    assert torch.allclose(prototype_cross_entropy(scores, soft, temperature=0.2), expected)


def test_swapped_prediction_swaps_and_stops_the_gradient():
    a, b = draw(2, 6, 4).tanh()
    q_a, q_b = sinkhorn(a), sinkhorn(b)
    expected = (-(q_b * (a / 0.1).log_softmax(1)).sum(1) - (q_a * (b / 0.1).log_softmax(1)).sum(1)).mean() / 2
    assert torch.allclose(swapped_prediction(a, b), expected)
    a.requires_grad_()
    grad = torch.autograd.grad(swapped_prediction(a, b), a)[0]
    assert torch.allclose(grad, ((a / 0.1).softmax(1) - q_b) / 0.1 / 12)  # as if q_b and q_a were constants


def test_bad_input_is_a_sentence():
    with pytest.raises(ConfigError, match="epsilon > 0"):
        sinkhorn(draw(3, 3), epsilon=0)
    with pytest.raises(DataError, match="same prototypes"):
        sinkhorn(draw(3, 3), extra=draw(3, 4))
    assert sinkhorn(draw(0, 3)).shape == (0, 3)
    with pytest.raises(DataError, match="at least 1 rows; 0"):
        swapped_prediction(draw(0, 3), draw(0, 3))
