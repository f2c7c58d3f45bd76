"""How every arm is trained, and which proofs there are."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.data.loader import Loader
from counterpoint.data.rowset import Made
from counterpoint.data.sampler import Sampler, Shuffled
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.methods.base import discover as methods
from counterpoint.methods.text.simcse import Config, SimCSE
from counterpoint.proofs import base
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer

WORDS = ("red", "green", "blue", "black", "white", "grey", "pink", "brown", "gold", "violet")
TEXTS = [f"a sentence of {word}" for word in WORDS]
ROWS = [{"text": text} for text in TEXTS]


class InOrder(Sampler):
    """The first rows first; says for which batch it was asked."""

    def batches(self, epoch: int) -> Any:
        yield from np.arange(self.rows).reshape(-1, self.batch)


def learner(own: bool = False) -> SimCSE:
    torch.manual_seed(3)
    made = SimCSE(StaticText.from_texts(TEXTS, StaticTextConfig(dim=8, token_dropout=0.3)), Config(head=False))
    if own:
        made.sampler = lambda rows, config: InOrder(len(rows), config.batch)  # type: ignore[method-assign]
    return made


def weights(trained: SimCSE) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained.parameters()])


def by_trainer(trained: SimCSE, sampler: Sampler, config: TrainConfig) -> torch.Tensor:
    Trainer(trained, Loader(Made(ROWS), sampler), config).fit()
    return weights(trained)


QUIET: dict[str, Any] = {"progress": False, "device": "cpu", "stop_on_collapse": False}


@pytest.fixture(autouse=True)
def _few_steps() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_an_arm_is_trained_as_by_the_trainer() -> None:
    config = TrainConfig(batch=5, epochs=2, lr=0.01, weight_decay=0.1, seed=4, **QUIET)
    expected = by_trainer(learner(), Shuffled(10, 5, seed=4), config)
    trained = learner()
    base.train(trained, ROWS, batch=5, epochs=2, lr=0.01, weight_decay=0.1, stop_on_collapse=False, seed=4)
    assert torch.equal(weights(trained), expected)
    again = learner()
    base.train(again, Made(ROWS), batch=5, epochs=2, lr=0.01, weight_decay=0.1, stop_on_collapse=False, seed=5)
    assert not torch.equal(weights(again), expected)  # the seed counts


def test_what_is_not_given_is_the_recipes() -> None:
    recipe = TrainConfig(batch=5, steps=3, lr=0.02, optimizer="sgd", **QUIET)
    trained = learner()
    base.train(trained, ROWS, recipe=recipe, steps=2, seed=0)
    config = TrainConfig(batch=5, steps=2, lr=0.02, optimizer="sgd", **QUIET)
    assert torch.equal(weights(trained), by_trainer(learner(), Shuffled(10, 5), config))


def test_batches_are_those_given_else_the_methods_else_in_random_order() -> None:
    config = TrainConfig(batch=5, steps=2, lr=0.01, **QUIET)
    expected = by_trainer(learner(), InOrder(10, 5), config)
    settings: dict[str, Any] = {"batch": 5, "steps": 2, "lr": 0.01, "stop_on_collapse": False, "seed": 0}
    own, given = learner(own=True), learner()
    base.train(own, ROWS, **settings)
    base.train(given, ROWS, sampler=InOrder(10, 5), **settings)
    assert torch.equal(weights(own), expected)
    assert torch.equal(weights(given), expected)
    random = learner(own=True)
    base.train(random, ROWS, sampler=Shuffled(10, 5), **settings)
    assert not torch.equal(weights(random), expected)


def test_every_so_many_steps_it_is_looked_at() -> None:
    seen: list[SimCSE] = []
    base.train(
        learner(), ROWS, batch=5, steps=4, seed=0, eval_every=2, evaluate=lambda trained: seen.append(trained) or {}
    )
    assert len(seen) == 2


def test_every_proof_is_found_by_the_name_of_its_method() -> None:
    found = base.discover()
    assert found["directpred"].method is methods()["directpred"]
    assert all(proof.method is methods()[name] for name, proof in found.items())
    assert len(found) >= 24
