"""The face of the engine against losses that are known, written out here or in torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from counterpoint.objectives.contrast import contrast, distance
from counterpoint.objectives.pairing import (
    Debiased,
    Decoupled,
    Diagonal,
    FalseNegatives,
    Hardness,
    Importance,
    Labels,
    Listed,
    LogWeights,
    Margin,
    NotSame,
    NotSelf,
    Soft,
    TeacherSimilarity,
    views,
)

N, M, D = 13, 13, 5
backends = pytest.mark.parametrize("backend", ["reference", "tiled"])


def unit(n: int = N, d: int = D, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1)


def close(a: Tensor, b: Tensor | float, tolerance: float = 1e-10) -> None:
    b = torch.as_tensor(b, dtype=a.dtype)
    assert torch.allclose(a, b, rtol=tolerance, atol=tolerance), (a, b)


@backends
def test_one_positive_is_cross_entropy(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    s = 20 * q @ k.T
    own = torch.arange(N)
    loss = contrast(q, k, scale=20.0, backend=backend, tile=4)
    close(loss, cross_entropy(s, own))
    loss = contrast(q, k, Diagonal(), scale=20.0, both=True, backend=backend, tile=4)
    close(loss, (cross_entropy(s, own) + cross_entropy(s.T, own)) / 2)
    rows = contrast(q, k, scale=20.0, both=True, reduction="none", backend=backend, tile=4)
    close(rows, torch.cat([cross_entropy(x, own, reduction="none") for x in (s, s.T)]))
    close(contrast(q, k, scale=20.0, reduction="sum", backend=backend, tile=4), rows[:N].sum())


@backends
def test_extra_candidates_are_as_if_concatenated_and_seen_by_rows_only(backend: str) -> None:
    q, k, bank = unit(), unit(seed=1), unit(7, seed=2)
    own = torch.arange(N)
    s = 9 * q @ torch.cat([k, bank]).T
    close(contrast(q, k, scale=9.0, extra=bank, backend=backend, tile=4), cross_entropy(s, own))
    loss = contrast(q, k, scale=9.0, extra=bank, both=True, backend=backend, tile=4)
    close(loss, (cross_entropy(s, own) + cross_entropy(s[:, :N].T, own)) / 2)


@backends
def test_own_positive_against_a_queue_is_moco(backend: str) -> None:
    q, k, queue = unit(), unit(seed=1), unit(7, seed=2)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.07
    loss = contrast(q, k, Diagonal(own=True), scale=1 / 0.07, extra=queue, backend=backend, tile=4)
    close(loss, cross_entropy(logits, torch.zeros(N, dtype=torch.long)))


@backends
def test_supcon_formula(backend: str) -> None:
    z = unit()
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 1, 0, 3, -1])  # 3: alone; -1: unknown
    expected = []
    for i in range(N):
        others = [j for j in range(N) if j != i]
        positives = [j for j in others if y[j] == y[i] and y[i] >= 0]
        if positives:
            lse = torch.logsumexp(10 * z[others] @ z[i], 0)
            expected.append(sum(lse - 10 * z[i] @ z[p] for p in positives) / len(positives))
    assert len(expected) == N - 2
    for pairing in (Labels(y, self_pairs=False), Labels(y) & NotSelf(), NotSelf() & Labels(y)):
        close(contrast(z, z, pairing, scale=10.0, backend=backend, tile=4), torch.stack(expected).mean())


@backends
def test_views_are_nt_xent(backend: str) -> None:
    a, b = unit(6), unit(6, seed=1)
    z = torch.cat([a, b])
    s = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    partner = torch.arange(12).roll(6)
    close(contrast(z, z, views(6), scale=2.0, backend=backend, tile=5), cross_entropy(s, partner))


@backends
def test_siglip_formula(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    x = 8 * q @ k.T - 3
    z = 2 * torch.eye(N, dtype=torch.float64) - 1
    loss = contrast(q, k, scale=8.0, bias=-3.0, form="sigmoid", backend=backend, tile=4)
    close(loss, -logsigmoid(z * x).sum() / N)


@backends
def test_marginal_form_is_mil_nce(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    positives = [[i, (i + 1) % N] for i in range(N)]
    s = (6 * q @ k.T).exp()
    bags = torch.stack([s[i, positives[i]].sum() for i in range(N)])
    loss = contrast(q, k, Listed.ragged(positives), scale=6.0, form="marginal", backend=backend, tile=4)
    close(loss, (s.sum(1) / bags).log().mean())


@backends
def test_soft_targets_are_cross_entropy_with_probabilities(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    t = torch.rand(N, N, dtype=torch.float64)
    s = 4 * q @ k.T
    close(
        contrast(q, k, Soft(t, normalise=True), scale=4.0, backend=backend),
        cross_entropy(s, t / t.sum(1, keepdim=True)),
    )
    close(contrast(q, k, Soft(t), scale=4.0, backend=backend), cross_entropy(s, t))


@backends
@pytest.mark.parametrize("both", [False, True])
def test_teacher_similarity(backend: str, both: bool) -> None:
    q, k, teacher, other = unit(), unit(seed=1), unit(d=3, seed=2), unit(d=3, seed=3)
    s, c = 4 * q @ k.T, teacher @ other.T

    def expected(t: Tensor) -> Tensor:
        rows = cross_entropy(s, t / t.sum(1, keepdim=True))
        return (rows + cross_entropy(s.T, t.T / t.T.sum(1, keepdim=True))) / 2 if both else rows

    def given(**how: object) -> Tensor:
        pairing = TeacherSimilarity(teacher, other, **how)  # type: ignore[arg-type]
        return contrast(q, k, pairing, scale=4.0, backend=backend, both=both, tile=4)

    close(given(slope=0.5, intercept=0.5), expected(c / 2 + 0.5))
    close(given(clip=True), expected(c.clamp(min=0)))
    close(given(temperature=0.1), expected((c / 0.1).exp()))
    close(given(transform=lambda x: x.square()), expected(c.square()))


@backends
def test_teacher_at_a_very_small_temperature_is_a_hard_choice(backend: str) -> None:
    q, k, teacher, other = unit(), unit(seed=1), unit(d=3, seed=2), unit(d=3, seed=3)
    loss = contrast(q.float(), k.float(), TeacherSimilarity(teacher, other, temperature=1e-4), backend=backend, tile=4)
    close(loss, cross_entropy((q @ k.T).float(), (teacher @ other.T).argmax(1)), 1e-5)


@backends
def test_a_guide_takes_out_false_negatives(backend: str) -> None:
    """GISTEmbed, written out; the hard negatives are judged too."""
    q, k, hard = unit(), unit(seed=1), unit(4, seed=5)
    guide, guide_k, guide_hard = unit(seed=2), unit(seed=3), unit(4, seed=4)
    g = guide @ torch.cat([guide_k, guide_hard]).T
    s = 7 * q @ torch.cat([k, hard]).T
    own = torch.arange(N)
    positive = g[own, own, None]
    for kind, threshold in (("absolute", positive - 0.1), ("relative", positive - 0.1 * positive.abs())):
        out = g > threshold
        out[own, own] = False
        assert 0 < out.float().mean() < 1
        pairing = Diagonal() & FalseNegatives(guide, torch.cat([guide_k, guide_hard]), margin=0.1, kind=kind)
        loss = contrast(q, k, pairing, scale=7.0, extra=hard, backend=backend, tile=4)
        close(loss, cross_entropy(s.masked_fill(out, -torch.inf), own))


@backends
def test_hard_negatives_of_one_row_are_seen_by_it_alone(backend: str) -> None:
    q, k, hard = unit(), unit(seed=1), unit(6, seed=2)
    owner = torch.tensor([0, 0, 3, 12, 5, 0])
    extra = (7 * q @ hard.T).masked_fill(owner != torch.arange(N)[:, None], -torch.inf)
    s = torch.cat([7 * q @ k.T, extra], 1)
    loss = contrast(q, k, scale=7.0, extra=hard, owner=owner, backend=backend, tile=4)
    close(loss, cross_entropy(s, torch.arange(N)))


@backends
def test_decoupled_formula(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    s = 5 * q @ k.T
    negatives = torch.logsumexp(s.clone().fill_diagonal_(-torch.inf), 1)
    close(
        contrast(q, k, Diagonal() & Decoupled(), scale=5.0, backend=backend, tile=4), (negatives - s.diagonal()).mean()
    )


@backends
@pytest.mark.parametrize("prior", [0.0, 0.1, 0.9])
def test_debiased_formula(backend: str, prior: float) -> None:
    """Chuang et al. 2020, equation 8, written out; at 0.9 the floor holds for some rows."""
    q, k = unit(), unit(seed=1)
    s = 2 * q @ k.T
    n = N - 1
    p, q_mean = s.diagonal().exp(), (s.exp().sum(1) - s.diagonal().exp()) / n
    g = ((q_mean - prior * p) / (1 - prior)).clamp(min=math.exp(-2))
    expected = -(p / (p + n * g)).log().mean()
    close(contrast(q, k, Diagonal() & Debiased(prior), scale=2.0, backend=backend, tile=4), expected)
    floored = (q_mean - prior * p) / (1 - prior) < math.exp(-2)
    assert floored.any() == (prior == 0.9)


@backends
def test_hardness_formula(backend: str) -> None:
    """Robinson et al. 2021: negatives weighted by exp(beta S) over its mean, and debiased."""
    q, k = unit(), unit(seed=1)
    s, beta, prior, n = 2 * q @ k.T, 1.5, 0.1, N - 1
    off = ~torch.eye(N, dtype=torch.bool)
    w = (beta * s).exp() * off
    w = w / (w.sum(1, keepdim=True) / n)
    p, q_mean = s.diagonal().exp(), (w * s.exp()).sum(1) / n
    g = ((q_mean - prior * p) / (1 - prior)).clamp(min=math.exp(-2))
    pairing = Diagonal() & Hardness(beta, unit_mean=True) & Debiased(prior)
    close(contrast(q, k, pairing, scale=2.0, backend=backend, tile=4), -(p / (p + n * g)).log().mean())
    plain = p + ((beta * s).exp() * s.exp() * off).sum(1)
    close(contrast(q, k, Diagonal() & Hardness(beta), scale=2.0, backend=backend, tile=4), (plain / p).log().mean())


@backends
def test_weights_of_candidates_and_margin(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    s, own = 5 * q @ k.T, torch.arange(N)
    w = torch.rand(N, dtype=torch.float64)
    w[3] = 0
    log_w = w.log().expand(N, N).clone().fill_diagonal_(0)
    expected = (torch.logsumexp(s + log_w, 1) - s.diagonal()).mean()
    close(contrast(q, k, Diagonal() & Importance(w), scale=5.0, backend=backend, tile=4), expected)
    close(contrast(q, k, Diagonal() & LogWeights(log_w), scale=5.0, backend=backend, tile=4), expected)
    margin = torch.rand(N, dtype=torch.float64)
    loss = contrast(q, k, Diagonal() & Margin(margin), scale=5.0, backend=backend, tile=4)
    close(loss, cross_entropy(s - margin.diag(), own))
    loss = contrast(q, k, Diagonal() & Margin(0.3), scale=5.0, both=True, backend=backend, tile=4)
    close(loss, sum(cross_entropy(x - 0.3 * torch.eye(N, dtype=x.dtype), own) for x in (s, s.T)) / 2)


@backends
def test_scale_per_row_and_squared_distance(backend: str) -> None:
    q, k = 2 * unit(), 3 * unit(seed=1)
    scale = torch.rand(N, dtype=torch.float64) * 9
    own = torch.arange(N)
    close(contrast(q, k, scale=scale, backend=backend, tile=4), cross_entropy(scale[:, None] * (q @ k.T), own))
    d = torch.cdist(q, k).square()
    close(contrast(*distance(q, k), scale=0.7, backend=backend, tile=4), cross_entropy(-0.7 * d, own))


@backends
def test_same_source_negatives_are_left_out(backend: str) -> None:
    q, k = unit(), unit(seed=1)
    source = torch.arange(N) // 3
    s = 5 * q @ k.T
    out = (source[:, None] == source) & ~torch.eye(N, dtype=torch.bool)
    loss = contrast(q, k, Diagonal() & NotSame(source), scale=5.0, backend=backend, tile=4)
    close(loss, cross_entropy(s.masked_fill(out, -torch.inf), torch.arange(N)))


@backends
def test_rows_without_positives_or_candidates_are_zero_and_do_not_count(backend: str) -> None:
    q, k = unit().requires_grad_(), unit(seed=1).requires_grad_()
    pairing = Listed.ragged([[i] if i % 2 else [] for i in range(N)])
    losses = contrast(q, k, pairing, scale=5.0, reduction="none", backend=backend, tile=4)
    assert (losses[::2] == 0).all()
    assert (losses[1::2] > 0).all()
    close(contrast(q, k, pairing, scale=5.0, backend=backend, tile=4), losses[1::2].mean())
    losses.sum().backward()
    assert (q.grad[::2] == 0).all()
    everything = Diagonal() & NotSame(torch.zeros(N), spare=False)
    for form in ("softmax", "marginal", "sigmoid"):
        q.grad = None
        loss = contrast(q, k, everything, scale=500.0, form=form, backend=backend, tile=4)
        loss.backward()
        assert loss == 0
        assert (q.grad == 0).all()


def test_gradients_reach_only_what_asks_for_them() -> None:
    q, k, bank = unit(300).requires_grad_(), unit(300, seed=1), unit(300, seed=2)
    contrast(q, k, extra=bank, tile=64).backward()
    assert q.grad is not None
    assert k.grad is None
    assert bank.grad is None


def test_autocast_does_not_lower_the_precision_of_losses() -> None:
    q, k = unit(300).float(), unit(300, seed=1).float()
    plain = contrast(q, k, scale=20.0, both=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert contrast(q, k, scale=20.0, both=True) == plain
    half = contrast(q.bfloat16(), k.bfloat16(), scale=20.0, both=True)
    assert half.dtype == torch.float32
    assert abs(half - plain) < 0.01


@pytest.mark.parametrize("pairing", [Diagonal(), TeacherSimilarity(unit(700, 8, 3).float(), clip=True)])
def test_bfloat16_products_give_the_gradients_to_a_percent(pairing: object) -> None:
    q, k = unit(700, 64).float().requires_grad_(), unit(700, 64, seed=1).float().requires_grad_()
    exact = torch.autograd.grad(contrast(q, k, pairing, scale=20.0, both=True, tile=256), (q, k))
    rounded = torch.autograd.grad(
        contrast(q, k, pairing, scale=20.0, both=True, tile=256, precision="bfloat16"), (q, k)
    )
    for a, b in zip(exact, rounded):
        assert (a - b).norm() < 0.01 * a.norm()
        assert not torch.equal(a, b)


@pytest.mark.parametrize(("near", "share"), [(0.5, 0.01), (1.0, 0.03)])
def test_bfloat16_products_do_not_lose_what_is_left_to_learn(near: float, share: float) -> None:
    """Where every row finds its positive, the gradient is a difference of almost equal numbers.

    With p - T rounded after the subtraction, what is left is the rounding of single negatives (a loss of 0.0009, of
    which p - 1 in bfloat16 would leave nothing).
    """
    q = unit(700, 64).float().requires_grad_()
    k = normalize(near * q.detach() + unit(700, 64, seed=1).float(), dim=1).requires_grad_()

    def loss(precision: str) -> Tensor:
        return contrast(q, k, Diagonal(), scale=30.0, both=True, tile=256, precision=precision)  # type: ignore[arg-type]

    exact, rounded = loss("full"), loss("bfloat16")
    assert abs(exact - rounded) < share * exact
    for a, b in zip(torch.autograd.grad(exact, (q, k)), torch.autograd.grad(rounded, (q, k))):
        assert (a - b).norm() < share * a.norm()
