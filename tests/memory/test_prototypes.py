import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.memory.prototypes import MeanPrototypes, Prototypes


def test_scores_are_cosines_and_both_sides_learn():
    prototypes, z = Prototypes(5, 3), torch.randn(4, 3, requires_grad=True)
    scores = prototypes(z)
    expected = torch.cosine_similarity(z[:, None], prototypes.weight[None], dim=-1)
    assert torch.allclose(scores, expected, atol=1e-6)
    scores.square().sum().backward()
    # Cosines ignore length, so no gradient points along the vector itself.
    for vector in (z, prototypes.weight):
        assert vector.grad.abs().max() > 0
        assert (vector.grad * vector).sum(1).abs().max() < 1e-5


def test_mean_prototypes_move_to_the_mean_of_their_rows():
    prototypes = MeanPrototypes(3, 2, momentum=0.5)
    prototypes.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
    z = torch.tensor([[0.0, 4.0], [3.0, 0.0], [-1.0, 0.0]])
    prototypes.update(z, torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.0, 0.25, 0.0]]))
    first = 0.5 * torch.tensor([1.0, 0.0]) + 0.5 * torch.tensor([0.25, 1.0]) / 1.25
    second = 0.5 * torch.tensor([0.0, 1.0]) + 0.5 * torch.tensor([0.75 - 0.25, 0.0])
    expected = F.normalize(torch.stack([first, second, torch.tensor([0.6, 0.8])]), dim=1)  # the third has no row
    assert torch.allclose(prototypes.weight, expected)


def test_numbers_are_one_hot_assignments():
    one, other = MeanPrototypes(3, 2), MeanPrototypes(3, 2)
    z, labels = torch.randn(5, 2), torch.tensor([0, 2, 2, 0, 0])
    one.update(z, labels)
    other.update(z, F.one_hot(labels, 3).float())
    assert torch.equal(one.weight, other.weight)


def test_update_before_backward_is_safe():
    prototypes, z = MeanPrototypes(3, 2), torch.randn(4, 2, requires_grad=True)
    loss = prototypes(z).square().sum()
    expected = torch.autograd.grad(loss, z, retain_graph=True)[0]
    prototypes.update(z, torch.tensor([0, 1, 2, 0]))
    assert torch.equal(torch.autograd.grad(loss, z)[0], expected)


def test_bad_input_is_a_sentence():
    prototypes = MeanPrototypes(3, 2)
    with pytest.raises(DataError, match="do not fit 4 rows and 3 prototypes"):
        prototypes.update(torch.ones(4, 2), torch.ones(4, 5))
    with pytest.raises(DataError, match="Row 2 of 3"):
        prototypes.update(torch.tensor([[1.0, 1], [1, 1], [1, torch.nan]]), torch.tensor([0, 1, 2]))
