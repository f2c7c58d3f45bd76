"""CoDiEmb: what each batch's loss is, written out, and what a batch may hold."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.infer import infer
from counterpoint.data.mixed import Mixed
from counterpoint.data.rows import Rows
from counterpoint.encoders.base import build as build_encoder
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.text.codiemb import CoDiEmb, Config, places, predecessors
from counterpoint.train.config import TrainConfig
from tests.conformance.rows import rows, source, text

RNG = np.random.default_rng(5)
# Two positives, three, one; one negative, none, two.
RANKED = [
    {"anchor": text(RNG), "positive": text(RNG), "positives": [text(RNG) for _ in range(p)],
     "negatives": [text(RNG) for _ in range(n)], "row": i}
    for i, (p, n) in enumerate([(1, 1), (2, 0), (0, 2)])
]  # fmt: skip
SCORED = [{"a": text(RNG), "b": text(RNG), "score": y, "row": i} for i, y in enumerate([5.0, 1.0, 3.0, 3.0, 0.0])]


def build(config: Any = None, **settings: Any) -> CoDiEmb:
    torch.manual_seed(0)
    return CoDiEmb(
        build_encoder(config or StaticTextConfig(dim=16), source("text")), Config(**{"scores": (0, 5), **settings})
    )


def unit(method: CoDiEmb, items: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return F.normalize(method.encoder(method.encoder.collate(items)), dim=-1)


def losses(method: CoDiEmb, found: list[dict[str, Any]]) -> dict[str, float]:
    batch = method.views(found, np.random.default_rng(0))
    return {name: float(value.detach()) for name, value in method.losses(batch).items()}


def test_a_positive_is_ranked_among_those_of_its_slot_and_all_negatives() -> None:
    method = build(temperature=0.1, positives=3)
    q = unit(method, [r["anchor"] for r in RANKED])
    slots = [[(i, ps[j]) for i, ps in enumerate([r["positive"], *r["positives"]] for r in RANKED) if len(ps) > j]
             for j in range(3)]  # fmt: skip
    negatives = [n for r in RANKED for n in r["negatives"]]
    found = []
    for slot in slots:
        candidates = unit(method, [p for _, p in slot] + negatives)
        for place, (i, _) in enumerate(slot):
            scores = (candidates @ q[i] / 0.1).tolist()
            found.append(math.log(sum(map(math.exp, scores))) - scores[place])
    assert [len(slot) for slot in slots] == [3, 2, 1]
    assert losses(method, RANKED)["rank"] == pytest.approx(np.mean(found), rel=1e-5)


def test_full_slots_weigh_the_same_and_no_negatives_leave_in_batch_ranking() -> None:
    method = build(temperature=0.1)
    two = [{**r, "positives": [text(RNG)], "negatives": []} for r in RANKED]
    apart = [[{**r, "positive": p, "positives": []} for r, p in zip(two, ps)]
             for ps in ([r["positive"] for r in two], [r["positives"][0] for r in two])]  # fmt: skip
    one_by_one = [losses(method, slot)["rank"] for slot in apart]
    assert losses(method, two)["rank"] == pytest.approx(np.mean(one_by_one), rel=1e-5)


def test_the_positive_before_is_that_of_the_row_before_in_its_slot() -> None:
    owner = torch.tensor([0, 1, 2, 0, 2, 2])  # slot by slot
    assert predecessors(owner).tolist() == torch.arange(6).roll(1).tolist()
    assert predecessors(owner[:1]).tolist() == [0]


def test_only_as_many_positives_and_negatives_as_asked_are_drawn() -> None:
    many = [{**r, "positives": [text(RNG) for _ in range(6)], "negatives": [text(RNG) for _ in range(7)]}
            for r in RANKED]  # fmt: skip
    batch = build(positives=2, negatives=3).views(many, np.random.default_rng(0))
    assert torch.bincount(batch.one("positive").owner).tolist() == [2, 2, 2]
    assert torch.bincount(batch.one("negative").owner).tolist() == [3, 3, 3]
    # What says the same as the query or its positive is no further positive.
    same = [{**r, "positives": [r["anchor"], r["positive"]]} for r in RANKED]
    assert len(build().views(same, np.random.default_rng(0)).one("positive")) == 3
    assert places(torch.tensor([0, 1, 0, 2, 0, 2])).tolist() == [0, 0, 1, 0, 2, 1]


def test_scored_pairs_have_three_losses_of_their_order() -> None:
    method = build(pearson=2.0, pro=0.5, rank_kl=5.0, list_temperature=0.2)
    a, b = unit(method, [r["a"] for r in SCORED]), unit(method, [r["b"] for r in SCORED])
    cos, y = (a * b).sum(1).double().numpy(), np.array([1.0, 0.2, 0.6, 0.6, 0.0])
    p = np.exp(np.array([4, 1, 2.5, 2.5, 0]) / 4 / 0.2)
    s = np.exp(cos / 0.2)
    p, s = p / p.sum(), s / s.sum()
    terms = []
    for k in range(5):
        lower = [j for j in range(5) if y[k] > y[j]]
        if lower:
            own = max(y[k] - y[j] for j in lower) * cos[k] / 0.2
            others = [(y[k] - y[j]) * cos[j] / 0.2 for j in lower]
            terms.append(math.log(sum(map(math.exp, [own, *others]))) - own)
    expected = {
        "pearson": 2 * (1 - np.corrcoef(cos, y)[0, 1]),
        "pro": 0.5 * np.mean(terms),
        "rank_kl": 5 * (p * np.log(p / s)).sum() / 5,
    }
    assert losses(method, SCORED) == pytest.approx(expected, rel=1e-4)


def test_the_middle_layer_ranks_pairs_that_belong_together() -> None:
    config = TextTransformerConfig(layers=4, width=32, heads=4, max_length=32, vocabulary=300, dropout=0.0)
    method = build(config, threshold=0.6, temperature=0.1).eval()
    encoder: Any = method.encoder
    assert method.middle == 2  # of five states, the embeddings being the first, that of index 2
    sides = [encoder.collate([r[k] for r in SCORED]) for k in ("a", "b")]
    a, b = (F.normalize(encoder.exits(x, [2])[:, 0], dim=-1) for x in sides)
    scores = a @ b.T / 0.1
    expected = F.cross_entropy(scores[[0, 2, 3]], torch.tensor([0, 2, 3]))  # 5, 3 and 3 of 5
    assert losses(method, SCORED)["mid"] == pytest.approx(float(expected.detach()), rel=1e-4)
    assert build(config, mid=0.0).middle is None
    assert "mid" not in losses(build(), SCORED)  # a static encoder has no middle


def test_equal_scores_count_as_silent_and_move_nothing() -> None:
    method = build().train()
    batch = method.views([{**r, "score": 3.0} for r in SCORED], np.random.default_rng(0))
    with pytest.warns(UserWarning, match="one score only"):
        found = method.losses(batch)
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert [float(v.detach()) for v in found.values()] == [0, 0, 0]
    assert all(float(p.grad.abs().max()) == 0 for p in method.parameters() if p.grad is not None)
    assert int(method.silent) == 1
    losses(method, SCORED)
    assert int(method.silent) == 1


def test_scores_are_rescaled_by_what_the_rows_hold_or_refused() -> None:
    data = datasets.Dataset.from_dict({k: [r[k] for r in SCORED] for k in ("a", "b", "score")})
    part = Rows(data, infer(data))
    pairs = datasets.Dataset.from_dict({"anchor": ["x", "y"], "positive": ["v", "w"]})
    mixed = Mixed({"qa": Rows(pairs, infer(pairs)), "sts": part})
    for found in (part, mixed):
        method = build(scores=None)
        method.sampler(found, TrainConfig())
        scored = [r for r in found if "score" in r]
        batch = method.views(scored, np.random.default_rng(0))
        assert batch.labels["score"].tolist() == pytest.approx([1, 0.2, 0.6, 0.6, 0])
    method = build(scores=None)
    method.sampler(Rows(data, infer(data, columns={"range": "-5..5"})), TrainConfig())
    assert method.views(SCORED, np.random.default_rng(0)).labels["score"].tolist() == pytest.approx(
        [1, 0.6, 0.8, 0.8, 0.5]
    )
    with pytest.raises(DataError, match=r"outside 0 to 4 in 1 of 5 rows \(first: row 0, with 5\)"):
        build(scores=(0, 4)).sampler(mixed, TrainConfig())  # before the first step
    with pytest.raises(DataError, match=r"score 5, outside 0 to 1.*--set scores='\[0, 5\]'"):
        build(scores=None).views(SCORED, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="lowest score and the highest"):
        build(scores=(5, 0))


def test_one_loss_for_both_tasks_is_what_the_comparison_says() -> None:
    method = build(scored_by="contrast", threshold=0.6, temperature=0.1)
    a, b = unit(method, [r["a"] for r in SCORED]), unit(method, [r["b"] for r in SCORED])
    expected = F.cross_entropy((a @ b.T / 0.1)[[0, 2, 3]], torch.tensor([0, 2, 3]))
    assert losses(method, SCORED) == pytest.approx({"contrast": float(expected)}, rel=1e-4)
    method = build(ranked_by="order", positives=1)
    plain = [{**r, "positives": []} for r in RANKED]
    q, p = unit(method, [r["anchor"] for r in plain]), unit(method, [r["positive"] for r in plain])
    n, own = unit(method, [n for r in plain for n in r["negatives"]]), [0, 2, 2]
    low = torch.cat([(q * p.roll(1, 0)).sum(1), (q[own] * n).sum(1)])
    high = (q * p).sum(1)
    expected = torch.log(1 + torch.exp(20 * (low[None, :] - high[:, None])).sum())
    assert losses(method, plain) == pytest.approx({"rank": float(expected)}, rel=1e-4)


def test_a_batch_of_both_tasks_is_refused_unless_asked_for() -> None:
    with pytest.raises(DataError, match="3 pairs and 5 scored pairs"):
        build().views([*RANKED, *SCORED], np.random.default_rng(0))
    assert [len(v) for v in build().views([], np.random.default_rng(0)).views] == [0, 0]  # others know the task
    with pytest.raises(DataError, match="not from rows of text"):
        build().views(rows("texts", 2), np.random.default_rng(0))
    both = build(apart=False)
    found = losses(both, [SCORED[0], *RANKED, *SCORED[1:]])
    assert found == pytest.approx({**losses(both, RANKED), **losses(both, SCORED)}, rel=1e-5)


def test_sources_of_other_kinds_are_refused_before_the_first_step() -> None:
    data = datasets.Dataset.from_dict({"text": ["a", "b"]})
    part = Rows(data, infer(data))
    with pytest.raises(DataError, match="and not from this one: texts"):
        build().sampler(Mixed({"t": part}), TrainConfig())


def test_further_positives_are_read_where_they_are_named() -> None:
    data = datasets.Dataset.from_dict({"q": ["a", "b"], "p": ["c", "d"], "more": [["e", " "], []], "one": ["f", "g"]})
    schema = infer(data, columns={"anchor": "q", "positive": "p", "positives": ["more", "one"]})
    assert schema.kind == "pairs"
    found = Rows(data, schema)
    assert [r["positives"] for r in found] == [["e", "f"], ["g"]]
    assert (found.keys() >= 0).sum(1).tolist() == [5, 3]  # a positive of one row is no negative of another
    with pytest.raises(DataError, match="do not go together"):
        infer(data, columns={"text": "q", "positives": "more"})
    assert replace(schema).modalities["positives"] == "text"
