"""SC-MIL: the two losses written out, and the weights that move from the one to the other."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.encoders.vectors import VectorConfig, Vectors
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.vision.sc_mil import SCMIL, Config

LABELS = (0, 1, 0, 2, 1, 0)
SIZES = (3, 2, 5, 1, 4, 2)


def learner(**settings: Any) -> SCMIL:
    torch.manual_seed(0)
    config = Config(labels=("a", "b", "c"), projection=6, attention=5, **settings)
    return SCMIL(Vectors(VectorConfig(features=4, dim=8)), config)


def batch(model: SCMIL, labels: tuple[int, ...] = LABELS) -> Batch:
    rng = np.random.default_rng(0)
    rows = [
        {"bag": list(rng.normal(size=(n, 4)).astype(np.float32)), "label": y, "row": i}
        for i, (n, y) in enumerate(zip(SIZES, labels))
    ]
    return model.views(rows, np.random.default_rng(1))


def features(model: SCMIL, b: Batch) -> Tensor:
    """Bag by bag, with no word of the library's."""
    view = b.views[0]
    assert view.owner is not None
    h = model.encoder(view.data)
    a = model.bags.attention
    assert a.gate is not None
    out = []
    for i in range(len(b)):
        mine = h[view.owner == i]
        share = a.score(torch.tanh(a.look(mine)) * torch.sigmoid(a.gate(mine))).softmax(0)
        out.append((share * mine).sum(0))
    return torch.stack(out)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_both_losses_written_out(tau: float) -> None:
    model = learner(temperature=tau, curriculum="none", beta=0.25)
    b = batch(model)
    found = model.losses(b)
    x = features(model, b)
    z = F.normalize(model.head(x), dim=-1)
    score = z @ z.T / tau
    losses = []
    for i, y in enumerate(LABELS):
        others = [j for j in range(6) if j != i]
        positives = [j for j in others if LABELS[j] == y]
        if positives:  # the only bag of class 2 has none, and is left out of the mean
            log = score[i] - torch.logsumexp(score[i, others], 0)
            losses.append(-log[positives].mean())
    assert len(losses) == 5
    torch.testing.assert_close(found["contrast"], 0.25 * torch.stack(losses).mean())
    assert model.bags.classifier is not None
    told = F.cross_entropy(model.bags.classifier(x), torch.tensor(LABELS))
    torch.testing.assert_close(found["classification"], 0.75 * told)


@pytest.mark.parametrize("curriculum", ["parabolic", "linear", "cosine"])
def test_the_first_step_leaves_the_classifier_and_the_last_the_projection(curriculum: Any) -> None:
    model = learner(curriculum=curriculum)
    model.before_training(11)
    for step, silent in ((0, model.bags.classifier), (10, model.head)):
        model.after_step(step)
        model.zero_grad()
        torch.stack(list(model.losses(batch(model)).values())).sum().backward()
        assert silent is not None
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in silent.parameters() if p.grad is not None)
        other = model.head if step == 0 else model.bags.classifier
        assert any(p.grad.abs().max() > 0 for p in other.parameters())  # type: ignore[union-attr]
        assert model.encoder.layers[0].weight.grad.abs().max() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("curriculum", "halfway"), [("parabolic", 0.75), ("linear", 0.5), ("cosine", (1 + math.cos(math.pi / 2)) / 2)]
)
def test_the_weight_between(curriculum: Any, halfway: float) -> None:
    model = learner(curriculum=curriculum)
    model.before_training(11)
    model.after_step(5)
    assert model.beta().item() == pytest.approx(halfway, abs=1e-6)
    again = learner(curriculum=curriculum)
    again.load_state_dict(model.state_dict())  # a resumed run goes on with the weight it had
    assert again.beta().item() == model.beta().item()


def test_two_views_are_disjoint_parts_and_give_every_bag_a_positive() -> None:
    model = learner(views=2, curriculum="none", beta=1.0)
    one, two = batch(model).views
    for i, n in enumerate(SIZES):
        parts = [{tuple(x.tolist()) for x in v.data[v.owner == i]} for v in (one, two)]  # type: ignore[index]
        assert len(parts[0] | parts[1]) == n
        assert not parts[0] & parts[1] or n == 1
    for views, contrasted in ((1, False), (2, True)):  # three bags of three classes
        model = learner(views=views, curriculum="none", beta=1.0)
        assert bool(model.losses(batch(model, (0, 1, 2)))["contrast"] > 0) is contrasted


def test_a_step_looks_at_some_instances_only() -> None:
    model = learner(instances=2)
    owner = batch(model).views[0].owner
    assert torch.bincount(owner).tolist() == [2, 2, 2, 1, 2, 2]  # type: ignore[arg-type]


def test_bad_input_is_told() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        SCMIL(Vectors(VectorConfig(features=4)), Config())
    model = learner()
    with pytest.raises(DataError, match="Bag 0 of 1 is empty"):
        model.views([{"bag": [], "label": 0, "row": 0}], np.random.default_rng(0))
    with pytest.warns(UserWarning, match="All bags of this batch have one label"):
        losses = model.losses(batch(model, (1,) * 6))
    assert all(torch.isfinite(x) for x in losses.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.losses(batch(model))
