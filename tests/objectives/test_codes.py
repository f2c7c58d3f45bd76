"""Codes: their use, their prediction, and which others are drawn against them."""

import math

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.objectives.codes import (
    assignment_perplexity,
    code_contrast,
    code_cross_entropy,
    code_diversity,
    few_codes,
    others_of_group,
    perplexity,
)


def test_diversity_by_hand():
    # Codebook 1: half the frames take code 0, half code 1, of 4. Codebook 2: all take code 3.
    sure = 60.0
    first = F.one_hot(torch.tensor([0, 1, 0, 1]), 4) * sure
    second = F.one_hot(torch.tensor([3, 3, 3, 3]), 4) * sure
    found = code_diversity(torch.stack([first, second], 1).double())
    assert float(found) == pytest.approx((8 - 2 - 1) / 8)


def test_diversity_has_its_limits():
    assert float(code_diversity(torch.zeros(5, 2, 8))) == pytest.approx(0, abs=1e-6)
    one = (F.one_hot(torch.zeros(5, 1, dtype=torch.long), 8) * 60.0).double()
    assert float(code_diversity(one)) == pytest.approx(7 / 8)
    assert float(code_diversity(torch.zeros(0, 1, 8))) == 0
    assert float(perplexity(torch.zeros(0, 1, dtype=torch.long), 8)) == 1


def test_diversity_asks_frames_to_differ_not_to_be_unsure():
    # Sure frames that take all codes are as good as frames that take none.
    every = (F.one_hot(torch.arange(8), 8)[:, None] * 60.0).double()
    assert float(code_diversity(every)) == pytest.approx(0, abs=1e-6)


def test_cross_entropy_of_one_hot_codes_is_that_of_their_numbers():
    torch.manual_seed(0)
    logits, codes = torch.randn(7, 2, 5), torch.randint(5, (7, 2))
    expected = (F.cross_entropy(logits[:, 0], codes[:, 0]) + F.cross_entropy(logits[:, 1], codes[:, 1])) / 2
    torch.testing.assert_close(code_cross_entropy(logits, F.one_hot(codes, 5).float()), expected)


def test_the_target_keeps_its_gradient():
    logits, target = torch.randn(3, 1, 4), torch.full((3, 1, 4), 0.25, requires_grad=True)
    code_cross_entropy(logits, target).backward()
    torch.testing.assert_close(target.grad, -logits.log_softmax(-1) / 3)


def test_perplexity_of_codes_in_use():
    assert float(perplexity(torch.tensor([2, 2, 2]), 8)) == pytest.approx(1)
    assert float(perplexity(torch.arange(8), 8)) == pytest.approx(8)
    assert float(perplexity(torch.tensor([0, 0, 1, 1, 2, 2]), 8)) == pytest.approx(3)
    p = torch.tensor([0.75, 0.25])
    both = torch.tensor([[0, 5], [0, 5], [0, 5], [1, 5]])
    assert float(perplexity(both, 8)) == pytest.approx((math.exp(-(p * p.log()).sum()) + 1) / 2)


def test_perplexity_of_soft_assignments_is_that_of_their_mean():
    assert float(assignment_perplexity(torch.eye(4))) == pytest.approx(4)
    assert float(assignment_perplexity(torch.eye(4)[[1, 1, 1]])) == pytest.approx(1)
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])  # mean: 1/4, 1/2, 1/4
    assert float(assignment_perplexity(soft)) == pytest.approx(2**1.5)


def test_others_are_of_the_same_group_and_never_oneself():
    torch.manual_seed(0)
    groups = torch.tensor([4, 1, 4, 9, 1, 4, 7, 4])
    owner, drawn = others_of_group(groups, 200)
    assert len(owner) == len(drawn) == 6 * 200  # 9 and 7 are alone
    assert not (owner == drawn).any()
    assert (groups[owner] == groups[drawn]).all()
    assert owner.bincount(minlength=8).tolist() == [200, 200, 200, 0, 200, 200, 0, 200]
    seen = drawn[owner == 2].bincount(minlength=8)
    assert (seen[[0, 5, 7]] > 40).all()  # each of three about 67 times


def test_nothing_to_draw_from():
    for groups in (torch.zeros(0, dtype=torch.long), torch.arange(3)):
        owner, drawn = others_of_group(groups, 5)
        assert len(owner) == len(drawn) == 0
    with pytest.raises(DataError, match="count=0"):
        others_of_group(torch.zeros(3, dtype=torch.long), 0)


def frames(n=9):
    torch.manual_seed(0)
    anchors, targets = (F.normalize(torch.randn(n, 4), dim=1) for _ in range(2))
    codes = torch.tensor([[0, 1], [0, 1], [1, 0], [1, 1], [2, 2], [0, 1], [2, 0], [2, 1], [1, 0]])
    return anchors, targets, codes, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])


def test_frames_find_their_code_among_others_of_their_sequence():
    anchors, targets, codes, groups = frames()
    found = code_contrast(anchors, targets, codes=codes, size=3, groups=groups, scale=5.0)
    scores = 5 * anchors @ targets.T
    out = (groups[:, None] != groups) | (codes[:, None] == codes).all(-1) & ~torch.eye(9, dtype=torch.bool)
    torch.testing.assert_close(found, F.cross_entropy(scores.masked_fill(out, -torch.inf), torch.arange(9)))


def test_distractors_are_drawn_for_each_frame_and_none_has_its_code():
    anchors, targets, codes, groups = frames()
    torch.manual_seed(1)
    found = code_contrast(anchors, targets, codes=codes, size=3, groups=groups, scale=5.0, distractors=6)
    torch.manual_seed(1)
    owner, drawn = others_of_group(groups, 6)
    expected = []
    for i in range(9):
        others = [int(j) for j in drawn[owner == i] if not torch.equal(codes[j], codes[i])]
        scores = 5 * anchors[i] @ targets[[i, *others]].T
        expected.append(F.cross_entropy(scores[None], torch.tensor([0])))
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_few_codes_are_told():
    assert few_codes(torch.tensor(2.1), 100) == ""
    assert "their perplexity is 1.5 of 100" in few_codes(torch.tensor(1.5), 100)
