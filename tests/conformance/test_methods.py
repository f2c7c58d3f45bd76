"""Every method passes these checks, on every kind of rows and every modality it says it can learn from."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from counterpoint.data.batch import Batch
from counterpoint.encoders.base import Encoder
from counterpoint.methods.base import Method, discover
from tests.conformance.rows import build, rows

pytest.importorskip("PIL")

CASES = [
    (name, cls, kind, modality)
    for name, cls in discover().items()
    for kind in cls.spec.needs
    for modality in (cls.spec.modalities if kind in ("labelled", "items", "bags") else cls.spec.modalities[:1])
]
IDS = [f"{name}-{kind}-{modality}" for name, _, kind, modality in CASES]
every = pytest.mark.parametrize(("name", "cls", "kind", "modality"), CASES, ids=IDS)


def batch_of(method: Method, kind: str, modality: str, n: int = 8, seed: int = 0) -> Batch:
    return method.views(rows(kind, n, modality), np.random.default_rng(seed))


def total(losses: dict[str, Tensor]) -> Tensor:
    assert losses
    assert all(v.ndim == 0 for v in losses.values())
    return torch.stack(list(losses.values())).sum()


def test_there_are_methods() -> None:
    assert {"in-batch", "simcse", "supcon", "two-tower", "contriever", "directpred"} <= set(discover())


@every
def test_it_says_what_it_is(name: str, cls: type[Method], kind: str, modality: str) -> None:
    doc = sys.modules[cls.__module__].__doc__ or ""
    assert str(cls.spec.year) in doc or "arXiv" in doc
    assert "=" in doc  # the equation
    assert "ublished" in doc or "ettings" in doc
    assert dataclasses.is_dataclass(cls.Config)
    assert cls.Config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for size in ("published", "small", "smoke"):
        recipe = cls.recipe(size)
        assert isinstance(recipe.config, cls.Config)


@every
def test_gradients_reach_what_should_move(name: str, cls: type[Method], kind: str, modality: str) -> None:
    method = build(cls, modality).train()
    method.before_training(10)
    total(method.losses(batch_of(method, kind, modality))).backward()
    trainable = {k: p for k, p in method.named_parameters() if p.requires_grad}
    assert trainable
    silent = [k for k, p in trainable.items() if p.grad is None]
    assert not silent, f"no gradient reaches {silent}: freeze them (requires_grad False) or use them"
    assert all(torch.isfinite(p.grad).all() for p in trainable.values() if p.grad is not None)
    assert any(p.grad.abs().max() > 0 for p in trainable.values() if p.grad is not None)


@every
def test_views_are_pure_and_typed(name: str, cls: type[Method], kind: str, modality: str) -> None:
    method = build(cls, modality)
    one, two = (batch_of(method, kind, modality, seed=3) for _ in range(2))
    assert len(one) == 8
    assert torch.equal(one.rows, two.rows)
    for a, b in zip(one.views, two.views, strict=True):
        assert (a.role, a.stream) == (b.role, b.stream)
        left, right = (d if isinstance(d, Tensor) else dict(d) for d in (a.data, b.data))
        if isinstance(left, Tensor):
            assert torch.equal(left, right)  # type: ignore[arg-type]
        else:
            assert all(torch.equal(left[k], right[k]) for k in left)  # type: ignore[index]


@every
def test_same_seed_same_bits_over_three_steps(name: str, cls: type[Method], kind: str, modality: str) -> None:
    states = []
    for _ in range(2):
        method = build(cls, modality).train()
        method.before_training(3)
        optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
        torch.manual_seed(1)
        for step in range(1, 4):
            optimizer.zero_grad()
            total(method.losses(batch_of(method, kind, modality, seed=step))).backward()
            optimizer.step()
            method.after_step(step)
        states.append(method.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@every
def test_a_saved_method_goes_on_as_the_original(name: str, cls: type[Method], kind: str, modality: str) -> None:
    method = build(cls, modality).train()
    method.before_training(5)
    batch = batch_of(method, kind, modality)
    total(method.losses(batch)).backward()
    method.after_step(1)
    other = build(cls, modality, seed=7).train()
    other.before_training(5)
    other.load_state_dict(method.state_dict())
    values = []
    for m in (method, other):
        torch.manual_seed(2)
        values.append(total(m.losses(batch)))
    assert torch.equal(values[0], values[1])


@every
def test_a_batch_of_one_is_finite_or_refused_with_a_sentence(
    name: str, cls: type[Method], kind: str, modality: str
) -> None:
    from counterpoint.errors import CounterpointError

    method = build(cls, modality).train()
    method.before_training(1)
    try:
        loss = total(method.losses(batch_of(method, kind, modality, n=1)))
    except (CounterpointError, ValueError) as error:
        said = str(error)  # batch statistics of one row do not exist
    else:
        said = "a finite loss" if torch.isfinite(loss) else ""
    assert len(said) > 10


@every
def test_encode_gives_one_embedding_per_row(name: str, cls: type[Method], kind: str, modality: str) -> None:
    method = build(cls, modality).eval()
    for stream, encoder in method.towers().items():
        assert isinstance(encoder, Encoder)
        assert encoder.modality == stream
    with torch.no_grad():
        z = method.encode(batch_of(method, kind, modality))
    assert z.shape[0] == 8
    assert torch.isfinite(z).all()


@every
def test_the_monitors_are_shown_pairs(name: str, cls: type[Method], kind: str, modality: str) -> None:
    method = build(cls, modality).train()
    method.before_training(1)
    method.losses(batch_of(method, kind, modality))
    assert {"anchor", "positive"} <= set(method.observed)
    assert method.observed["anchor"].shape == method.observed["positive"].shape
    assert not method.observed["anchor"].requires_grad
