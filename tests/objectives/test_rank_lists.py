"""Losses that order the similarities of a batch by graded scores, computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from counterpoint.objectives.rank import descending_ranks, pearson, pro, rank_kl

LOSSES: list[Callable[[Tensor, Tensor], Tensor]] = [pearson, rank_kl, pro]


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_pearson_is_one_minus_the_correlation() -> None:
    similarity, score = of(0.1, 0.7, 0.3, -0.2), of(1.0, 5.0, 2.0, 2.0)
    expected = 1 - np.corrcoef(similarity.numpy(), score.numpy())[0, 1]
    assert float(pearson(similarity, score)) == pytest.approx(expected, rel=1e-12)
    assert float(pearson(similarity, 3 * score - 7)) == pytest.approx(expected, rel=1e-12)
    assert float(pearson(score / 10, score)) == pytest.approx(0, abs=1e-12)
    assert float(pearson(-score / 10, score)) == pytest.approx(2)


def test_equal_scores_share_a_rank() -> None:
    assert descending_ranks(of(3, 1, 1)).tolist() == [0, 1.5, 1.5]
    assert descending_ranks(of(2, 5, 5, 5, 0)).tolist() == [3, 1, 1, 1, 4]


def test_rank_kl_by_hand_with_a_tie() -> None:
    similarity, score, t = of(0.2, 0.5, 0.1), of(3, 1, 1), 0.5
    p = np.exp(np.array([1, 0.25, 0.25]) / t)  # (N - 1 - r) / (N - 1) of the ranks 0, 1.5, 1.5
    q = np.exp(similarity.numpy() / t)
    p, q = p / p.sum(), q / q.sum()
    expected = float((p * np.log(p / q)).sum())
    assert float(rank_kl(similarity, score, temperature=t, reduction="sum")) == pytest.approx(expected, rel=1e-12)
    assert float(rank_kl(similarity, score, temperature=t)) == pytest.approx(expected / 3, rel=1e-12)
    assert float(rank_kl(similarity, 100 * score, temperature=t)) == pytest.approx(expected / 3, rel=1e-12)
    fitting = of(1.0, 0.25, 0.25) + 4  # a softmax does not see what is added to all
    assert float(rank_kl(fitting, score, temperature=t)) == pytest.approx(0, abs=1e-12)


def test_pro_by_hand_with_a_margin() -> None:
    s, y, t = of(0.3, 0.8, -0.1), of(1.0, 0.4, 0.3), 0.5

    def term(own: float, others: list[float]) -> float:
        return -math.log(math.exp(own) / (math.exp(own) + sum(map(math.exp, others))))

    first = term(0.7 * 0.3 / t, [0.6 * 0.8 / t, 0.7 * -0.1 / t])
    second = term(0.1 * 0.8 / t, [0.1 * -0.1 / t])
    assert float(pro(s, y, temperature=t)) == pytest.approx((first + second) / 2, rel=1e-9)
    # With a margin of 0.2 the second is above none, and is left out.
    assert float(pro(s, y, temperature=t, margin=0.2)) == pytest.approx(first, rel=1e-9)
    assert float(pro(s[[2, 0, 1]], y[[2, 0, 1]], temperature=t)) == pytest.approx((first + second) / 2, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("score", [of(2, 2, 2, 2), of(1), of()])
def test_equal_scores_teach_nothing_and_carry_a_gradient_of_zero(
    loss: Callable[[Tensor, Tensor], Tensor], score: Tensor
) -> None:
    similarity = torch.linspace(-0.5, 0.5, len(score), dtype=torch.float64).requires_grad_()
    found = loss(similarity, score)
    assert float(found.detach()) == 0
    found.backward()
    assert similarity.grad is not None
    assert similarity.grad.tolist() == [0] * len(score)


@pytest.mark.parametrize("loss", LOSSES)
def test_raising_a_low_pair_that_is_ranked_high_raises_the_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    similarity = of(0.2, 0.1, 0.6).requires_grad_()  # the last should be the lowest
    loss(similarity, of(1.0, 0.5, 0.0)).backward()
    assert similarity.grad is not None
    assert similarity.grad[2] > 0
    assert similarity.grad[0] < 0


def test_collapsed_similarities_have_a_finite_gradient() -> None:
    similarity = torch.full((4,), 0.9, dtype=torch.float64, requires_grad=True)
    pearson(similarity, of(0, 1, 2, 3)).backward()
    assert similarity.grad is not None
    assert torch.isfinite(similarity.grad).all()
    assert similarity.grad[3] < 0 < similarity.grad[0]  # apart, in the right order
