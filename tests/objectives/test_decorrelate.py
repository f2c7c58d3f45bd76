import math

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.decorrelate import barlow_twins, vicreg, vicreg_parts, whiten, whitening_mse

double = torch.float64
uncorrelated = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=double)


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=double, generator=torch.Generator().manual_seed(seed))


def covariance(z):
    z = z - z.mean(0)
    return z.T @ z / len(z)


def test_barlow_is_zero_when_the_cross_correlation_is_the_identity():
    assert barlow_twins(uncorrelated, 3 * uncorrelated + 5).item() == pytest.approx(0, abs=1e-20)


def test_barlow_by_hand():
    # Both coordinates are copies: every C is 1, so the diagonal is free and two off-diagonal squares cost 1 each.
    a = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=double)
    assert barlow_twins(a, a, weight=0.3).item() == pytest.approx(0.6)
    # Opposite views: C = [[-1, 1], [1, -1]] in sign, the diagonal costs (1 + 1)² each.
    assert barlow_twins(a, -a, weight=0.3).item() == pytest.approx(8 + 0.6)
    # Uncentred, a constant column correlates with itself; centred, it does not.
    one = torch.ones(4, 1, dtype=double)
    assert barlow_twins(one, one, centred=False).item() == pytest.approx(0)
    assert barlow_twins(one, one).item() == pytest.approx(1)


def test_vicreg_by_hand():
    a = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=double)
    b = torch.zeros(2, 2, dtype=double)
    parts = vicreg_parts(a, b, eps=0.01)
    # s = (4 + 4) / (2·2). a: variance 2 > 1 costs nothing, covariances 2: 2·2² / 2. b: dead, 1 - sqrt(0.01) each.
    assert parts["invariance"].item() == pytest.approx(2)
    assert parts["variance"].item() == pytest.approx((0 + 0.9) / 2)
    assert parts["covariance"].item() == pytest.approx(4)
    weighted = vicreg(a, b, invariance=2, variance=10, covariance=0.5, eps=0.01)
    assert weighted.item() == pytest.approx(2 * 2 + 10 * 0.45 + 0.5 * 4)


def test_vicreg_leaves_spread_uncorrelated_agreeing_views_alone():
    assert vicreg(2 * uncorrelated, 2 * uncorrelated).item() == 0


@pytest.mark.parametrize("method", ["zca", "cholesky"])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_whitened_groups_have_identity_covariance(method, groups):
    z = draw(40, 6) @ draw(6, 6, seed=1) + 3
    v = whiten(z, groups=groups, eps=0, method=method)
    for block in v.chunk(groups, dim=1):
        assert torch.allclose(covariance(block), torch.eye(6 // groups, dtype=double), atol=1e-9)
        assert block.mean(0).abs().max() < 1e-10


def test_whitening_known_limits():
    z = draw(30, 4)
    standard = (z - z.mean(0)) / z.std(0, correction=0)
    assert torch.allclose(whiten(z, groups=4, eps=0), standard)
    white = whiten(z, eps=0)
    assert torch.allclose(whiten(white, eps=0), white)  # zca moves a white cloud nowhere
    rotation = torch.linalg.qr(draw(4, 4, seed=2)).Q
    assert torch.allclose(whiten(z @ rotation, eps=0), white @ rotation)  # and turns with the cloud
    flat = whiten(z, eps=0, centred=False)
    assert torch.allclose(flat.T @ flat / 30, torch.eye(4, dtype=double))


def test_whitening_gradient():
    z = draw(7, 4)
    for method in ("zca", "cholesky"):
        assert torch.autograd.gradcheck(lambda x, m=method: whiten(x, groups=2, method=m), z.requires_grad_())
    # Equal eigenvalues: the gradient of eigenvectors would be infinite, that of the inverse root is not.
    same = uncorrelated.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: whiten(x, eps=0.1), same)
    loss, z = whitening_mse, draw(6, 2)
    assert torch.autograd.gradcheck(lambda x: loss(x, uncorrelated.repeat(2, 1)[:6]), z.requires_grad_())


def test_whitening_with_constant_statistics_is_a_fixed_linear_map():
    z = draw(9, 3).requires_grad_()
    g = draw(9, 3, seed=1)
    whiten(z, through_statistics=False, eps=0).backward(g)
    values, vectors = torch.linalg.eigh(covariance(z.detach()))
    w = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    assert torch.allclose(z.grad, g @ w)


def test_whitening_mse_limits():
    a, b = draw(20, 3), draw(20, 3, seed=1)
    assert whitening_mse(a, a @ torch.diag(torch.tensor([1.0, 5.0, 0.1], dtype=double)), eps=0).item() < 1e-18
    u, v = whiten(a, method="cholesky"), whiten(b, method="cholesky")
    assert torch.allclose(whitening_mse(a, b), 2 - 2 * torch.cosine_similarity(u, v).mean())


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_gradcheck(loss):
    a, b = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b))


def test_half_precision_sums_are_widened():
    a, b = draw(600, 8).bfloat16(), draw(600, 8, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (barlow_twins, vicreg):
            assert math.isclose(loss(a, b), loss(a.double(), b.double()), rel_tol=1e-4)


def test_bad_input_is_a_sentence():
    for loss in (barlow_twins, vicreg, whitening_mse):
        with pytest.raises(DataError, match="at least 2 rows; 1 were given"):
            loss(draw(1, 3), draw(1, 3))
    with pytest.raises(DataError, match="4 rows cannot whiten groups of 4"):
        whiten(draw(4, 4), eps=0)
    with pytest.raises(ConfigError, match="4 coordinates cannot be cut into 3"):
        whiten(draw(9, 4), groups=3)
    assert whiten(draw(3, 8)).isfinite().all()  # fewer rows than coordinates: shrunk, not singular
