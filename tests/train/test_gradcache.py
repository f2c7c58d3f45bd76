from __future__ import annotations

import itertools
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.errors import ConfigError
from counterpoint.train.gradcache import embed


def encoder(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4))


def loss_of(z: Tensor) -> Tensor:
    """A loss in which every row meets every other, so that it is no sum over micro-batches."""
    z = F.normalize(z, dim=-1)
    return F.cross_entropy(10 * z @ z.roll(1, 0).T, torch.arange(len(z)))


def gradients(net: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("n", [1, 7, 12, 13])
@pytest.mark.parametrize("micro", [1, 4, 13])
def test_gradient_is_that_of_the_whole_batch(n: int, micro: int) -> None:
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(1))
    whole, cached = encoder(), encoder()
    expected = loss_of(embed(whole, x))
    actual = loss_of(embed(cached, x, micro))
    expected.backward()
    actual.backward()
    assert actual.item() == pytest.approx(expected.item(), abs=1e-6)
    for a, b in zip(gradients(cached), gradients(whole)):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_serves_gradients_asked_for_by_autograd_grad() -> None:
    net, x = encoder(), torch.randn(6, 5)
    expected = torch.autograd.grad(loss_of(net(x)), list(net.parameters()))
    actual = torch.autograd.grad(loss_of(embed(net, x, 2)), list(net.parameters()))
    for a, b in zip(actual, expected):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert all(p.grad is None for p in net.parameters())


def test_recomputation_replays_dropout_and_leaves_the_generator_where_it_was() -> None:
    net, x = encoder(dropout=0.5), torch.randn(10, 5)
    seen: list[Tensor] = []
    net[2].register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    torch.manual_seed(3)
    z = embed(net, x, 4)
    after_forward = torch.get_rng_state()
    z.square().sum().backward()
    assert torch.equal(torch.get_rng_state(), after_forward)
    first, again = seen[:3], seen[3:]
    assert len(again) == 3
    for output in first:
        assert any(torch.equal(output, other) for other in again)
    # The gradient is that of the draws which the loss saw: micro-batches one after the other with a graph each.
    cached = gradients(net)
    net.zero_grad()
    torch.manual_seed(3)
    torch.cat([net(part) for part in x.split(4)]).square().sum().backward()
    for a, b in zip(cached, gradients(net)):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


class Witness(nn.Module):
    """Counts how many rows of its hidden activation are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 16), nn.Linear(16, 4)
        self.alive: dict[int, int] = {}
        self.keys = itertools.count()
        self.most = 0

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x).tanh()
        key = next(self.keys)
        self.alive[key] = len(hidden)
        weakref.finalize(hidden.untyped_storage(), self.alive.pop, key)
        self.most = max(self.most, sum(self.alive.values()))
        return self.outer(hidden)


def test_activations_of_one_micro_batch_are_alive_at_a_time() -> None:
    net, x = Witness(), torch.randn(24, 5)
    whole = embed(net, x)
    assert sum(net.alive.values()) == 24
    del whole
    assert not net.alive
    net.most = 0
    z = embed(net, x, 4)
    assert not net.alive, "the first pass keeps no activation"
    loss_of(z).backward()
    assert net.most == 4


def test_mappings_are_cut_item_by_item() -> None:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 3)

        def forward(self, data: dict[str, Tensor]) -> Tensor:
            weight = data["mask"].unsqueeze(-1)
            return (self.table(data["ids"]) * weight).sum(1)

    net = Lookup()
    data = {"ids": torch.randint(10, (7, 4)), "mask": torch.rand(7, 4)}
    assert torch.equal(embed(net, data, 3), net(data))


def test_without_gradient_nothing_is_recorded() -> None:
    net, x = encoder(), torch.randn(6, 5)
    with torch.no_grad():
        z = embed(net, x, 4)
    assert not z.requires_grad
    torch.testing.assert_close(z, net(x).detach())


def test_refuses_batch_statistics_but_not_frozen_ones() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    x = torch.randn(6, 5)
    with pytest.raises(
        ConfigError,
        match="batch normalisation, whose statistics of a part of the batch differ from those of its 6 rows",
    ):
        embed(net, x, 2)
    net[1].eval()
    torch.testing.assert_close(embed(net, x, 2), net(x))
    untracked = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(ConfigError):
        embed(untracked, x, 2)


@pytest.mark.parametrize("micro", [None, 4])
def test_bfloat16_inside_float32_outside(micro: int | None) -> None:
    net, x = encoder(), torch.randn(8, 5)
    inside: list[torch.dtype] = []
    net[0].register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    z = embed(net, x, micro, precision="bfloat16")
    assert z.dtype == torch.float32
    loss_of(z).backward()
    assert set(inside) == {torch.bfloat16}, "the recomputation runs in the same precision"
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())
    cached = gradients(net)
    net.zero_grad()
    loss_of(embed(net, x, precision="bfloat16")).backward()
    for a, b in zip(cached, gradients(net)):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)
