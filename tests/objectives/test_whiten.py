"""Shuffled group whitening: its limits, what a shuffle changes and what it cannot, and the number of groups."""

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.decorrelate import whiten
from counterpoint.objectives.whiten import groups_for, shared_permutation, shuffled_whiten
from tests.processes import spread

double = torch.float64


def rows(n: int = 40, d: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, d, generator=generator, dtype=double) @ torch.randn(d, d, generator=generator, dtype=double)
    return mixed + 3.0


def order(seed: int = 0, d: int = 12) -> torch.Tensor:
    return torch.randperm(d, generator=torch.Generator().manual_seed(seed))


def test_every_shuffled_group_has_mean_zero_and_identity_covariance():
    for seed in range(3):
        x = shuffled_whiten(rows(), order(seed), groups=3, eps=0.0)
        assert torch.allclose(x.mean(0), torch.zeros(12, dtype=double), atol=1e-9)
        covariance = x.T @ x / len(x)
        for group in order(seed).view(3, 4):
            assert torch.allclose(covariance[group][:, group], torch.eye(4, dtype=double), atol=1e-9)
        assert (covariance - torch.eye(12, dtype=double)).abs().max() > 0.05  # across groups they stay correlated


def test_one_group_is_full_whitening_and_one_per_coordinate_is_standardisation_whatever_the_order():
    z = rows()
    assert torch.allclose(shuffled_whiten(z, order(), groups=1, eps=0.0), whiten(z, eps=0.0))
    assert torch.allclose(shuffled_whiten(z, order(), groups=12, eps=0.0), (z - z.mean(0)) / z.std(0, correction=0))


def test_another_order_makes_another_vector_of_the_same_row():
    z = rows()
    one, again, other = (shuffled_whiten(z, order(seed), groups=3) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert (torch.cosine_similarity(one, other) < 0.999).all()
    within = order(0).view(3, 4).flip(0).flip(1).flatten()  # the same groups, in another order
    assert torch.allclose(shuffled_whiten(z, within, groups=3), one)


def test_statistics_are_constants_for_the_gradient_unless_asked():
    z, g = rows().requires_grad_(), rows(seed=1)
    shuffled_whiten(z, order(), groups=3, eps=0.0).backward(g)
    # A fixed linear map: W is read off from what it does to differences of rows.
    with torch.no_grad():
        x, c = shuffled_whiten(z, order(), groups=3, eps=0.0), z - z.mean(0)
        w = torch.linalg.lstsq(c, x).solution
    assert torch.allclose(z.grad, g @ w.T, atol=1e-7)
    through = rows().requires_grad_()
    shuffled_whiten(through, order(), groups=3, eps=0.0, through_statistics=True).backward(g)
    assert torch.allclose(through.grad.sum(0), torch.zeros(12, dtype=double), atol=1e-9)  # a shift changes nothing
    assert z.grad.sum(0).abs().max() > 1e-3


def test_half_precision_is_computed_in_float32_and_given_back():
    z = rows().half()
    x = shuffled_whiten(z, order(), groups=3)
    assert x.dtype == torch.float16
    assert torch.allclose(x.double(), shuffled_whiten(z.float(), order(), groups=3).double(), atol=1e-2)


def test_what_cannot_be_whitened_is_said_or_shrunk():
    with pytest.raises(ConfigError, match="12 coordinates cannot be cut into 5"):
        shuffled_whiten(rows(), order(), groups=5)
    with pytest.raises(DataError, match="at least 2 rows"):
        shuffled_whiten(rows(1), order(), groups=3)
    with pytest.raises(DataError, match="4 rows cannot whiten groups of 6"):
        shuffled_whiten(rows(4), order(), groups=2, eps=0.0)
    assert shuffled_whiten(rows(4), order(), groups=2).isfinite().all()
    constant = rows()
    constant[:, 5] = 2.0
    for eps in (0.0, 1e-5):
        x = shuffled_whiten(constant, order(), groups=12, eps=eps)
        assert (x[:, 5] == 0).all()
        assert x.isfinite().all()


def test_as_few_groups_as_the_rows_can_tell_the_covariance_of():
    assert groups_for(768, 128) == 12  # 64 coordinates for 128 rows
    assert groups_for(768, 100) == 16
    assert groups_for(7, 5) == 7  # only 7 and 1 divide 7
    assert groups_for(8, 1_000) == 2
    assert groups_for(1, 2) == 1
    with pytest.raises(ConfigError, match="1 rows"):
        groups_for(8, 1)


def whole(rank: int, world: int) -> None:
    torch.manual_seed(rank)  # generators of their own
    shared = shared_permutation(12)
    torch.manual_seed(0)
    assert torch.equal(shared, torch.randperm(12))
    z = rows()
    part = shuffled_whiten(z[rank::world], shared, groups=3)
    from counterpoint.processes import alone

    with alone():
        assert torch.allclose(part, shuffled_whiten(z, shared, groups=3)[rank::world])


def test_processes_share_the_order_and_the_statistics():
    spread(whole, 2)
