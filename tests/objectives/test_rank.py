import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.rank import (
    angle,
    approx_ndcg,
    batch_triplet,
    complex_angle,
    cosent,
    lambda_rank,
    list_mle,
    list_net,
    margin_ranking,
    triplet,
)

double = torch.float64


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=double, generator=torch.Generator().manual_seed(seed))


def rows(*values):
    return torch.tensor(values, dtype=double)


# --- CoSENT and AnglE ------------------------------------------------------------------------------------------------


def test_cosent_is_the_log_sum_over_ordered_pairs():
    a, b = draw(2, 5, 3)
    score = rows(0.1, 3.0, 3.0, -1.0, 2.0)
    cos = torch.cosine_similarity(a, b).tolist()
    terms = [math.exp(4 * (cos[j] - cos[i])) for i, j in itertools.product(range(5), repeat=2) if score[i] > score[j]]
    assert len(terms) == 9  # ten pairs, one of them equal
    assert cosent(a, b, score, scale=4).item() == pytest.approx(math.log(1 + sum(terms)))


def test_only_the_order_of_scores_matters():
    a, b = draw(2, 6, 4)
    score = draw(6, seed=1)
    for loss in (cosent, angle):
        assert torch.equal(loss(a, b, score), loss(a, b, score.exp() * 100))


def test_equal_scores_teach_nothing():
    a, b = draw(2, 4, 4).unbind()
    a.requires_grad_()
    for loss in (cosent, angle):
        value = loss(a, b, torch.ones(4))
        assert value == 0
        assert torch.autograd.grad(value, a)[0].abs().max() == 0


def test_sorted_cosines_tend_to_no_loss_and_the_reverse_to_the_largest_gap():
    b = torch.eye(2, dtype=double)[[0, 0, 0]]
    a = rows([1, 0], [1, 1], [0, 1])  # cosines 1, 0.71, 0
    assert cosent(a, b, rows(3, 2, 1), scale=1000).item() < 1e-12
    assert cosent(a, b, rows(1, 2, 3), scale=1000).item() / 1000 == pytest.approx(1)


def test_complex_angle_by_hand_and_limits():
    # a = 1 + i, b = 1: a conj(b) = 1 + i, |a| |b| = sqrt 2. The other way round: 1 - i.
    assert complex_angle(rows([1, 1]), rows([1, 0])).item() == pytest.approx(2 / math.sqrt(2))
    assert complex_angle(rows([1, 0]), rows([1, 1])).item() == 0
    a, b = draw(2, 5, 3)
    real = torch.zeros(5, 3, dtype=double)
    assert torch.allclose(
        complex_angle(torch.cat([a, real], 1), torch.cat([b, real], 1)), torch.cosine_similarity(a, b).abs()
    )
    with pytest.raises(DataError, match="even width"):
        complex_angle(a, b)


# --- margins and triplets --------------------------------------------------------------------------------------------


def test_margins_by_hand():
    assert margin_ranking(rows(1, 0), rows(0.95, 0.5), margin=0.1).item() == pytest.approx((0.05 + 0.6) / 2)
    a, p, n = rows([0, 0]), rows([3, 4]), rows([0, 4])
    assert triplet(a, p, n, margin=1).item() == pytest.approx(2)
    assert triplet(a, p, n, margin=1, distance="squared").item() == pytest.approx(10)
    assert triplet(p, 2 * p, n, margin=0.5, distance="cosine").item() == pytest.approx(0.5 - 0.2)  # cos(p, n) = 0.8


POINTS, LABELS = rows([0], [1], [3], [3.5]), torch.tensor([0, 0, 1, 1])


def test_batch_triplets_by_hand():
    # distances 0-1: 1, 2-3: 0.5; nearest other label: 3, 2, 2, 2.5
    hard = [1 - 3, 1 - 2, 0.5 - 2, 0.5 - 2.5]
    assert batch_triplet(POINTS, LABELS, margin=2).item() == pytest.approx(sum(max(0, 2 + h) for h in hard) / 4)
    every = [
        2.2 + abs(POINTS[a] - POINTS[p]) - abs(POINTS[a] - POINTS[n])
        for a, p, n in itertools.product(range(4), repeat=3)
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]
    ]
    above = [float(x) for x in every if x > 0]
    assert batch_triplet(POINTS, LABELS, margin=2.2, mining="all").item() == pytest.approx(sum(above) / len(above))


def test_semi_hard_takes_the_nearest_negative_beyond_the_positive_or_else_the_farthest():
    z, labels = rows([0], [2], [1], [2.5], [-9]), torch.tensor([0, 0, 1, 2, 3])
    # anchor 0, positive at 2: negatives at 1, 2.5, 9 -> 2.5. anchor 1, positive at 2: negatives at 1, 0.5, 11 -> 11.
    assert batch_triplet(z, labels, margin=1, mining="semi-hard").item() == pytest.approx((1 + 2 - 2.5) / 2)
    # anchor 1, positive at 2: both negatives nearer, the farthest of them (1) is taken; anchor 0: 2.5.
    z, labels = z[:4], labels[:4]
    expected = ((1 + 2 - 2.5) + (1 + 2 - 1)) / 2
    assert batch_triplet(z, labels, margin=1, mining="semi-hard").item() == pytest.approx(expected)


