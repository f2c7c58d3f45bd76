"""Every objective of the taxonomy in docs/taxonomy.md, built from parts of the library, is its equation."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import DataError
from counterpoint.memory.queue import Queue
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.geometry import alignment, uniformity
from counterpoint.objectives.margin import consistency_js, pair_margin, sequence_margin, unlikelihood
from counterpoint.objectives.match import matching
from counterpoint.objectives.nce import binary_nce, js_bound, ranking_nce, residual_energy, token_nce
from counterpoint.objectives.pairing import Debiased, Diagonal, Hardness, Labels, NotSelf, OnlyOwn
from counterpoint.objectives.rank import margin_ranking, triplet
from counterpoint.objectives.reduce import reduced

N, K, D, T = 6, 5, 4, 0.2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(normal(*shape, seed=seed), dim=-1)


def same(a: Tensor, b: Tensor | float) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype))


@pytest.fixture
def scored() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of positives and negatives, and the noise's log-probabilities of both."""
    noise = normal(N, K + 1, seed=1).log_softmax(1)
    return normal(N), normal(N, K, seed=2), noise[:, 0], noise[:, 1:]


@pytest.fixture
def qk() -> tuple[Tensor, Tensor]:
    return unit(N, D), unit(N, D, seed=1)


def info_nce(s: Tensor) -> Tensor:
    """O4 of a matrix of scaled scores, positives on the diagonal."""
    return (s.exp().sum(1).log() - s.diagonal()).mean()


def test_o1_binary_nce(scored: tuple[Tensor, ...]) -> None:
    s, t, log_p, log_p_negatives = scored
    s_hat, t_hat = s - (K * log_p.exp()).log(), t - (K * log_p_negatives.exp()).log()
    expected = -s_hat.sigmoid().log() - (1 - t_hat.sigmoid()).log().sum(1)
    same(binary_nce(s, t, log_noise=log_p, log_noise_negatives=log_p_negatives), expected.mean())


def test_o2_ranking_nce(scored: tuple[Tensor, ...]) -> None:
    s, t, log_p, log_p_negatives = scored
    up, down = (s - log_p).exp(), (t - log_p_negatives).exp().sum(1)
    same(ranking_nce(s, t, log_noise=log_p, log_noise_negatives=log_p_negatives), -(up / (up + down)).log().mean())


def test_o3_negative_sampling_and_its_form_in_a_batch(scored: tuple[Tensor, ...], qk: tuple[Tensor, Tensor]) -> None:
    s, t, *_ = scored
    same(binary_nce(s, t), (-s.sigmoid().log() - (-t).sigmoid().log().sum(1)).mean())
    q, k = qk
    scores = q @ k.T / T
    others = scores[~torch.eye(N, dtype=torch.bool)].view(N, N - 1)
    same(contrast(q, k, scale=1 / T, form="sigmoid"), binary_nce(scores.diagonal(), others))


