"""Negatives follow the softmax of the similarities, never the row itself; matching is cross entropy of two classes."""

import math

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.objectives.match import hard_negatives, matching


def test_each_negative_is_drawn_with_its_probability() -> None:
    similarity = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chance = similarity.softmax(1) + 0.1
    chance.fill_diagonal_(0)
    chance /= chance.sum(1, keepdim=True)
    steps = (torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000
    drawn = torch.stack([hard_negatives(similarity, u.expand(4), floor=0.1) for u in steps])
    for i in range(4):
        share = torch.bincount(drawn[:, i], minlength=4) / len(steps)
        torch.testing.assert_close(share.double(), chance[i], rtol=0, atol=1e-3)


def test_it_is_never_the_row_itself() -> None:
    sharp = 1e4 * torch.eye(5)  # all the mass is on the row itself
    for u in (0.0, 0.5, 1 - 1e-16, 1.0):
        found = hard_negatives(sharp, torch.full((5,), u, dtype=torch.float64))
        assert (found != torch.arange(5)).all()
        assert ((found >= 0) & (found < 5)).all()
    assert hard_negatives(torch.zeros(2, 2), torch.zeros(2)).tolist() == [1, 0]


def test_anchors_of_one_process_among_the_candidates_of_all() -> None:
    similarity = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    uniform = torch.tensor([0.1, 0.9, 0.4, 0.7, 1.0], dtype=torch.float64)
    whole = hard_negatives(similarity, uniform)
    for rows in (slice(0, 2), slice(2, 5), slice(0, 0)):
        found = hard_negatives(similarity[rows], uniform[rows], own=torch.arange(5)[rows])
        assert torch.equal(found, whole[rows])
    with pytest.raises(DataError, match="own"):
        hard_negatives(similarity[:2], uniform[:2], own=torch.arange(5))


def test_the_most_alike_is_the_likeliest_and_no_gradient_flows() -> None:
    similarity = torch.zeros(6, 6)
    similarity[:, 3], similarity[3, 1] = 30.0, 30.0
    found = hard_negatives(similarity.requires_grad_(), torch.rand(6, generator=torch.Generator().manual_seed(1)))
    assert found.tolist() == [3, 3, 3, 1, 3, 3]
    assert not found.requires_grad


def test_one_row_has_no_negative() -> None:
    with pytest.raises(DataError, match="of one row there is none"):
        hard_negatives(torch.zeros(1, 1), torch.zeros(1))
    with pytest.raises(DataError, match="expected"):
        hard_negatives(torch.zeros(2, 3), torch.zeros(2))


def test_matching_by_hand() -> None:
    true, false = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    expected = -(math.log(3 / 4) + math.log(1 / 2) + math.log(3 / 4)) / 3
    assert matching(true, false).item() == pytest.approx(expected)
    both = torch.cat((true, false))
    torch.testing.assert_close(matching(true, false), F.cross_entropy(both, torch.tensor([1, 0, 0])))
    assert matching(true, false, reduction="none").shape == (3,)
    with pytest.raises(DataError, match="logit for each of the two answers"):
        matching(torch.zeros(2, 3), false)
