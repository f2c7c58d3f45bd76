"""Pooling: hand-computed cases, masks with holes, rows without a token."""

from __future__ import annotations

import pytest
import torch

from counterpoint.encoders.pooling import pool, token_at
from counterpoint.errors import ConfigError

HIDDEN = torch.tensor([[[1.0, 8.0], [3.0, 4.0], [5.0, 0.0]]])
MODES = ["cls", "mean", "weighted", "last", "max"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [1.0, 8.0]),
        ("mean", [3.0, 4.0]),
        ("weighted", [(1 + 2 * 3 + 3 * 5) / 6, (8 + 2 * 4) / 6]),
        ("last", [5.0, 0.0]),
        ("max", [5.0, 8.0]),
    ],
)
def test_by_hand(mode, expected):
    for mask in (None, torch.ones(1, 3)):
        torch.testing.assert_close(pool(HIDDEN, mask, mode=mode), torch.tensor([expected]))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [3.0, 4.0]),
        ("mean", [4.0, 2.0]),
        ("weighted", [(3 + 2 * 5) / 3, 4 / 3]),
        ("last", [5.0, 0.0]),
        ("max", [5.0, 4.0]),
    ],
)
def test_padding_on_the_left(mode, expected):
    mask = torch.tensor([[0, 1, 1]])
    torch.testing.assert_close(pool(HIDDEN, mask, mode=mode), torch.tensor([expected]))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_masked_has_no_effect_and_no_gradient(mode):
    mask = torch.tensor([[1, 0, 1, 0]])
    a = torch.randn(1, 4, 3, requires_grad=True)
    b = a.detach().clone()
    b[0, [1, 3]] = 100.0
    torch.testing.assert_close(pool(a, mask, mode=mode), pool(b, mask, mode=mode))
    pool(a, mask, mode=mode).sum().backward()
    assert a.grad[0, [1, 3]].abs().max() == 0
    assert a.grad[0, [0, 2]].abs().max() > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_row_without_tokens_gives_zeros_and_finite_gradients(mode):
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    z = pool(hidden, torch.tensor([[0, 0, 0], [1, 1, 0]]), mode=mode)
    z.sum().backward()
    assert z[0].abs().max() == 0
    assert z[1].abs().max() > 0
    assert hidden.grad.isfinite().all()
    assert pool(torch.randn(2, 0, 4), torch.zeros(2, 0), mode=mode).tolist() == [[0.0] * 4] * 2


def test_unknown_mode_lists_what_there_is():
    with pytest.raises(ConfigError, match="cls, mean, weighted, last, max"):
        pool(HIDDEN, mode="median")


def test_the_token_at_a_place_is_counted_among_the_real_ones():
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    mask = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0]])
    for place, expected in [(0, [1, 4]), (1, [2, 6]), (-1, [3, 6]), (-2, [2, 4]), (2, [3, 0]), (-3, [1, 0])]:
        assert token_at(hidden, mask, place)[:, 0].tolist() == expected
    assert token_at(hidden, None, -2)[:, 0].tolist() == [2, 6]
