import itertools
import math

import pytest
import torch

from counterpoint.objectives.geometry import (
    alignment,
    effective_rank,
    eigen_alignment,
    isotropy,
    mean_pair_cosine,
    uniformity,
)


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


def test_alignment_of_unit_vectors():
    x, y = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [0.0, 9.0]])
    assert torch.allclose(alignment(x, y, reduction="none"), torch.tensor([2.0, 0.0]))
    assert alignment(x, y, alpha=1).item() == pytest.approx(math.sqrt(2) / 2)


def test_uniformity_against_all_pairs():
    z = draw(6, 3)
    u = unit(z)
    pairs = [math.exp(-3 * float((u[i] - u[j]).square().sum())) for i, j in itertools.combinations(range(6), 2)]
    assert uniformity(z, t=3).item() == pytest.approx(math.log(sum(pairs) / 15))
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-5)  # all in one point
    assert torch.autograd.gradcheck(uniformity, z.requires_grad_())


def test_effective_rank_counts_directions():
    assert effective_rank(7 * torch.eye(5)).item() == pytest.approx(5)
    assert effective_rank(torch.ones(9, 4)).item() == pytest.approx(1, abs=1e-4)  # collapse to a point
    assert effective_rank(draw(9, 1) * torch.ones(1, 4)).item() == pytest.approx(1, abs=1e-4)  # to a line
    two = torch.diag(torch.tensor([3.0, 1.0, 0.0]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(two).item() == pytest.approx(math.exp(entropy))
    shifted = torch.eye(4) - 0.25 + 100
    assert effective_rank(shifted, centred=True).item() == pytest.approx(3, abs=1e-2)


def test_mean_pair_cosine_against_all_pairs():
    z = draw(5, 3)
    cos = torch.corrcoef(z).new_tensor([float(unit(z)[i] @ unit(z)[j]) for i, j in itertools.permutations(range(5), 2)])
    assert mean_pair_cosine(z).item() == pytest.approx(cos.mean().item())
    assert mean_pair_cosine(torch.ones(4, 3)).item() == pytest.approx(1)
    assert mean_pair_cosine(torch.eye(4)).item() == 0


def test_isotropy():
    symmetric = torch.cat([torch.eye(3), -torch.eye(3)])
    assert isotropy(symmetric).item() == pytest.approx(1)
    assert isotropy(symmetric + torch.tensor([0.0, 0.0, 20.0])).item() < 1e-8


def test_eigen_alignment():
    moment = torch.tensor([[2.5, 1.5], [1.5, 2.5]])  # eigenvectors (1, 1) and (1, -1)
    assert float(eigen_alignment(moment @ moment, moment)) == pytest.approx(1)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert float(eigen_alignment(quarter, moment)) == pytest.approx(0, abs=1e-6)
    # (1, 1) is kept by W / 2, at 45 degrees to (1, 0); so is (1, -1).
    assert float(eigen_alignment(torch.diag(torch.tensor([1.0, 0.0])), moment)) == pytest.approx(0.5**0.5)


def test_fewer_than_two_rows_are_readable():
    one = torch.tensor([[1.0, 2.0]])
    assert (uniformity(one), mean_pair_cosine(one), effective_rank(one)) == (0, 0, pytest.approx(1, abs=1e-4))
    assert effective_rank(torch.zeros(0, 3)) == 1
