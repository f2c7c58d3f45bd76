from __future__ import annotations

import copy
import itertools
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.memory.teacher import Teacher
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.decorrelate import barlow_twins
from counterpoint.objectives.pairing import Diagonal
from counterpoint.train.budget import Budget
from counterpoint.train.gradcache import embed
from counterpoint.train.passes import cut, lengths, part


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


def test_of_no_item_embeddings_still_have_a_gradient() -> None:
    class Skipping(nn.Module):
        """An encoder that runs no layer where there is nothing to encode."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, data: Tensor) -> Tensor:
            return self.layer(data) if len(data) else data.new_zeros(0, 2)

    encoder, nothing = Skipping(), torch.zeros(0, 3)
    for micro in (None, 2):
        z = embed(encoder, nothing, micro)
        assert z.shape == (0, 2)
        z.sum().backward()
        assert not any(p.grad is not None and p.grad.any() for p in encoder.parameters())
    with torch.no_grad():
        assert not embed(encoder, nothing).requires_grad
    assert not embed(encoder.requires_grad_(False), nothing).requires_grad


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


# --- texts, whose lengths differ -------------------------------------------------------------------------------------

TEXTS = [" ".join(f"word{(7 * i + j) % 13}" for j in range(1 + (5 * i) % 11)) for i in range(14)]


def transformer(dropout: float, *, family: str = "bert") -> TextTransformer:
    """bert: computed without padding; distilbert: in parts of like length, padded."""
    torch.manual_seed(0)
    architecture = {
        "model_type": "distilbert",
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 32,
    } | dict.fromkeys(("dropout", "attention_dropout"), dropout)
    config = TextTransformerConfig(
        layers=2,
        width=16,
        heads=2,
        max_length=16,
        dropout=dropout,
        architecture=architecture if family != "bert" else {},
    )
    return TextTransformer.from_texts(TEXTS, config).double().train()


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("micro", [1, 3, 5])
def test_texts_packed_by_tokens_give_what_the_batch_in_its_order_gives(family: str, micro: int) -> None:
    whole, cached = transformer(0.0, family=family), transformer(0.0, family=family)
    data = whole.collate(TEXTS)
    expected, actual = embed(whole, data), embed(cached, data, micro)
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)
    loss_of(expected).backward()
    loss_of(actual).backward()
    for a, b in zip(gradients(cached), gradients(whole)):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_with_dropout_the_gradient_is_that_of_the_same_passes_with_their_graphs_kept(family: str) -> None:
    """To the bit: masks, order of the sums and all. And the masks matter: another draw gives another gradient."""
    cached, plain = transformer(0.3, family=family), transformer(0.3, family=family)
    data = cached.collate(TEXTS)
    torch.manual_seed(5)
    z = embed(cached, data, 4)
    loss_of(z).backward()
    after = torch.get_rng_state()

    torch.manual_seed(5)
    order, slices = cut(lengths(data), 4)
    assert order is not None
    assert len(slices) == 4
    place = torch.from_numpy(order)
    kept = torch.cat([plain(part(data, place, where)) for where in slices])
    expected = torch.empty_like(kept)
    expected = expected.index_copy(0, place, kept)
    loss_of(expected).backward()
    assert torch.equal(z, expected)
    assert torch.equal(after, torch.get_rng_state())
    for a, b in zip(gradients(cached), gradients(plain)):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)

    plain.zero_grad()
    loss_of(embed(plain, data, 4)).backward()
    assert not torch.allclose(gradients(plain)[0], gradients(cached)[0])


def test_passes_of_texts_are_as_wide_as_their_longest() -> None:
    net = transformer(0.0)
    shapes: list[tuple[int, ...]] = []
    net.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0]["input_ids"].shape)))
    data = net.collate(TEXTS)
    with torch.no_grad():
        embed(net, data, 4)
    wide = data["input_ids"].shape[1]
    assert [t for _, t in shapes] == sorted((t for _, t in shapes), reverse=True)
    assert shapes[0][1] == wide
    assert max(n * t for n, t in shapes) <= 3 * wide, "cut by rows, the longest pass held 4"
    assert sum(n for n, _ in shapes) == len(TEXTS)


# --- any encoders, any objective -------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Two towers, one of which is called on two views, a teacher, a contrast and a decorrelation."""

    def __init__(self) -> None:
        super().__init__()
        self.text = transformer(0.0)
        torch.manual_seed(1)
        self.image = ConvNet(ConvNetConfig(size=8, widths=(16,), depths=(1,), stem_width=4, norm="group")).double()
        self.teacher = Teacher(self.image, momentum=0.9)
        self.scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, texts: dict[str, Tensor], images: Tensor, micro: int | Budget | None) -> Tensor:
        text = F.normalize(embed(self.text, texts, micro), dim=-1)
        one, two = (embed(self.image, x, micro) for x in (images, images.flip(-1)))
        with torch.no_grad():
            frozen = F.normalize(embed(self.teacher, images, micro), dim=-1)
        assert not frozen.requires_grad
        towers = contrast(text, F.normalize(one, dim=-1), Diagonal(), scale=self.scale, both=True)
        return towers + 0.1 * barlow_twins(one, two) + contrast(F.normalize(two, dim=-1), frozen, scale=self.scale)


@pytest.mark.parametrize("how", ["items", "memory"])
def test_any_encoders_and_any_objective(how: str) -> None:
    whole, cached = Everything(), Everything()
    texts = whole.text.collate(TEXTS)
    images = torch.rand(len(TEXTS), 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    micro: int | Budget = 3 if how == "items" else Budget(360_000, cached)
    calls: list[int] = []
    cached.image.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    expected, actual = whole(texts, images, None), cached(texts, images, micro)
    assert actual.item() == pytest.approx(expected.item(), abs=1e-9)
    calls.clear()
    expected.backward()
    actual.backward()
    assert len(calls) > 2, "more than one pass for each view was computed again"
    assert sum(calls) == 2 * len(TEXTS)
    for (name, a), b in zip(cached.named_parameters(), whole.parameters()):
        assert (a.grad is None) == (b.grad is None) == name.startswith("teacher."), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-9, rtol=1e-9)


def test_an_encoder_called_twice_replays_the_masks_of_each_call() -> None:
    """The same data encoded twice, as unsupervised SimCSE does: each call replays its own masks."""
    net = transformer(0.3)
    plain = copy.deepcopy(net)
    data = net.collate(TEXTS)
    torch.manual_seed(2)
    a, b = embed(net, data, 4), embed(net, data, 4)
    assert not torch.allclose(a, b)
    (a * b.roll(1, 0)).sum().backward()
    torch.manual_seed(2)
    order, slices = cut(lengths(data), 4)
    place = torch.from_numpy(order)
    c, d = (torch.cat([plain(part(data, place, s)) for s in slices])[place.argsort()] for _ in range(2))
    (c * d.roll(1, 0)).sum().backward()
    for x, y in zip(gradients(net), gradients(plain)):
        torch.testing.assert_close(x, y, atol=1e-12, rtol=1e-12)
