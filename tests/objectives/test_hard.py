"""The hardest negatives: which are kept, that losses are those of the equations, on every back end and process."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives import hard
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.engine.byproducts import Stats
from counterpoint.objectives.hard import HardQuantile, hardest, simple_contrast
from counterpoint.objectives.pairing import Diagonal, FalseNegatives, Labels, NotSelf, OnlyOwn
from counterpoint.processes import alone, transported
from tests.processes import spread


def made(n: int, d: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    q, k = (F.normalize(torch.randn(n, d, dtype=torch.float64, generator=random), dim=-1) for _ in range(2))
    return q, k


def by_hand(q: Tensor, k: Tensor, scale: float, alpha: float, extra: Tensor | None = None) -> Tensor:
    """Row by row, as the paper writes it."""
    columns = k if extra is None else torch.cat([k, extra])
    losses = []
    for i in range(len(q)):
        s = scale * (columns @ q[i])
        negatives = torch.cat([s[:i], s[i + 1 :]])
        kept = max(1, math.ceil(alpha * len(negatives) - 1e-9))
        bound = negatives.detach().sort(descending=True).values[kept - 1]
        chosen = negatives[negatives.detach() >= bound]
        losses.append(-s[i] + torch.logsumexp(torch.cat([s[i : i + 1], chosen]), 0))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("alpha", [0.01, 0.0819, 0.37, 0.5, 1.0])
def test_the_hard_loss_is_that_of_the_paper_with_its_gradient(backend: str, alpha: float) -> None:
    q, k = made(37)
    extra = made(11, seed=1)[0]
    values, grads = [], []
    for loss in (
        lambda q, k: by_hand(q, k, 4.0, alpha, extra),
        lambda q, k: contrast(q, k, Diagonal() & HardQuantile(alpha), scale=4.0, extra=extra, backend=backend, tile=8),  # type: ignore[arg-type]
    ):
        leaves = [x.clone().requires_grad_() for x in (q, k)]
        values.append(loss(*leaves))
        grads.append(torch.autograd.grad(values[-1], leaves))
    torch.testing.assert_close(values[0], values[1])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_with_all_negatives_it_is_the_plain_loss() -> None:
    q, k = made(20)
    plain = contrast(q, k, scale=3.0)
    assert torch.equal(contrast(q, k, Diagonal() & HardQuantile(1.0), scale=3.0), plain)
    assert contrast(q, k, Diagonal() & HardQuantile(0.2), scale=3.0) < plain


def test_the_threshold_is_looked_for_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = made(20)
    whole = contrast(q, k, Diagonal() & HardQuantile(0.3), scale=3.0)
    simple = simple_contrast(q, k, alpha=0.3)
    monkeypatch.setattr(hard, "AT_ONCE", 45)
    torch.testing.assert_close(contrast(q, k, Diagonal() & HardQuantile(0.3), scale=3.0), whole)
    torch.testing.assert_close(simple_contrast(q, k, alpha=0.3), simple)


def test_other_masks_and_positives_are_not_counted() -> None:
    """What is taken out is no negative: the hardest share is of those that are left."""
    z = made(12)[0]
    labels = torch.arange(12) % 3
    s = (5 * z @ z.T).fill_diagonal_(-torch.inf)
    negative = s.masked_fill(labels[:, None] == labels, -torch.inf)
    kept = negative >= negative.topk(2, dim=1).values[:, 1:]  # a quarter of 8
    positive = (labels[:, None] == labels) & ~torch.eye(12, dtype=torch.bool)
    over = s.masked_fill(~(kept | positive), -torch.inf).logsumexp(1)
    expected = (over - (s.masked_fill(~positive, 0)).sum(1) / 3).mean()
    pairing = Labels(labels) & NotSelf() & HardQuantile(0.25)
    torch.testing.assert_close(contrast(z, z, pairing, scale=5.0), expected)
    q, k = made(6, seed=3)
    guide = torch.ones(6, 1, dtype=torch.float64)
    none_left = Diagonal() & FalseNegatives(guide, margin=0.1) & HardQuantile(0.5)
    assert contrast(q, k, none_left, scale=5.0).abs() < 1e-12
    queue = made(9, seed=4)[0]
    best = 5 * (q @ queue.T).amax(1)
    alone_with_queue = contrast(q, k, Diagonal() & OnlyOwn() & HardQuantile(0.01), scale=5.0, extra=queue)
    torch.testing.assert_close(alone_with_queue, F.softplus(best - 5 * (q * k).sum(1)).mean())


def test_ties_with_the_last_are_kept() -> None:
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    k = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
    found = contrast(q, k, Diagonal() & HardQuantile(0.25), scale=2.0)
    assert float(found) == pytest.approx(math.log(math.exp(2) + 3 * math.exp(1.2)) - 2)


def test_single_precision_and_bfloat16_keep_what_is_at_the_threshold() -> None:
    q, k = (x.float() for x in made(300, 16))
    exact = by_hand(q, k, 20.0, 0.05)
    for tile in (7, 64, 300):
        found = contrast(q, k, Diagonal() & HardQuantile(0.05), scale=20.0, backend="tiled", tile=tile)
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    rounded = contrast(q, k, Diagonal() & HardQuantile(0.05), scale=20.0, backend="tiled", precision="bfloat16")
    assert abs(rounded - exact) < 0.05


def test_a_small_temperature_is_a_triplet_with_the_hardest_negative() -> None:
    q, k = made(15)
    s = q @ k.T
    hardest_negative = s.masked_fill(torch.eye(15, dtype=torch.bool), -torch.inf).amax(1)
    triplet = (hardest_negative - s.diagonal()).relu()
    for pairing in (Diagonal(), Diagonal() & HardQuantile(0.1)):
        found = 1e-3 * contrast(q, k, pairing, scale=1e3, reduction="none")
        torch.testing.assert_close(found, triplet, atol=1e-3, rtol=0)


def test_negatives_that_are_not_kept_have_no_gradient() -> None:
    q, k = made(10)
    q = q[:1].requires_grad_()
    k = k.clone().requires_grad_()
    (grad,) = torch.autograd.grad(contrast(q, k, Diagonal() & HardQuantile(0.3), scale=2.0), k)
    order = (k @ q[0]).detach()[1:].argsort(descending=True) + 1
    assert (grad[order[3:]] == 0).all()  # 3 of 9 are kept
    assert (grad[order[:3]].abs().amax(1) > 0).all()


def test_by_products_are_of_the_kept_negatives() -> None:
    q, k = made(20)
    stats = Stats()
    contrast(q, k, Diagonal() & HardQuantile(0.05), scale=2.0, stats=stats)
    assert float(stats.negatives) == pytest.approx(1)
    assert float(stats.masked) == pytest.approx(18 / 20)


def test_hardest_counts_up_and_takes_at_least_one() -> None:
    row = torch.arange(50_000.0)[None].flip(1)
    assert hardest(row, 0.0819).item() == 50_000 - 4095  # the published share keeps 4,095
    assert hardest(row, 1e-9).item() == 49_999
    nothing = torch.full((2, 3), -torch.inf)
    assert hardest(nothing, 0.5).tolist() == [-math.inf, -math.inf]


def test_what_is_refused() -> None:
    q, k = made(4)
    for alpha in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(ConfigError, match="share of the negatives"):
            HardQuantile(alpha)
    with pytest.raises(ConfigError, match="both=False"):
        contrast(q, k, Diagonal() & HardQuantile(0.5), both=True)
    with pytest.raises(ConfigError, match="owner"):
        contrast(q, k, Diagonal() & HardQuantile(0.5), extra=k, owner=torch.arange(4))
    with pytest.raises(DataError, match="M >= N"):
        simple_contrast(q, k[:2])
    with pytest.raises(DataError, match="expected anchors"):
        simple_contrast(q, k[:, :2])


# --- the simple loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_simple_loss_by_hand_with_its_gradient(alpha: float) -> None:
    q, k = made(9)
    q, k, extra = 3 * q, 0.5 * k, 2 * made(4, seed=1)[0]  # lengths do not matter
    leaves = [x.clone().requires_grad_() for x in (q, k, extra)]
    found = simple_contrast(leaves[0], leaves[1], weight=0.7, alpha=alpha, extra=leaves[2])
    other = [x.clone().requires_grad_() for x in (q, k, extra)]
    s = F.normalize(other[0], dim=-1) @ F.normalize(torch.cat(other[1:]), dim=-1).T
    rows = []
    for i in range(9):
        negatives = torch.cat([s[i, :i], s[i, i + 1 :]])
        chosen = negatives.sort(descending=True).values[: math.ceil(alpha * 12)]
        rows.append(0.7 * chosen.mean() - s[i, i])
    torch.testing.assert_close(found, torch.stack(rows).mean())
    expected = torch.autograd.grad(torch.stack(rows).mean(), other)
    for a, b in zip(torch.autograd.grad(found, leaves), expected):
        torch.testing.assert_close(a, b)


def test_a_large_temperature_is_the_simple_loss() -> None:
    """T (L - log N) N / (N - 1) tends to the simple loss, also among the hardest alone."""
    q, k = made(8)
    for alpha, n in ((1.0, 7), (0.4, 3)):
        temperature = 1e5
        found = contrast(q, k, Diagonal() & HardQuantile(alpha), scale=1 / temperature)
        limit = (found - math.log(n + 1)) * temperature * (n + 1) / n
        torch.testing.assert_close(limit, simple_contrast(q, k, alpha=alpha), rtol=0, atol=1e-4)


def test_one_row_has_no_negative() -> None:
    q, k = made(1)
    for alpha in (1.0, 0.5):
        torch.testing.assert_close(simple_contrast(q, k, alpha=alpha), -(q * k).sum())


def of_all(rank: int, world: int) -> None:
    q, k = made(11)
    extra = made(5, seed=1)[0]
    ends = [0, 4, 11]
    mine = slice(ends[rank], ends[rank + 1])
    pairing = Diagonal() & HardQuantile(0.3)
    with alone():
        a, b = (x.clone().requires_grad_() for x in (q, k))
        whole = contrast(a, b, pairing, scale=3.0, extra=extra)
        expected = torch.autograd.grad(whole, (a, b))
    for how in ("gather", "ring"):
        with transported(how):  # type: ignore[arg-type]
            c, d = (x[mine].clone().requires_grad_() for x in (q, k))
            found = contrast(c, d, pairing, scale=3.0, extra=extra, shared=True)
            torch.testing.assert_close(found, whole)
            for x, y in zip(torch.autograd.grad(found, (c, d)), expected):
                torch.testing.assert_close(x / world, y[mine])


def test_over_processes_the_quantile_is_over_all_candidates() -> None:
    spread(of_all, 2)
