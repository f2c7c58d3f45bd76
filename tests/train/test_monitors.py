from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import DivergedError
from counterpoint.objectives.geometry import effective_rank
from counterpoint.train import monitors
from counterpoint.train.monitors import Watch, readings

LOSS = {"rank": torch.tensor(1.0)}


def watched(anchor: Tensor, *, classes: Tensor | None = None, steps: int = 1) -> Watch:
    watch = Watch()
    for step in range(1, steps + 1):
        watch.see(step, LOSS, None, {"anchor": anchor}, classes)
    return watch


def test_readings_by_hand() -> None:
    anchor = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    positive = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    out = readings({"anchor": anchor, "positive": positive, "scale": torch.tensor(20.0)})
    assert out["alignment"] == pytest.approx(1.0)  # |e1 - e1|² = 0 and |e2 - e1|² = 2, of unit vectors
    assert out["accuracy"] == pytest.approx(0.5)  # both nearest to the first
    assert out["uniformity"] == pytest.approx(-4.0)  # log exp(-2 · 2)
    assert out["effective_rank"] == pytest.approx(2.0)
    assert out["random_cosine"] == pytest.approx(0.0, abs=1e-6)
    assert out["temperature"] == pytest.approx(0.05)


def test_readings_of_what_was_shown_only() -> None:
    assert readings({}) == {}
    assert set(readings({"anchor": torch.randn(5, 3)})) == {"uniformity", "effective_rank", "random_cosine"}
    assert readings({"anchor": torch.randn(1, 3)}) == {}
    # Hard negatives beside the positives: no row-to-row pairing to measure.
    assert "accuracy" not in readings({"anchor": torch.randn(5, 3), "positive": torch.randn(9, 3)})


def test_readings_look_at_few_rows_spread_over_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(monitors, "effective_rank", lambda z: (seen.append(z), torch.tensor(1.0))[1])
    readings({"anchor": torch.eye(4)[torch.arange(2000) // 500]})
    assert len(seen[0]) <= monitors.ROWS
    assert len(seen[0].unique(dim=0)) == 4


def test_collapsed_embeddings_do_not_read_as_accurate() -> None:
    z = torch.ones(10, 3)
    assert readings({"anchor": z, "positive": z})["accuracy"] == pytest.approx(0.1)


@given(st.integers(4, 40), st.integers(1, 12), st.floats(0, 4), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_participation_never_exceeds_the_effective_rank(n: int, d: int, decay: float, seed: int) -> None:
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, d + 1).float() ** -decay
    watch = watched(z)
    unit = F.normalize(z, dim=-1)
    sigma = torch.linalg.svdvals(unit.double())
    assert watch.figures["participation"] == pytest.approx(
        float(sigma.square().sum() ** 2 / sigma.pow(4).sum()), rel=1e-3
    )
    assert watch.figures["participation"] <= float(effective_rank(unit)) * (1 + 1e-4)


def test_collapse_to_a_point_counts_steps_and_a_good_step_starts_again() -> None:
    torch.manual_seed(0)
    point = torch.ones(20, 8) + 0.1 * torch.randn(20, 8)
    watch = watched(point, steps=7)
    assert watch.collapsed == 7
    assert "mean cosine of 0.99" in watch.explain(7)
    watch.see(8, LOSS, None, {"anchor": torch.randn(20, 8)})
    assert watch.collapsed == 0


def test_collapse_to_a_line_through_the_origin() -> None:
    signs = torch.tensor([1.0, -1.0]).repeat(10)
    line = signs[:, None] * torch.tensor([0.6, 0.8, 0.0])
    watch = watched(line, steps=2)
    assert watch.collapsed == 2
    assert "effective rank is 1.00" in watch.explain(2)
    assert watched(line, classes=(signs > 0).long()).collapsed == 0, "two classes told apart are two points"
    assert watched(line, classes=torch.arange(20)).collapsed == 1


def test_zeros_are_a_collapse_and_three_rows_are_not_judged() -> None:
    assert watched(torch.zeros(10, 4)).collapsed == 1
    assert watched(torch.ones(3, 4)).collapsed == 0
    assert watched(torch.eye(6)).collapsed == 0


def test_rank_is_computed_only_under_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(monitors, "effective_rank", lambda z: (calls.append(1), torch.tensor(3.0))[1])
    watched(torch.eye(6), steps=3)
    assert not calls
    flat = torch.tensor([1.0, -1.0]).repeat(4)[:, None] * torch.tensor([[1.0, 0.0]])
    assert watched(flat).collapsed == 0, "the bound alone convicts nobody"
    assert calls == [1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_named(value: float) -> None:
    losses = {"soft": torch.tensor(1.0), "hard": torch.tensor(value)}
    with pytest.raises(DivergedError, match=rf"loss part 'hard' is {value} at step 12"):
        Watch().see(12, losses, torch.tensor(1.0), {})


def test_gradient_that_is_not_finite_is_named() -> None:
    with pytest.raises(DivergedError, match="gradient's norm is nan at step 3"):
        Watch().see(3, LOSS, torch.tensor(math.nan), {})


def test_a_device_is_read_one_step_late_and_at_the_flush() -> None:
    class Event:
        def __init__(self) -> None:
            self.waits = 0

        def synchronize(self) -> None:
            self.waits += 1

    watch = Watch()
    sample = monitors.Sample(1, ("loss/rank",), torch.tensor([math.nan]), None, None, Event())
    watch._waiting = sample
    with pytest.raises(DivergedError, match="step 1"):
        watch.see(2, LOSS, None, {})
    assert sample.ready.waits == 1
    watch._waiting = sample
    with pytest.raises(DivergedError, match="step 1"):
        watch.flush()
