"""By-products against their definitions written out on the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.engine.byproducts import Stats
from counterpoint.objectives.pairing import Diagonal, Labels, NotSame, NotSelf


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("scale", [5.0, 900.0])
@pytest.mark.parametrize("labelled", [False, True])
def test_by_products(backend: str, scale: float, labelled: bool) -> None:
    g = torch.Generator().manual_seed(0)
    z, k, extra = (normalize(torch.randn(n, 4, generator=g, dtype=torch.float64), dim=1) for n in (11, 11, 5))
    z = z * 3  # lengths are no matter of alignment or uniformity
    y, source = torch.arange(11) % 4, torch.arange(11) // 2
    y[-1] = -1
    pairing = Labels(y) & NotSelf() if labelled else Diagonal() & NotSame(source)
    stats = Stats()
    loss = contrast(z, k, pairing, scale=scale, extra=extra, stats=stats, backend=backend, tile=4)
    assert loss == contrast(z, k, pairing, scale=scale, extra=extra, backend=backend, tile=4)

    s = scale * z @ torch.cat([k, extra]).T
    eye = torch.eye(11, 16, dtype=torch.bool)
    positive, dropped = eye.clone(), torch.zeros_like(eye)
    if labelled:
        positive[:, :11] = (y[:, None] == y) & (y >= 0)
        positive &= ~eye
        dropped |= eye
    else:
        dropped[:, :11] = source[:, None] == source
        dropped &= ~eye
    negative = ~positive & ~dropped
    some = positive.any(1)
    best = s.masked_fill(~positive, -torch.inf).amax(1)
    rank = ((s > best[:, None]) & negative).sum(1) + 1
    assert torch.equal(stats.rank, torch.where(some, rank, 0))
    assert torch.allclose(stats.accuracy, (rank[some] == 1).double().mean().to(stats.accuracy))
    cosine = normalize(z, dim=1) @ torch.cat([k, extra]).T
    distance = 2 - 2 * cosine
    assert torch.allclose(stats.alignment, distance[positive].mean())
    assert torch.allclose(stats.uniformity, (-2 * distance[negative]).exp().mean().log())
    p = s.masked_fill(~negative, -torch.inf).softmax(1)
    assert torch.allclose(stats.negatives, (1 / p.square().sum(1)).mean())
    assert torch.allclose(stats.masked, dropped.double().mean())
    assert stats.without_positive == (~some).sum() == (1 if labelled else 0)
