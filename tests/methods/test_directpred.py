"""The predictor is what the paper's formula says; nothing but the online network has a gradient."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.vision.directpred import Config, DirectPred, closed_form
from counterpoint.objectives.geometry import eigen_alignment

SMALL = ConvNetConfig(size=8, stem_width=4, widths=(8,), depths=(1,))


def build(**settings) -> DirectPred:
    torch.manual_seed(0)
    return DirectPred(ConvNet(SMALL), Config(hidden=12, out=6, **settings)).train()


def batch(method, n=16, seed=0):
    rows = [{"row": i, "image": torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(i))} for i in range(n)]
    return method.views(rows, np.random.default_rng(seed))


def step(method, number=1, seed=0, lr=0.05):
    """One step of plain gradient descent, as the trainer takes it."""
    method.zero_grad()
    sum(method.losses(batch(method, seed=seed)).values()).backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= lr * p.grad
    method.after_step(number)


def test_the_predictor_of_a_moment_by_hand():
    # Eigenvectors (1, 1) / √2 with s = 4 and (1, -1) / √2 with s = 1: p = (1 + eps, 1/2 + eps).
    moment = torch.tensor([[2.5, 1.5], [1.5, 2.5]])
    expected = torch.tensor([[0.85, 0.25], [0.25, 0.85]])  # (1.1 + 0.6) / 2 and (1.1 - 0.6) / 2
    torch.testing.assert_close(closed_form(moment, eps=0.1), expected)
    torch.testing.assert_close(closed_form(moment * 7, eps=0.1), expected)  # only the shape of the spectrum counts
    # copy: F / 4 + eps · 1. diagonal: both entries are the largest, so 1 + eps.
    torch.testing.assert_close(closed_form(moment, "copy", eps=0.1), moment / 4 + 0.1 * torch.eye(2))
    torch.testing.assert_close(closed_form(moment, "diagonal", eps=0.1), 1.1 * torch.eye(2))
    torch.testing.assert_close(
        closed_form(torch.diag(torch.tensor([9.0, 4.0])), "diagonal", eps=0.0),
        torch.diag(torch.tensor([1.0, 2 / 3])),
    )


def test_the_floor_and_degenerate_moments():
    dead = torch.diag(torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(closed_form(dead, eps=0.0), torch.diag(torch.tensor([1.0, 1e-4])))
    for kind in ("direct", "diagonal", "copy"):
        zero = closed_form(torch.zeros(3, 3), kind, eps=0.1)
        torch.testing.assert_close(zero, 0.1 * torch.eye(3))
    barely_negative = torch.diag(torch.tensor([1.0, -1e-8]))
    assert closed_form(barely_negative, eps=0.1).isfinite().all()


def test_a_large_eps_is_no_predictor():
    z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    moment = z.T @ z / 50
    for kind in ("direct", "copy", "diagonal"):
        weight = closed_form(moment, kind, eps=1e6)
        torch.testing.assert_close(weight / 1e6, torch.eye(6), rtol=0, atol=1e-5)
    with torch.no_grad():
        one, none = build(eps=1e6), build(predictor="identity")
        for method in (one, none):
            step_batch = batch(method)
            method.losses(step_batch)
            method.after_step(1)
        torch.testing.assert_close(one.losses(step_batch), none.losses(step_batch), rtol=0, atol=1e-4)


def test_the_predictor_shares_the_eigenvectors_of_the_moment():
    method = build()
    step(method)
    moment = method.moment.moment
    assert eigen_alignment(method.predictor.weight, moment) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(method.predictor.weight, closed_form(moment, eps=0.1))
    w = method.predictor.weight
    torch.testing.assert_close(w @ moment, moment @ w, rtol=1e-4, atol=1e-5)
    assert torch.linalg.eigvalsh(w).max() == pytest.approx(1.1, abs=1e-4)
    trained = build(predictor="trained")
    step(trained)
    assert eigen_alignment(trained.predictor.weight, trained.moment.moment) < 0.95


def test_the_moment_is_that_of_both_views_before_normalisation_and_runs():
    method = build(rho=0.3)
    moments = []
    for number in (1, 2):
        f = []
        with torch.no_grad():
            views = batch(method, seed=number)
            f = torch.cat([method.projector(method.encoder(views.one(r).data)) for r in ("anchor", "positive")])
            method.losses(views)
        method.after_step(number)
        moments.append(f.T @ f / len(f))
    torch.testing.assert_close(method.moment.moment, 0.3 * moments[0] + 0.7 * moments[1], rtol=1e-4, atol=1e-6)


def test_only_the_online_network_has_a_gradient():
    method = build()
    sum(method.losses(batch(method)).values()).backward()
    online = {n for n, _ in method.named_parameters() if n.startswith(("encoder.", "projector."))}
    assert {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()} == online
    assert all(not p.requires_grad for p in [*method.teacher.parameters(), *method.predictor.parameters()])
    trained = build(predictor="trained")
    sum(trained.losses(batch(trained)).values()).backward()
    assert trained.predictor.weight.grad.any()
    assert trained.predictor.bias is None


def test_the_target_is_the_momentum_average_of_the_weights_alone():
    method = build(momentum=0.9)
    before = [p.clone() for p in method.teacher.parameters()]
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, online))  # it starts as a copy
    step(method)
    for old, new, target in zip(before, online, method.teacher.parameters()):
        torch.testing.assert_close(target, 0.9 * old + 0.1 * new)
    frozen = build(momentum=1.0)
    step(frozen)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.teacher.parameters()))


def test_the_released_start_is_another_network():
    method = build(same_start=False)
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(online, method.teacher.parameters()))
    assert [p.shape for p in online] == [p.shape for p in method.teacher.parameters()]


def test_the_loss_is_the_published_one():
    method = build()
    step(method)  # so that the target differs from the network and the predictor from the identity
    views = batch(method, seed=3)
    with torch.no_grad():
        f, t = [], []
        for role in ("anchor", "positive"):
            f.append(method.projector(method.encoder(views.one(role).data)))
            t.append(method.teacher(views.one(role).data))
        w = method.predictor.weight
        cos = [F.cosine_similarity(f[i] @ w.T, t[1 - i], dim=1).mean() for i in (0, 1)]
        torch.testing.assert_close(method.losses(views)["predict"], -2 * (cos[0] + cos[1]))


def test_a_step_that_replays_its_batch_counts_it_once():
    once, twice = build(), build()
    views = batch(once)
    once.losses(views)
    twice.losses(views)
    twice.losses(views)
    once.after_step(1)
    twice.after_step(1)
    torch.testing.assert_close(once.moment.moment, twice.moment.moment)
    assert int(twice.moment.updates) == 1


def test_freq_sets_the_predictor_only_then():
    method = build(freq=3, rho=0.0)
    weights = []
    for number in range(1, 7):
        step(method, number, seed=number)
        weights.append(method.predictor.weight.detach().clone())
    assert [not torch.equal(a, b) for a, b in itertools.pairwise(weights)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    between = build(freq=3, train_between=True)
    step(between, 1)
    held = between.predictor.weight.detach().clone()
    step(between, 2)
    assert not torch.equal(held, between.predictor.weight)


def test_what_cannot_work_is_refused():
    for wrong in ({"eps": 0.0}, {"eps": -0.1}, {"freq": 0}, {"train_between": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Config(**wrong)
    assert Config(eps=0.0, allow_zero_eps=True).eps == 0
    assert Config(eps=0.0, predictor="trained").eps == 0
    method = build()
    with pytest.raises(DataError, match="One image alone"):
        method.losses(batch(method, n=1))
    method._seen.put(batch(method), torch.full((2, 6), float("nan")))
    with pytest.raises(DataError, match="not finite"):
        method.after_step(1)


@pytest.mark.parametrize("size", ["published", "small", "smoke"])
def test_recipes_build(size):
    recipe = DirectPred.recipe(size)
    if size == "published":
        assert (recipe.train.batch, recipe.train.lr, recipe.config.momentum, recipe.config.rho) == (
            128,
            0.03,
            0.996,
            0.3,
        )
    else:
        method = DirectPred(ConvNet(recipe.encoder), recipe.config)
        assert method.losses(batch(method, n=4))["predict"].isfinite()


def test_images_larger_than_the_encoder_keep_their_detail():
    fine = torch.zeros(3, 64, 64)
    fine[..., 20:44, 20:44] = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0)).round()
    method = build()
    rows = [{"row": 0, "image": fine}] * 4
    plain = method.views(rows, np.random.default_rng(0)).one("anchor").data
    method.config = replace(method.config, source=64)
    detailed = method.views(rows, np.random.default_rng(0)).one("anchor").data
    assert plain.shape == detailed.shape == (4, 3, 8, 8)
    assert not torch.allclose(plain, detailed)