def test_no_triplet_costs_nothing_and_equal_rows_have_finite_gradients():
    z = torch.zeros(4, 3, requires_grad=True)
    assert batch_triplet(z, torch.arange(4)) == 0
    assert batch_triplet(z, torch.zeros(4)) == 0
    for mining in ("hard", "semi-hard", "all"):
        loss = batch_triplet(z, LABELS, margin=0.2, mining=mining)
        assert loss.item() == pytest.approx(0.2)
        assert torch.autograd.grad(loss, z)[0].isfinite().all()
    with pytest.raises(ConfigError, match="hard, semi-hard or all"):
        batch_triplet(z, LABELS, mining="soft")
    with pytest.raises(ConfigError, match="euclidean, squared or cosine"):
        batch_triplet(z, LABELS, distance="manhattan")


def test_cosine_triplets_ignore_length():
    z, labels = draw(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    for mining in ("hard", "semi-hard", "all"):
        args = {"margin": 0.5, "distance": "cosine", "mining": mining}
        scaled = z * torch.arange(1, 7)[:, None]
        assert torch.allclose(batch_triplet(z, labels, **args), batch_triplet(scaled, labels, **args))


# --- lists -----------------------------------------------------------------------------------------------------------

RELEVANCE = rows([3, 0, 1, 2], [0, 1, 0, 0])


def test_list_net_is_a_cross_entropy_of_distributions():
    scores = draw(2, 4)
    expected = F.cross_entropy(scores / 0.5, RELEVANCE.softmax(1))
    assert torch.allclose(list_net(scores, RELEVANCE, temperature=0.5), expected)
    equal = RELEVANCE.clone().requires_grad_()
    assert torch.autograd.grad(list_net(equal, RELEVANCE), equal)[0].abs().max() < 1e-12


def test_list_mle_is_the_likelihood_of_the_sorted_list():
    scores = draw(1, 3)
    a, b, c = scores[0].exp().tolist()
    expected = -math.log(b / (a + b + c) * c / (a + c))  # relevance says b, c, a
    assert list_mle(scores, rows([0, 2, 1])).item() == pytest.approx(expected)


def test_lambda_rank_by_hand():
    scores, relevance = rows([0.0, 1.0]), rows([1.0, 0.0])
    # Places 2 and 1 now; the swap changes DCG by (1/log2 2 - 1/log2 3), the ideal is 1; scores differ by -1.
    weight = 1 - 1 / math.log2(3)
    expected = weight * math.log2(1 + math.exp(2.0))
    assert lambda_rank(scores, relevance, scale=2).item() == pytest.approx(expected)


def test_approx_ndcg_tends_to_ndcg():
    scores = rows([0.1, 0.9, 0.8, 0.3])
    relevance = rows([3, 0, 1, 2])
    dcg = 7 / math.log2(5) + 0 + 1 / math.log2(3) + 3 / math.log2(4)
    ideal = 7 + 3 / math.log2(3) + 1 / math.log2(4)
    value = approx_ndcg(scores, relevance, temperature=1e-4).item()
    assert value == pytest.approx(1 - dcg / ideal)
    assert approx_ndcg(relevance, relevance, temperature=1e-3).item() == pytest.approx(0)


@pytest.mark.parametrize("loss", [list_net, list_mle, lambda_rank, approx_ndcg])
def test_masked_entries_do_not_exist(loss):
    scores, mask = draw(2, 4), torch.tensor([[True, True, True, False], [True, True, False, False]])
    masked = loss(scores, RELEVANCE, mask=mask, reduction="none")
    assert torch.allclose(masked[0], loss(scores[:1, :3], RELEVANCE[:1, :3], reduction="none")[0])
    assert torch.allclose(masked[1], loss(scores[1:, :2], RELEVANCE[1:, :2], reduction="none")[0])
    padded = scores.masked_fill(~mask, -torch.inf).requires_grad_()
    assert torch.equal(loss(padded, RELEVANCE, mask=mask, reduction="none"), masked)
    assert torch.autograd.grad(loss(padded, RELEVANCE, mask=mask), padded)[0].isfinite().all()
    nothing = scores.clone().requires_grad_()
    value = loss(nothing, RELEVANCE, mask=torch.zeros(2, 4, dtype=torch.bool))
    assert value == 0
    assert torch.autograd.grad(value, nothing)[0].abs().max() == 0


@pytest.mark.parametrize("loss", [list_net, list_mle, lambda_rank, approx_ndcg])
def test_lists_do_not_care_in_which_order_entries_come(loss):
    scores, order = draw(2, 4), [2, 0, 3, 1]
    distinct = rows([3, 0, 1, 2], [0, 1, 2, 3])
    assert torch.allclose(loss(scores, distinct), loss(scores[:, order], distinct[:, order]))


def test_gradcheck():
    a, b = draw(5, 4).requires_grad_(), draw(5, 4, seed=1).requires_grad_()
    score = rows(0, 1, 1, 2, 5)
    assert torch.autograd.gradcheck(lambda x, y: cosent(x, y, score, scale=3), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: angle(x, y, score, scale=3), (a, b))
    s = draw(2, 4).requires_grad_()
    for loss in (list_net, list_mle, lambda_rank, approx_ndcg):
        assert torch.autograd.gradcheck(lambda x, f=loss: f(x, RELEVANCE), s)
    z, labels = draw(6, 3).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])
    for mining in ("hard", "semi-hard", "all"):
        assert torch.autograd.gradcheck(lambda x, m=mining: batch_triplet(x, labels, margin=5, mining=m), z)
