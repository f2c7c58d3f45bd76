"""The in-house text baselines and Contriever: each mechanism pinned by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError
from counterpoint.methods.text.contriever import Config as ContrieverConfig
from counterpoint.methods.text.contriever import Contriever
from counterpoint.methods.text.graded import Graded
from counterpoint.methods.text.in_batch import Config as InBatchConfig
from counterpoint.methods.text.in_batch import InBatch
from counterpoint.methods.text.simcse import Config as SimCSEConfig
from counterpoint.methods.text.simcse import SimCSE
from tests.toys import Vectors, Words

RNG = np.random.default_rng(0)


def pairs(n: int, dim: int, negatives: int = 0) -> list[dict[str, object]]:
    draw = lambda: RNG.normal(size=dim).tolist()  # noqa: E731
    return [
        {"anchor": draw(), "positive": draw(), "negatives": [draw() for _ in range(negatives)], "row": i}
        for i in range(n)
    ]


def unit(rows: list[dict[str, object]], key: str) -> torch.Tensor:
    return F.normalize(torch.tensor([r[key] for r in rows]), dim=-1)


def test_in_batch_is_cross_entropy_over_positives_and_every_hard_negative() -> None:
    rows = pairs(4, 3, negatives=2)
    rows[1]["negatives"] = []  # ragged
    method = InBatch(Vectors(3), InBatchConfig(temperature=0.1, both=False))
    loss = method.losses(method.views(rows, RNG))["rank"]
    negatives = F.normalize(torch.tensor([n for r in rows for n in r["negatives"]]), dim=-1)  # type: ignore[attr-defined]
    scores = unit(rows, "anchor") @ torch.cat([unit(rows, "positive"), negatives]).T / 0.1
    assert torch.allclose(loss, F.cross_entropy(scores, torch.arange(4)), atol=1e-5)


def test_in_batch_both_directions_is_the_mean_of_the_two() -> None:
    rows = pairs(5, 3)
    method = InBatch(Vectors(3), InBatchConfig(temperature=0.2, both=True))
    loss = method.losses(method.views(rows, RNG))["rank"]
    scores = unit(rows, "anchor") @ unit(rows, "positive").T / 0.2
    target = torch.arange(5)
    expected = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
    assert torch.allclose(loss, expected, atol=1e-5)


def test_hard_negatives_keep_their_owner() -> None:
    rows = pairs(3, 2)
    rows[2]["negatives"] = [[1.0, 0.0], [0.0, 1.0]]
    view = InBatch(Vectors(2)).views(rows, RNG).one("negative")
    assert view.owner is not None
    assert view.owner.tolist() == [2, 2]


def test_simcse_without_dropout_knows_its_positive_only_by_the_others() -> None:
    """Equal views: L_i = log Σ_j exp(scale (z_i·z_j - 1)); for orthogonal rows log(1 + (N-1) e^(-scale))."""
    method = SimCSE(Vectors(4), SimCSEConfig(temperature=0.5, head=False))
    rows = [{"text": row, "row": i} for i, row in enumerate(np.eye(4).tolist())]
    loss = method.losses(method.views(rows, RNG))["contrast"]
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-2.0)), abs=1e-5)


def test_simcse_draws_dropout_twice() -> None:
    torch.manual_seed(0)
    method = SimCSE(Vectors(64, dropout=0.5), SimCSEConfig(head=False))
    rows = [{"text": row, "row": i} for i, row in enumerate(np.ones((3, 64)).tolist())]
    method.losses(method.views(rows, RNG))
    assert not torch.equal(method.observed["anchor"], method.observed["positive"])


def test_graded_uses_only_the_order_of_the_scores() -> None:
    rows = [
        {"a": RNG.normal(size=3).tolist(), "b": RNG.normal(size=3).tolist(), "score": s, "row": i}
        for i, s in enumerate([0.1, 3.0, 2.0, 2.0])
    ]
    method = Graded(Vectors(3))
    first = method.losses(method.views(rows, RNG))["order"]
    for row in rows:
        row["score"] = math.exp(row["score"])  # type: ignore[arg-type]
    assert torch.equal(first, method.losses(method.views(rows, RNG))["order"])
    a, b = (torch.tensor([r[k] for r in rows]) for k in "ab")
    cos = F.cosine_similarity(a, b)
    order = [(1, 0), (2, 0), (3, 0), (1, 2), (1, 3)]  # (higher, lower) score
    expected = math.log(1 + sum(math.exp(20 * (cos[low] - cos[high])) for high, low in order))
    assert first.item() == pytest.approx(expected, rel=1e-4)


# --- Contriever -----------------------------------------------------------------------------------------------


def documents(n: int, length: int = 40) -> list[dict[str, object]]:
    return [{"text": " ".join(str((i * 7 + j) % 50) for j in range(length)), "row": i} for i in range(n)]


def contriever(**settings: object) -> Contriever:
    torch.manual_seed(0)
    defaults = {"queue": 8, "momentum": 0.9, "temperature": 1.0}
    return Contriever(Words(50, 6), ContrieverConfig(**{**defaults, **settings}))  # type: ignore[arg-type]


def test_a_query_competes_with_the_queue_and_not_with_its_batch() -> None:
    method = contriever()
    batch = method.views(documents(3), np.random.default_rng(1))
    loss = method.losses(batch)["contrast"]
    q = method.encoder(batch.one("anchor").data)
    k = method.encoder(batch.one("positive").data)  # the teacher is still a copy
    own = (q * k).sum(1, keepdim=True)
    scores = torch.cat([own, q @ method.queue.snapshot().T], 1)
    assert torch.allclose(loss, F.cross_entropy(scores, torch.zeros(3, dtype=torch.long)), atol=1e-5)


def test_only_the_query_side_learns() -> None:
    method = contriever()
    batch = method.views(documents(3), np.random.default_rng(1))
    method.losses(batch)["contrast"].backward()
    assert method.encoder.table.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert all(p.grad is None for p in method.teacher.parameters())
    # A gradient through the keys would differ: freeze the query instead and nothing is left.
    with torch.no_grad():
        query = method.encoder(batch.one("anchor").data)
    assert not query.requires_grad


def test_keys_join_the_queue_after_the_step_and_only_once() -> None:
    method = contriever()
    batch = method.views(documents(3), np.random.default_rng(1))
    before = method.queue.snapshot()
    method.losses(batch)
    method.losses(batch)  # an optimiser that replays the batch
    assert torch.equal(method.queue.snapshot(), before)
    keys = method.teacher(batch.one("positive").data)
    method.after_step(1)
    after = method.queue.snapshot()
    assert torch.allclose(after[:3], keys)
    assert torch.equal(after[3:], before[3:])


def test_the_key_encoder_follows_by_its_momentum() -> None:
    method = contriever(momentum=0.9)
    old = method.encoder.table.weight.detach().clone()  # type: ignore[operator]
    with torch.no_grad():
        method.encoder.table.weight += 1.0  # type: ignore[operator]
    method.after_step(1)
    teacher = dict(method.teacher.named_parameters())
    weight = next(v for k, v in teacher.items() if k.endswith("table.weight"))
    assert torch.allclose(weight, old + 0.1, atol=1e-6)


def test_in_batch_variant_is_cross_entropy_with_gradient_on_both_sides() -> None:
    method = contriever(negatives="in-batch")
    batch = method.views(documents(4), np.random.default_rng(1))
    loss = method.losses(batch)["contrast"]
    q, k = (method.encoder(batch.one(r).data) for r in ("anchor", "positive"))
    assert torch.allclose(loss, F.cross_entropy(q @ k.T, torch.arange(4)), atol=1e-5)
    assert not hasattr(method, "queue")


def test_crops_come_from_one_window_and_are_never_empty() -> None:
    method = contriever(chunk=16, crop=(0.05, 0.5), delete=0.9)
    rows = [{"text": " ".join(str(j) for j in range(50)), "row": 0}, {"text": "7", "row": 1}]
    for seed in range(30):
        batch = method.views(rows, np.random.default_rng(seed))
        pad = method.encoder.table.padding_idx  # type: ignore[union-attr]
        crops = [batch.one(r).data["input_ids"] for r in ("anchor", "positive")]  # type: ignore[index]
        real = [c[0][c[0] != pad] for c in crops]
        assert all(1 <= len(r) <= 8 for r in real)
        both = torch.cat(real)
        assert both.max() - both.min() < 16
        assert all((c[1] != pad).sum() == 1 for c in crops)


def test_views_are_a_pure_function_of_rows_and_generator() -> None:
    method = contriever()
    a, b = (method.views(documents(3), np.random.default_rng(5)) for _ in range(2))
    for x, y in zip(a.views, b.views):
        assert torch.equal(x.data["input_ids"], y.data["input_ids"])  # type: ignore[index]


@pytest.mark.parametrize("bad", [{"momentum": 1.0}, {"crop": (0.5, 0.1)}, {"negatives": "bank"}])
def test_settings_that_cannot_work_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        contriever(**bad)
