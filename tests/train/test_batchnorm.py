from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.errors import ConfigError
from counterpoint.train.batchnorm import normalise
from counterpoint.train.budget import Budget
from counterpoint.train.gradcache import embed


def network() -> nn.Sequential:
    """Batch normalisation after a convolution and after a linear layer, with statistics as of some training."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4)
    ).double()
    with torch.no_grad():
        net(3 * torch.randn(50, 2, 4, 4, dtype=torch.float64) + 1)
    return net


def loss_of(z: Tensor) -> Tensor:
    z = F.normalize(z, dim=-1)
    return F.cross_entropy(10 * z @ z.roll(1, 0).T, torch.arange(len(z)))


X = torch.randn(10, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in net.named_buffers()}


def same(a: nn.Module, b: nn.Module) -> None:
    for p, q in zip(a.parameters(), b.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-9, rtol=1e-9)
    for x, y in zip(a.buffers(), b.buffers()):
        torch.testing.assert_close(x, y)


def test_frozen_is_the_network_with_its_running_statistics() -> None:
    cached, plain = network(), network()
    before = state(cached)
    loss_of(embed(cached, X, 4, statistics="frozen")).backward()
    loss_of(plain.eval()(X)).backward()
    same(cached, plain)
    assert cached.training
    assert cached[1].training
    assert all(torch.equal(x, before[name]) for name, x in cached.named_buffers())


def test_frozen_holds_for_batches_that_are_not_cut_too() -> None:
    net = network()
    torch.testing.assert_close(embed(net, X, 10, statistics="frozen"), copy.deepcopy(net).eval()(X))
    # Without caching nobody asked for anything: batch normalisation as ever.
    torch.testing.assert_close(embed(net, X, statistics="frozen"), copy.deepcopy(net)(X))


def test_synced_is_the_network_that_normalises_each_pass_by_itself() -> None:
    cached, plain = network(), network()
    loss_of(embed(cached, X, 4, statistics="synced")).backward()
    # The reference keeps the graph of every pass; its running statistics see each pass once, and so must ours.
    loss_of(torch.cat([plain(part) for part in X.split(4)])).backward()
    same(cached, plain)
    assert cached[1].num_batches_tracked == 4
    assert "forward" not in vars(cached[1])


def test_synced_in_one_pass_is_batch_normalisation() -> None:
    for layer, x in ((nn.BatchNorm2d(3, momentum=None), torch.randn(4, 3, 2, 2)), (nn.BatchNorm1d(3), X[:, 0, 0, :3])):
        layer = layer.to(x.dtype)
        other = copy.deepcopy(layer)
        for _ in range(2):
            torch.testing.assert_close(normalise(layer, x, track=True), other(x))
        for a, b in zip(layer.buffers(), other.buffers()):
            torch.testing.assert_close(a, b)


def test_half_precision_is_summed_in_float32() -> None:
    x = (100 + torch.randn(400, 2)).bfloat16()
    out = normalise(nn.BatchNorm1d(2), x, track=False)
    assert out.dtype == torch.bfloat16
    expected = (x.double() - x.double().mean(0)) / x.double().var(0, correction=0).sqrt()
    torch.testing.assert_close(out.double(), expected, atol=2e-2, rtol=2e-2)


def test_what_cannot_be_right_is_refused() -> None:
    with pytest.raises(ConfigError, match="never measured"):
        embed(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), torch.randn(6, 4), 2, statistics="frozen")
    with pytest.raises(ConfigError, match="without running statistics"):
        embed(nn.BatchNorm1d(3, track_running_stats=False), torch.randn(6, 3), 2, statistics="frozen")
    with pytest.raises(ConfigError, match="one value per channel"):
        embed(nn.BatchNorm1d(3), torch.randn(3, 3), 1, statistics="synced")


def test_encoders_of_the_library_say_what_they_need() -> None:
    images = torch.rand(4, 3, 16, 16)
    with pytest.raises(ConfigError, match="ConvNet contains batch normalisation"):
        embed(ConvNet(ConvNetConfig(size=16)), images, 2)
    net = ConvNet(ConvNetConfig(size=16, norm="group"))
    torch.testing.assert_close(embed(net, images, 2), net(images), atol=1e-5, rtol=1e-5)


class Once(Budget):
    """Room for the whole batch at a time, but not for its graph beside another one's."""

    def passes(self, *given: object) -> int:
        return 1


def test_a_batch_that_is_not_cut_is_computed_again_with_its_own_statistics() -> None:
    cached, plain = network(), network()
    loss_of(embed(cached, X, Once(1, cached))).backward()
    loss_of(plain(X)).backward()
    same(cached, plain)
    assert cached[1].num_batches_tracked == 2, "the first was when the network was made"
