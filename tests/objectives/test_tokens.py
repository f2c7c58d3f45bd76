"""Losses over tokens: by hand, at their limits, and where nothing counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.tokens import token_margin, token_nll

# Cosines of the first sequence: 0 (1, 2), 1/sqrt 2 (1, 3) and (2, 3); of the second: 1.
STATES = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], [[1.0, 0.0], [4.0, 0.0], [0.0, 9.0]]]).double()
MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_the_margin_by_hand() -> None:
    """max(0, .5 - 1 + cos): 0, .2071, .2071 in the first; .5 in the second; padding counts for nothing."""
    first = 2 * (math.sqrt(0.5) - 0.5) / 3
    assert torch.allclose(token_margin(STATES, mask=MASK, reduction="none"), torch.tensor([first, 0.5]).double())
    assert float(token_margin(STATES, mask=MASK)) == pytest.approx((first + 0.5) / 2)
    # 6 ordered pairs of the first, 2 of the second.
    assert float(token_margin(STATES, mask=MASK, weight="pairs")) == pytest.approx((6 * first + 2 * 0.5) / 8)


def test_the_margin_against_the_papers_double_sum() -> None:
    random = torch.Generator().manual_seed(0)
    states, margin = torch.randn(3, 7, 5, dtype=torch.float64, generator=random), 0.9
    lengths = [7, 4, 2]
    expected = []
    for h, n in zip(states, lengths):
        s = [[float(F.cosine_similarity(h[i], h[j], dim=0)) for j in range(n)] for i in range(n)]
        hinges = [max(0.0, margin - s[i][i] + s[i][j]) for i in range(n) for j in range(n) if j != i]
        expected.append(sum(hinges) / (n * (n - 1)))
    mask = torch.arange(7) < torch.tensor(lengths).unsqueeze(1)
    assert torch.allclose(
        token_margin(states, mask=mask, margin=margin, reduction="none"), torch.tensor(expected).double()
    )


def test_states_far_enough_apart_are_left_alone() -> None:
    states = torch.tensor([[[1.0, 0.0], [0.5, 1.0], [-1.0, 1.0]]], requires_grad=True)  # largest cosine .447
    token_margin(states, margin=0.5).backward()
    assert states.grad is not None
    assert not states.grad.any()
    loss = token_margin(states, margin=0.6)  # cosines above .4
    loss.backward()
    assert states.grad[0, :2].any()
    assert not states.grad[0, 2].any()  # whose cosines are below


def test_no_margin_is_no_loss() -> None:
    assert float(token_margin(STATES, mask=MASK, margin=0.0)) == pytest.approx(0.0, abs=1e-12)


def test_lengths_of_states_do_not_count() -> None:
    scale = torch.rand(2, 3, 1, generator=torch.Generator().manual_seed(1)).double() + 0.1
    assert torch.allclose(token_margin(STATES * scale, mask=MASK), token_margin(STATES, mask=MASK))


def test_what_is_padding_never_counts() -> None:
    other = STATES.clone()
    other[1, 2] = torch.nan
    states = other.requires_grad_()
    loss = token_margin(states, mask=MASK)
    loss.backward()
    assert loss.item() == pytest.approx(float(token_margin(STATES, mask=MASK)))
    assert states.grad is not None
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("weight", ["sequences", "pairs"])
def test_a_sequence_without_a_pair_counts_for_nothing(weight: str) -> None:
    one = torch.tensor([[True, False, False]])
    mask = torch.cat([MASK, one])
    states = torch.cat([STATES, STATES[:1]]).requires_grad_()
    loss = token_margin(states, mask=mask, weight=weight)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(float(token_margin(STATES, mask=MASK, weight=weight)))  # type: ignore[arg-type]
    alone = STATES[:1].clone().requires_grad_()
    nothing = token_margin(alone, mask=one, weight=weight)  # type: ignore[arg-type]
    nothing.backward()
    assert float(nothing) == 0
    assert alone.grad is not None
    assert not alone.grad.any()


def test_states_of_no_length_have_no_direction() -> None:
    states = torch.zeros(1, 3, 2, requires_grad=True)
    loss = token_margin(states)
    loss.backward()
    assert float(loss) == 0
    assert states.grad is not None
    assert states.grad.isfinite().all()


def test_the_next_token_by_hand() -> None:
    logits = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.1, 0.9], [0.3, 0.7]]]).log()
    target, mask = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[True, True], [True, False]])
    first, second = -(math.log(0.75) + math.log(0.5)) / 2, -math.log(0.1)
    assert token_nll(logits, target, mask=mask, reduction="none").tolist() == pytest.approx([first, second])
    assert float(token_nll(logits, target, mask=mask)) == pytest.approx((2 * first + second) / 3)  # tokens count alike
    expected = F.cross_entropy(logits.flatten(0, 1), target.flatten())
    assert float(token_nll(logits, target)) == pytest.approx(float(expected))
    assert float(token_nll(logits, target, mask=torch.zeros_like(mask))) == 0


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="sequences of tokens"):
        token_margin(STATES[0])
    with pytest.raises(DataError, match="mask is"):
        token_margin(STATES, mask=MASK[:, :2])
    with pytest.raises(ConfigError, match="margin=3"):
        token_margin(STATES, margin=3)
    with pytest.raises(ConfigError, match="weight="):
        token_margin(STATES, weight="tokens")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="target has shape"):
        token_nll(STATES, torch.zeros(2, 2, dtype=torch.long))
