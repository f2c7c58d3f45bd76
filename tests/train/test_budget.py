from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Batch, View
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.train.budget import Budget, Tally, shown, step
from counterpoint.train.config import TrainConfig, parse_bytes
from counterpoint.train.gradcache import embed

KiB, MiB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GiB", 8 << 30), ("500MB", 500_000_000), ("2e9", 2 * 10**9), ("1.5 kib", 1536), ("64B", 64), ("7", 7)],
)
def test_bytes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "8 gigs", "8Gi", "-1GB", "GiB", "0", "8iB", "1,5GB"])
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="for example 8GiB"):
        TrainConfig(memory=text)


def test_size_is_found_or_given_not_both() -> None:
    with pytest.raises(ConfigError, match="Give one of them"):
        TrainConfig(memory="1GiB", micro_batch=8)


def test_shown_bytes_are_read_back() -> None:
    assert shown(3 * MiB / 2) == "1.5MiB"
    for count in (1, 1000, 12_345, 99 * MiB + 1, 7 << 30):
        assert count <= parse_bytes(shown(count, up=True)) <= 1.1 * count + 1


def test_tensors_count_for_as_long_as_they_live() -> None:
    x = torch.ones(1024)  # made outside: never counts
    with Tally() as tally:
        a = x + 1
        b = a.view(32, 32)[3:]
        a.mul_(2)
        assert tally.now == 4 * KiB, "views and edits in place are not new"
        del a
        assert tally.now == 4 * KiB, "the view holds it"
        c = torch.cat([x, x])
        del b
        assert tally.now == 8 * KiB
        assert tally.peak == 12 * KiB
        del c
        assert tally.now == 0


def test_a_pass_is_measured_with_its_backward_pass() -> None:
    x = torch.ones(64, 1024)
    net = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Tanh(), nn.Tanh())
    found = step(net, x, list(net.parameters()), x.device)
    wide = 64 * 1024 * 4
    assert found.embeddings == wide
    assert found.kept == 2 * wide, "what tanh gives; x came from outside, and what the linear layer gave is gone"
    # Where the weights' gradient is made: z and its gradient, which the caller holds, and what comes down to the layer.
    assert found.peak == 3 * wide + 1024 * 1024 * 4
    assert all(p.grad is None for p in net.parameters())


class Wide(nn.Module):
    """Keeps 8 float32 numbers per input, in two layers, and counts its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 256), nn.Linear(256, 8)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        self.calls += 1
        return self.outer(self.drop(self.inner(x).tanh()))


def peak_of(net: nn.Module, x: Tensor, budget: Budget) -> int:
    """Bytes at most at once in a step with two views, beside the module."""
    for view in (x, x + 1):
        budget.passes(net, net, view)  # so that the measurement is not measured
    with Tally() as tally:
        views = View(x.clone(), "v", "anchor"), View(x + 1, "v", "positive")
        budget.begin(Batch(views, torch.arange(len(x))))
        a, b = (embed(net, view.data, budget) for view in views)
        (a * b.roll(1, 0)).sum().backward()
    return tally.peak


@pytest.mark.parametrize("memory", ["350KiB", "500KiB", "2MiB", "8MiB", "64MiB"])
def test_a_step_stays_within_its_budget(memory: str) -> None:
    torch.manual_seed(0)
    net, x = Wide(), torch.randn(500, 16)
    budget = Budget(parse_bytes(memory), net)
    peak = peak_of(net, x, budget) + sum(t.nbytes for t in (*net.parameters(), *net.buffers()))
    assert peak <= budget.memory
    if memory != "64MiB":
        assert peak > budget.memory / 4, "and uses what it has"


def test_more_memory_takes_fewer_passes_and_enough_keeps_the_graph() -> None:
    net, x = Wide(), torch.randn(500, 16)
    found = [Budget(int(m * MiB), net).passes(net, net, x) for m in (0.4, 0.7, 1, 100)]
    assert found[0] > found[1] > found[2] > 1
    assert found[3] == 0


def test_measuring_leaves_no_trace() -> None:
    net, x = Wide(), torch.randn(40, 16)
    before = torch.get_rng_state()
    Budget(MiB, net).passes(net, net, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.calls == 0
    assert net.rows, "it did run"
    assert all(p.grad is None for p in net.parameters())


def test_passes_do_not_depend_on_the_values_nor_on_what_came_before() -> None:
    """A resumed run measures in the middle of the data, and has to cut as the run that never stopped."""
    net, x = Wide(), torch.randn(500, 16)
    long = Budget(2 * MiB, net)
    first = [long.passes(net, net, part) for part in (x[:3], 100 * x[:200], x)]
    assert Budget(2 * MiB, net).passes(net, net, torch.zeros_like(x)) == first[-1]


def test_too_little_memory_is_told_with_what_is_needed() -> None:
    net, x = Wide(), torch.randn(40, 16)
    budget = Budget(60 * KiB, net)
    with pytest.raises(ConfigError, match=r"does not hold a single item. Wide takes .*KiB for one, beside .*KiB for"):
        embed(net, x, budget)
    try:
        embed(net, x, budget)
    except ConfigError as error:
        enough = str(error).split("Give memory=")[1].split()[0]
    assert embed(net, x, Budget(parse_bytes(enough), net)).shape == (40, 8)


def test_training_holds_what_its_settings_say() -> None:
    net = Wide()
    copies = [
        Budget.of(TrainConfig(memory="1GiB", **given), net).copies  # type: ignore[arg-type, union-attr]
        for given in ({}, {"optimizer": "sgd"}, {"ema": 0.9}, {"sam": 0.1})
    ]
    assert copies == [3, 2, 4, 5]
    assert Budget.of(TrainConfig(), net) is None
    weights = sum(p.nbytes for p in net.parameters())
    assert Budget(MiB, net, copies=3)._fixed() == 4 * weights + 4
    net.inner.requires_grad_(False)
    assert Budget(MiB, net, copies=3)._fixed() == weights + 3 * sum(p.nbytes for p in net.outer.parameters()) + 4


def test_texts_are_measured_at_the_length_the_encoder_reads() -> None:
    encoder = TextTransformer.from_texts(
        ["one two three four five six seven"] * 9, TextTransformerConfig(layers=1, width=16, heads=2, max_length=12)
    )
    short, long = encoder.collate(["one two"] * 50), encoder.collate(["one two three four five six seven"] * 50)
    budget = Budget(300 * KiB, encoder, copies=3)
    few, many = (budget.passes(encoder, encoder, data) for data in (short, long))
    assert few < many
    assert len(budget._lines) == 1, "one measurement serves batches of every length"
