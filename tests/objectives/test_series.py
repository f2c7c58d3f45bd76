"""Contrast of windows step by step, against the same written out, and in its limits."""

import math

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.series import frequency_contrast, hierarchical_contrast

A, B = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def nce(anchor, positive, others):
    """-log of the positive's share, one anchor."""
    scores = torch.stack([anchor @ positive, *(anchor @ o for o in others)])
    return scores.logsumexp(0) - scores[0]


def instance(a, b):
    n, length = a.shape[:2]
    terms = []
    for i in range(n):
        for t in range(length):
            for one, two in ((a, b), (b, a)):
                rest = [j for j in range(n) if j != i]
                terms.append(nce(one[i, t], two[i, t], [two[j, t] for j in rest] + [one[j, t] for j in rest]))
    return torch.stack(terms).mean()


def temporal(a, b):
    return instance(a.transpose(0, 1), b.transpose(0, 1))


def pooled(x):
    return torch.stack([torch.maximum(x[:, 2 * i], x[:, 2 * i + 1]) for i in range(x.shape[1] // 2)], 1)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_hierarchy_written_out(alpha):
    a2, b2 = pooled(A), pooled(B)  # 5 steps, then 2, then 1
    a1, b1 = pooled(a2), pooled(b2)
    scales = [alpha * instance(x, y) + (1 - alpha) * temporal(x, y) for x, y in ((A, B), (a2, b2))]
    scales.append(alpha * instance(a1, b1))  # one step: no other time
    torch.testing.assert_close(hierarchical_contrast(A, B, alpha=alpha), sum(scales) / 3)


def test_alpha_is_a_number_and_both_parts_count():
    for flag in (True, False, 1.5, -0.1):
        with pytest.raises(ConfigError, match="a number from 0"):
            hierarchical_contrast(A, B, alpha=flag)
    windows, times = (hierarchical_contrast(A, B, alpha=x) for x in (1.0, 0.0))
    torch.testing.assert_close(hierarchical_contrast(A, B, alpha=0.25), 0.25 * windows + 0.75 * times)
    assert windows != times


def test_one_window_has_nothing_to_be_told_from():
    assert hierarchical_contrast(A[:1], B[:1], alpha=1.0) == 0
    assert hierarchical_contrast(A[:1, :1], B[:1, :1], alpha=0.5) == 0


def test_equal_steps_are_a_guess_among_all():
    same = torch.ones(3, 4, 2, dtype=torch.float64)
    assert math.isclose(hierarchical_contrast(same, same, alpha=1.0), math.log(5), rel_tol=1e-12)
    expected = (math.log(7) + math.log(3) + 0) / 3  # of 4, 2 and 1 times in two views, less oneself
    assert math.isclose(hierarchical_contrast(same, same, alpha=0.0), expected, rel_tol=1e-12)


def test_scale_is_that_of_the_products():
    torch.testing.assert_close(
        hierarchical_contrast(A, B, scale=4.0, alpha=1.0), hierarchical_contrast(2 * A, 2 * B, alpha=1.0)
    )


def test_the_mean_is_that_of_the_windows():
    each = hierarchical_contrast(A, B, reduction="none")
    assert each.shape == (3,)
    torch.testing.assert_close(each.mean(), hierarchical_contrast(A, B))


def test_frequencies_written_out():
    a, b = (F.normalize(x, dim=2) for x in (A, B))
    za, zb = torch.fft.rfft(a, dim=1), torch.fft.rfft(b, dim=1)
    expected = (instance(za.abs(), zb.abs()) + instance(za.angle(), zb.angle())) / 2
    torch.testing.assert_close(frequency_contrast(a, b), expected, rtol=1e-4, atol=1e-4)


def test_absent_frequencies_have_a_gradient():
    a = torch.zeros(2, 6, 3, dtype=torch.float64, requires_grad=True)
    frequency_contrast(a, torch.zeros_like(a)).backward()
    assert a.grad.isfinite().all()


def test_shapes_are_said():
    with pytest.raises(DataError, match="an embedding for each step"):
        hierarchical_contrast(A[0], B[0])
    with pytest.raises(DataError, match="must have one shape"):
        hierarchical_contrast(A, B[:, :4])
