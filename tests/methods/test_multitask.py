"""The loss of a batch is that of its source's method, with the one encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.data.schema import Schema
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import find
from counterpoint.methods.text.multitask import Config, Multitask
from tests.conformance.rows import rows, source

KINDS = {"qa": "pairs", "faq": "pairs", "sts": "scored", "plain": "texts", "intents": "labelled"}
PARTS = {name: Schema(kind=kind, columns={}) for name, kind in KINDS.items()}  # type: ignore[arg-type]


def build(**settings: Any) -> Multitask:
    torch.manual_seed(0)
    encoder = StaticText.build(StaticTextConfig(dim=16, token_dropout=0.0), source("text"))
    return Multitask(encoder, Config(**{"size": "smoke", "parts": PARTS, **settings}))


def batch_of(method: Multitask, source: str, n: int = 6) -> Any:
    number = list(KINDS).index(source)
    found = [{**r, "source": number} for r in rows(KINDS[source], n)]
    return method.views(found, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("source", "usual"),
    [("qa", "in-batch"), ("sts", "graded"), ("plain", "simcse"), ("intents", "supcon")],
)
def test_a_batch_has_the_loss_and_gradient_of_its_own_method(source: str, usual: str) -> None:
    method, cls = build(), find(usual)
    torch.manual_seed(3)
    alone = cls(method.encoder, cls.recipe("smoke").config).train()
    if hasattr(alone, "head"):
        alone.head.load_state_dict(method._inner(list(KINDS).index(source)).head.state_dict())  # type: ignore[union-attr, arg-type]
    method.train()
    losses = method.losses(batch_of(method, source))
    expected = alone.losses(alone.views(rows(KINDS[source], 6), np.random.default_rng(1)))
    assert {name: float(v.detach()) for name, v in losses.items()} == {
        f"{source}/{name}": float(v.detach()) for name, v in expected.items()
    }
    weight = next(method.encoder.parameters())
    [own], [theirs] = (torch.autograd.grad(sum(x.values()), [weight]) for x in (losses, expected))  # type: ignore[arg-type, call-overload]
    assert own.abs().max() > 0
    assert torch.equal(own, theirs)


def test_a_source_may_have_another_objective_weight_and_setting() -> None:
    plain = build()
    method = build(
        objectives={"sts": "graded", "faq": "in-batch"},
        weights={"pairs": 0.5, "faq": 2.0},
        settings={"graded.scale": 1.0, "in-batch.temperature": 0.5},
    )
    hand = build(settings={"in-batch.temperature": 0.5})
    for name, factor in (("qa", 0.5), ("faq", 2.0)):
        [got], [once] = (m.losses(batch_of(m, name)).values() for m in (method, hand))
        assert float(got.detach()) == pytest.approx(factor * float(once.detach()))
    [gentle], [usual] = (m.losses(batch_of(m, "sts")).values() for m in (method, plain))
    sides = (plain.encoder(batch_of(plain, "sts").one(role).data) for role in ("anchor", "positive"))
    a, b = (torch.nn.functional.normalize(z, dim=-1) for z in sides)
    cos, n = (a * b).sum(-1).detach(), 6  # scores rise with the row
    for found, scale in ((gentle, 1.0), (usual, 20.0)):
        wrong = sum(torch.exp(scale * (cos[j] - cos[i])) for i in range(n) for j in range(i))
        assert float(found.detach()) == pytest.approx(float(torch.log(1 + wrong)), rel=1e-5)


def test_the_encoder_is_held_once_and_sources_of_a_method_share_its_parts() -> None:
    method = build(settings={"in-batch.learnable": True})
    assert sum(k.startswith("encoder.") for k in method.state_dict()) == len(method.encoder.state_dict())
    assert not any(".encoder." in k for k in method.state_dict())
    assert method._inner(0) is method._inner(1)
    assert method._inner(0) is not method._inner(2)
    assert all(inner.encoder is method.encoder for inner in method.inner.values())
    assert sum("scale" in k for k, _ in method.named_parameters()) == 1


def test_the_trainers_settings_reach_the_inner_method() -> None:
    method = build()
    method.micro_batch = 2
    cut = method.losses(batch_of(method, "qa"))["qa/rank"]
    assert method._inner(0).micro_batch == 2
    method.micro_batch = None
    assert float(cut) == pytest.approx(float(method.losses(batch_of(method, "qa"))["qa/rank"]))


def test_what_is_refused() -> None:
    method = build()
    both = [{**rows("pairs", 1)[0], "source": 0}, {**rows("scored", 1)[0], "source": 2}]
    with pytest.raises(DataError, match="rows of one source; this one has qa, sts"):
        method.views(both, np.random.default_rng(0))
    with pytest.raises(DataError, match="this one has no rows"):
        method.views([], np.random.default_rng(0))
    for settings, says in (
        ({"objectives": {"sts": "in-batch"}}, "in-batch learns from pairs, and rows of the kind scored"),
        ({"objectives": {"sts": "simcse"}}, "simcse learns from texts, and rows of the kind scored"),
        ({"objectives": {"nli": "in-batch"}}, "names 'nli', which is no source"),
        ({"weights": {"nli": 1.0}}, "weights names 'nli'"),
        ({"settings": {"contriever.queue": 9}}, "settings names the method 'contriever'"),
        ({"settings": {"graded.queue": 9}}, "graded has no setting 'queue'. It has: angle, scale"),
        ({"objectives": {"qa": "nonsense"}}, "no method 'nonsense'"),
        ({"parts": {}}, "give what each source holds"),
    ):
        with pytest.raises(ConfigError, match=says):
            build(**settings)


def test_sources_whose_classes_differ_have_parts_of_their_own() -> None:
    parts = {n: replace(PARTS["intents"], labels=labels) for n, labels in (("a", ("x", "y")), ("b", ("v", "w")))}
    method = build(parts=parts)
    assert method._inner(0) is not method._inner(1)
