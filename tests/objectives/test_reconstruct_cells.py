"""Only hidden cells count; a sort of columns that is not there does not halve, one that is not hidden adds 0."""

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.objectives.reconstruct import masked_cells

DRAW = torch.Generator().manual_seed(0)
LOGITS, NUMBERS = torch.randn(3, 2, 4, generator=DRAW), torch.randn(3, 1, generator=DRAW)
CODES, VALUES = torch.tensor([[0, 3], [1, 2], [1, 3]]), torch.tensor([[1.0], [0.0], [-2.0]])
HIDDEN = torch.tensor([[True, False, False], [True, True, True], [False, False, True]])


def loss(hidden: torch.Tensor, logits=LOGITS, numbers=NUMBERS) -> torch.Tensor:
    return masked_cells(logits, numbers, codes=CODES, values=VALUES, hidden=hidden)


def test_by_hand() -> None:
    p = LOGITS.softmax(-1)
    entropy = -(p[0, 0, 0].log() + p[1, 0, 1].log() + p[1, 1, 2].log()) / 3
    square = (NUMBERS[1, 0] ** 2 + (NUMBERS[2, 0] + 2) ** 2) / 2
    torch.testing.assert_close(loss(HIDDEN), (entropy + square) / 2)


def test_what_is_not_hidden_has_no_gradient() -> None:
    logits, numbers = LOGITS.clone().requires_grad_(), NUMBERS.clone().requires_grad_()
    loss(HIDDEN, logits, numbers).backward()
    assert torch.equal(logits.grad.abs().sum(-1) > 0, HIDDEN[:, :2])
    assert torch.equal(numbers.grad.abs() > 0, HIDDEN[:, 2:])


def test_nothing_hidden_is_zero_and_not_a_division_by_it() -> None:
    logits = LOGITS.clone().requires_grad_()
    nothing = loss(torch.zeros_like(HIDDEN), logits)
    nothing.backward()
    assert nothing == 0
    assert not logits.grad.any()
    numbers_only = HIDDEN & torch.tensor([False, False, True])
    square = F.mse_loss(NUMBERS[1:], VALUES[1:])
    torch.testing.assert_close(loss(numbers_only), square / 2)


def test_a_table_of_one_sort() -> None:
    torch.testing.assert_close(
        masked_cells(None, NUMBERS, codes=CODES[:, :0], values=VALUES, hidden=HIDDEN[:, 2:]),
        F.mse_loss(NUMBERS[1:], VALUES[1:]),
    )
    torch.testing.assert_close(
        masked_cells(LOGITS, None, codes=CODES, values=VALUES[:, :0], hidden=HIDDEN[:, :2]),
        F.cross_entropy(LOGITS[HIDDEN[:, :2]], CODES[HIDDEN[:, :2]]),
    )


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(DataError, match="a place for each of 2 categories and 1 numbers"):
        loss(HIDDEN[:, :2])
    with pytest.raises(DataError, match="nothing predicted"):
        loss(HIDDEN, None, None)