def test_o4_info_nce_and_its_bound(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    loss = contrast(q, k, Diagonal(), scale=1 / T)
    same(loss, info_nce(q @ k.T / T))
    # log(K + 1) - L is at most log(K + 1), what K negatives can tell, and reaches it for perfect scores.
    same(math.log(N) - contrast(torch.eye(N).double(), torch.eye(N).double(), scale=1e3), math.log(N))
    assert math.log(N) - loss < math.log(N)


def test_o5_pair_contrastive_margin() -> None:
    x, y, m = normal(N, D), normal(N, D, seed=1), 3.0
    d, alike = (x - y).norm(dim=1), torch.tensor([1, 0, 1, 0, 0, 1])
    expected = alike * d**2 + (1 - alike) * (m - d).clamp_min(0) ** 2
    same(pair_margin(x, y, alike.bool(), margin=m), expected.mean())
    z = x.clone().requires_grad_()
    assert torch.autograd.grad(pair_margin(z, x, torch.zeros(N, dtype=torch.bool)), z)[0].isfinite().all()


def test_o6_triplet(scored: tuple[Tensor, ...]) -> None:
    s, t, *_ = scored
    same(margin_ranking(s, t[:, 0], margin=0.5), (0.5 - s + t[:, 0]).clamp_min(0).mean())
    a, p, n = normal(3, N, D)
    expected = (1 + (a - p).norm(dim=1) - (a - n).norm(dim=1)).clamp_min(0).mean()
    same(triplet(a, p, n, margin=1.0), expected)


def test_o7_n_pair() -> None:
    q, k = normal(N, D), normal(N, D, seed=1)  # of any length, no temperature
    same(contrast(q, k), info_nce(q @ k.T))


def test_o8_supervised_contrast() -> None:
    z, y = unit(N, D), [0, 1, 0, 1, 0, 2]
    losses = []
    for i in range(N):
        others = [a for a in range(N) if a != i]
        below = sum((z[i] @ z[a] / T).exp() for a in others)
        positives = [p for p in others if y[p] == y[i]]
        if positives:  # a class of one has no loss
            losses.append(-sum((z[i] @ z[p] / T - below.log()) for p in positives) / len(positives))
    found = contrast(z, z, Labels(torch.tensor(y)) & NotSelf(), scale=1 / T)
    same(found, torch.stack(losses).mean())


def test_o9_alignment_and_uniformity(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    apart = torch.cdist(q, q)[~torch.eye(N, dtype=torch.bool)] ** 2
    expected = (q - k).norm(dim=1).square().mean() + 0.7 * (-2 * apart).exp().mean().log()
    same(alignment(q, k) + 0.7 * uniformity(q), expected)


def debiased_by_hand(s: Tensor, scale: float, prior: float, beta: float) -> Tensor:
    """O10 and O11: the negatives' mass, weighted by exp(beta s) with mean 1, corrected for the class prior."""
    losses = []
    for i in range(N):
        others = torch.cat((s[i, :i], s[i, i + 1 :]))
        w = (beta * others).exp()
        mass = (w / w.mean() * others.exp()).sum()
        k, up = len(others), s[i, i].exp()
        mass = torch.maximum((mass - prior * k * up) / (1 - prior), torch.tensor(k * math.exp(-scale)))
        losses.append(-(up / (up + mass)).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("prior", [0.0, 0.05, 0.2])
def test_o10_debiased(qk: tuple[Tensor, Tensor], prior: float) -> None:
    q, k = qk
    found = contrast(q, k, Diagonal() & Debiased(prior), scale=1 / T)
    same(found, debiased_by_hand(q @ k.T / T, 1 / T, prior, 0.0))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_o11_hard_negatives(qk: tuple[Tensor, Tensor], beta: float) -> None:
    q, k = qk
    found = contrast(q, k, Diagonal() & Debiased(0.1) & Hardness(beta, unit_mean=True), scale=1 / T)
    same(found, debiased_by_hand(q @ k.T / T, 1 / T, 0.1, beta))


def test_o12_js_bound(scored: tuple[Tensor, ...]) -> None:
    s, t, *_ = scored
    softplus = lambda x: (1 + x.exp()).log()  # noqa: E731
    same(js_bound(s, t), (softplus(-s) + softplus(t).mean(1)).mean())
    same(js_bound(s, t[:, 0]), (softplus(-s) + softplus(t[:, 0])).mean())


def test_o13_residual_energy(scored: tuple[Tensor, ...]) -> None:
    e, f = scored[0], scored[1][:, 0]
    same(residual_energy(e, f), (-(-e).sigmoid().log() - f.sigmoid().log()).mean())
    same(residual_energy(torch.zeros(3), torch.zeros(3)), 2 * math.log(2))


def tokens() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    replaced = torch.tensor([[0, 1, 0], [1, 0, 0]]).bool()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    return normal(2, 3), replaced, normal(2, 3, seed=1) - 2, mask


def test_o14_electric() -> None:
    energy, replaced, log_q, mask = tokens()
    ratio, total = 0.15, 0.0
    for b, t in mask.nonzero().tolist():
        p_hat, noise = (-energy[b, t]).exp(), ratio * log_q[b, t].exp()
        total = total - ((noise if replaced[b, t] else p_hat) / (p_hat + noise)).log()
    same(token_nce(-energy, replaced, log_noise=log_q, ratio=ratio, mask=mask), total / 5)


def test_o15_replaced_tokens() -> None:
    logits, replaced, _, mask = tokens()
    expected = F.binary_cross_entropy_with_logits(logits[mask], (~replaced)[mask].double())
    same(token_nce(logits, replaced, mask=mask), expected)


def test_o16_neighbour_sentences() -> None:
    f, g = normal(N, D), normal(N, D, seed=1)  # two encoders; row i + 1 follows row i
    found = contrast(f[:-1], g[1:])
    same(found, -torch.stack([(f[i] @ g[1:].T).log_softmax(0)[i] for i in range(N - 1)]).mean())
    follows, random = normal(N, 2), normal(N, 2, seed=1)
    expected = F.cross_entropy(torch.cat((follows, random)), torch.tensor([1] * N + [0] * N))
    same(matching(follows, random), expected)


def test_o17_contrastive_distillation(qk: tuple[Tensor, Tensor]) -> None:
    student, teacher = (x.clone().requires_grad_() for x in qk)
    loss = contrast(student, teacher.detach(), scale=1 / T)
    same(loss.detach(), info_nce((qk[0] @ qk[1].T) / T))
    loss.backward()
    assert teacher.grad is None


def test_o18_momentum_contrast(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    queue = Queue(8, D).double()
    s = torch.cat(((q * k).sum(1, keepdim=True), q @ queue.snapshot().T), 1) / T
    found = contrast(q, k, Diagonal() & OnlyOwn(), scale=1 / T, extra=queue.snapshot(), shared=True)
    same(found, (s.logsumexp(1) - s[:, 0]).mean())


def test_o19_cross_modal_symmetric(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    s = q @ k.T / T
    same(contrast(q, k, scale=1 / T, both=True), (info_nce(s) + info_nce(s.T)) / 2)
    weighted = 0.75 * contrast(q, k, scale=1 / T) + 0.25 * contrast(k, q, scale=1 / T)
    same(weighted, 0.75 * info_nce(s) + 0.25 * info_nce(s.T))


def test_o20_consistency_and_contrast() -> None:
    logits, y = normal(N, 3, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    p = logits.softmax(2)
    mean = p.mean(1, keepdim=True)
    js = (p * (p / mean).log()).sum(2).mean(1)
    same(consistency_js(logits), js.mean())
    assert consistency_js(logits[:, :1]).abs() < 1e-12
    z = F.normalize(logits, dim=2)
    loss = reduced(F.cross_entropy(logits[:, 0], y, reduction="none"), "mean")
    loss = loss + consistency_js(logits) + contrast(z[:, 0], z[:, 1], scale=1 / T)
    same(loss, F.cross_entropy(logits[:, 0], y) + js.mean() + info_nce(z[:, 0] @ z[:, 1].T / T))


def test_o21_sequence_margin() -> None:
    f, m = normal(2, 4), 0.3
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    terms = [max(0.0, float(f[b, j] - f[b, i]) + (j - i) * m) for b in range(2) for i, j in pairs]
    same(sequence_margin(f, margin=m), sum(terms) / 2)
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    same(sequence_margin(f, margin=m, mask=mask), max(0.0, float(f[0, 1] - f[0, 0]) + m) / 2)


def test_o22_unlikelihood() -> None:
    logits = normal(1, 2, 5)
    negatives = torch.tensor([[[1, 3], [0, -1]]])
    p = logits.softmax(2)
    expected = -(1 - p[0, 0, 1]).log() - (1 - p[0, 0, 3]).log() - (1 - p[0, 1, 0]).log()
    same(unlikelihood(logits, negatives), expected / 2)
    sure = torch.tensor([[[50.0, 0.0]]], requires_grad=True)
    loss = unlikelihood(sure, torch.tensor([[[0]]]))
    assert loss.isfinite()


# --- limits in which one is another --------------------------------------------------------------------------------


def test_o2_with_uniform_noise_is_o4(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    s = q @ k.T / T
    others = s[~torch.eye(N, dtype=torch.bool)].view(N, N - 1)
    flat = torch.full((N, N), -math.log(50), dtype=torch.float64)
    found = ranking_nce(s.diagonal(), others, log_noise=flat[:, 0], log_noise_negatives=flat[:, 1:])
    same(found, contrast(q, k, scale=1 / T))


def test_o10_without_a_prior_is_o4_and_o11_without_hardness_is_o10(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    same(contrast(q, k, Diagonal() & Debiased(0.0), scale=1 / T), contrast(q, k, scale=1 / T))
    debiased = contrast(q, k, Diagonal() & Debiased(0.1), scale=1 / T)
    same(contrast(q, k, Diagonal() & Debiased(0.1) & Hardness(0.0, unit_mean=True), scale=1 / T), debiased)


def test_o8_with_two_views_of_labels_that_are_unique_is_o4_averaged(qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    z, row = torch.cat(qk), torch.arange(N).repeat(2)
    found = contrast(z, z, Labels(row) & NotSelf(), scale=1 / T)
    # The candidates of a view are the other views of all rows: those of the other side, and its own side's others.
    rows = []
    for a, b in ((q, k), (k, q)):
        own = (a @ a.T / T).fill_diagonal_(-torch.inf)
        rows.append(contrast(a, torch.cat((b, a)), Diagonal() & NotSelf(offset=N), scale=1 / T))
        s = torch.cat((a @ b.T / T, own), 1)
        same(rows[-1], (s.logsumexp(1) - (a * b).sum(1) / T).mean())
    same(found, torch.stack(rows).mean())


def test_binary_nce_needs_the_right_normalisation_and_ranking_nce_none(scored: tuple[Tensor, ...]) -> None:
    """A constant added to all scores: the ranking does not see it, the binary question does."""
    s, t, log_p, log_p_negatives = scored
    noise = {"log_noise": log_p, "log_noise_negatives": log_p_negatives}
    same(ranking_nce(s + 3, t + 3, **noise), ranking_nce(s, t, **noise))
    assert abs(binary_nce(s + 3, t + 3, **noise) - binary_nce(s, t, **noise)) > 0.1


def test_binary_nce_learns_log_probabilities_and_negative_sampling_their_ratio_to_the_noise() -> None:
    """At the optimum of O1 the scores are log p; without the correction, log p - log(K p_N)."""
    p, noise = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    k = 4
    for corrected in (True, False):
        scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)
        log_noise = noise.log()

        def loss(scores: Tensor = scores, corrected: bool = corrected, log_noise: Tensor = log_noise) -> Tensor:
            # The expectation over data and noise: every item as a positive by p, as each of k negatives by p_N.
            out = torch.zeros((), dtype=torch.float64)
            for i in range(3):
                one, none = scores[i : i + 1], scores.new_zeros(1, 0)
                shift = {"log_noise": log_noise[i : i + 1] + math.log(k), "log_noise_negatives": none}
                out = out + p[i] * binary_nce(one, none, **(shift if corrected else {}))
                shift = one - log_noise[i] - math.log(k) if corrected else one
                out = out + k * noise[i] * F.softplus(shift).sum()
            return out

        def closure(loss=loss, optimizer=optimizer) -> Tensor:  # type: ignore[no-untyped-def]
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        expected = p.log() if corrected else p.log() - (k * noise).log()
        torch.testing.assert_close(scores.detach(), expected, rtol=1e-4, atol=1e-4)


def test_noise_that_never_makes_an_item_is_refused(scored: tuple[Tensor, ...]) -> None:
    s, t, log_p, log_p_negatives = scored
    log_p_negatives = log_p_negatives.clone()
    log_p_negatives[0, 0] = -torch.inf
    for loss in (binary_nce, ranking_nce):
        with pytest.raises(DataError, match="smooth"):
            loss(s, t, log_noise=log_p, log_noise_negatives=log_p_negatives)
        with pytest.raises(DataError, match="or neither"):
            loss(s, t, log_noise=log_p)
        with pytest.raises(DataError, match="expected \\(N,\\)"):
            loss(t, t)


def test_the_page_names_a_test_for_every_objective() -> None:
    page = (Path(__file__).parents[2] / "docs" / "taxonomy.md").read_text()
    here = Path(__file__).read_text()
    for number in range(1, 23):
        assert f"| O{number} |" in page
        assert re.search(rf"def test_o{number}_", here)
    for line in range(1, 31):
        assert re.search(rf"^\| {line} \|", page, re.M), f"line {line} is missing"
