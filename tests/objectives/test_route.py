"""Losses of routers: by hand, their limits, and that they have the gradients that the released code lacks."""

from __future__ import annotations

import math

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.route import expert_balance, expert_information, expert_known, joint_use


def test_information_of_a_table_by_hand() -> None:
    p = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
    groups = torch.tensor([0, 0, 1, 1])
    assert joint_use(p, groups, 2).tolist() == [[0.375, 0.125], [0.125, 0.375]]
    by_hand = 2 * (0.375 * math.log(0.375 / 0.25) + 0.125 * math.log(0.125 / 0.25))
    assert expert_information(p, groups, 2).item() == pytest.approx(-by_hand)


def test_information_is_the_entropy_where_groups_and_experts_are_one() -> None:
    sure = torch.eye(3, requires_grad=True)
    loss = expert_information(sure, torch.arange(3), 3)
    assert loss.item() == pytest.approx(-math.log(3))
    loss.backward()
    assert torch.isfinite(sure.grad).all()  # type: ignore[arg-type]
    assert expert_information(torch.full((4, 3), 1 / 3), torch.tensor([0, 1, 2, 0]), 3).item() == pytest.approx(0)


def test_one_group_alone_says_nothing_and_with_what_was_before_it_does() -> None:
    logits = torch.tensor([[0.3, 0.0], [0.1, 0.0]], requires_grad=True)
    groups = torch.zeros(2, dtype=torch.long)
    (grad,) = torch.autograd.grad(expert_information(logits.softmax(-1), groups, 2), logits)
    assert grad.abs().max() < 1e-7
    before = torch.tensor([[0.0, 0.0], [0.1, 0.9]], requires_grad=True)  # the other group uses the second expert
    expert_information(logits.softmax(-1), groups, 2, before=before, share=0.5).backward()
    assert (logits.grad[:, 0] < -1e-3).all()  # type: ignore[index]  # so this one should use the first
    assert before.grad is None


def test_a_group_counts_by_its_rows_not_by_their_square() -> None:
    p = torch.full((4, 2), 0.5)
    assert joint_use(p, torch.tensor([0, 0, 0, 1]), 2).sum(1).tolist() == [0.75, 0.25]


def test_balance_is_one_where_all_are_used_alike_and_their_number_where_one_is() -> None:
    even = torch.full((6, 3), 1 / 3)
    assert expert_balance(even, torch.eye(3).repeat(2, 1)).item() == pytest.approx(1)
    one = torch.tensor([[1.0, 0.0, 0.0]]).repeat(6, 1)
    assert expert_balance(one, one).item() == pytest.approx(3)


def test_balance_pushes_away_from_what_is_chosen_often() -> None:
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    chosen = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    expert_balance(logits.softmax(-1), chosen).backward()
    assert (logits.grad[:, 0] > 1e-3).all()  # type: ignore[index]
    assert chosen.grad is None or not chosen.grad.any()


def test_known_experts_are_cross_entropy() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    by_hand = [math.log(1 + math.exp(-2)), math.log(2)]
    assert expert_known(logits, torch.tensor([0, 1]), reduction="none").tolist() == pytest.approx(by_hand)
    assert expert_known(logits, torch.tensor([0, 1])).item() == pytest.approx(sum(by_hand) / 2)


def test_what_is_refused() -> None:
    p = torch.full((2, 2), 0.5)
    with pytest.raises(DataError, match="numbered 0 to 1"):
        expert_information(p, torch.tensor([0, 2]), 2)
    with pytest.raises(DataError, match="must hold the group"):
        joint_use(p, torch.tensor([0]), 2)
    with pytest.raises(ConfigError, match="share=0"):
        expert_information(p, torch.tensor([0, 1]), 2, share=0)
    with pytest.raises(DataError, match="one expert per row"):
        expert_known(p, torch.tensor([0]))
    with pytest.raises(DataError, match="one shape"):
        expert_balance(p, torch.zeros(2, 3))
