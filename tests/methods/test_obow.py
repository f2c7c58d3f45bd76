"""Bags by hand, the order of a step, what has a gradient, and what a head that follows the words is good for."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.vision.obow import Config, OBoW, bag, distances, local, nearest
from counterpoint.views.image import PatchGrid, SimCLRViews

SMALL = {"words": 12, "levels": 1, "inv_delta": 10.0, "kappa": 5.0, "source": 0, "patches": None}


def learner(**settings) -> OBoW:
    torch.manual_seed(0)
    encoder = ConvNet(ConvNetConfig(size=32, stem_width=4, widths=(4, 8), depths=(1, 1)))
    crop = SimCLRViews(size=24, crop=(0.08, 0.6))
    method = OBoW(encoder, Config(**{**SMALL, "crop": crop, **settings})).train()
    method.before_training(10)
    return method


def batch(method: OBoW, n: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    rows = [{"row": i, "image": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)} for i in range(n)]
    return method.views(rows, rng)


def test_a_bag_by_hand():
    # Two places, two words. Place 1 lies on word 1 (distance 0 and 4), place 2 in the middle (1 and 1).
    maps = torch.tensor([[[[0.0, 1.0]]]])  # (1 image, 1 channel, 1 × 2)
    squares = distances(maps, torch.tensor([[0.0], [2.0]]))
    torch.testing.assert_close(squares, torch.tensor([[[0.0, 4.0], [1.0, 1.0]]]))
    assert nearest([squares]).tolist() == [0.5]
    near, far = 1 / (1 + math.exp(-4)), math.exp(-4) / (1 + math.exp(-4))
    best = torch.tensor([near, 0.5])
    torch.testing.assert_close(bag(squares)[0], best / best.sum())
    torch.testing.assert_close(bag(squares, pool="mean")[0], torch.tensor([(near + 0.5) / 2, (far + 0.5) / 2]))
    assert bag(squares, assignment="hard").tolist() == [[1.0, 0.0]]


def test_a_sharp_soft_assignment_is_the_hard_one():
    squares = torch.rand(3, 9, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bag(squares * 1e6), bag(squares, assignment="hard"))


def test_maximum_forgets_how_often_a_word_occurs():
    once, often = torch.tensor([[[0.0, 9.0], [9.0, 0.0]]]), torch.tensor([[[0.0, 9.0]] * 7 + [[9.0, 0.0]]])
    torch.testing.assert_close(bag(once), bag(often))
    assert float(bag(often, pool="mean")[0, 0]) > 0.8


def test_squares_of_large_features_do_not_overflow_in_half_precision():
    squares = distances(torch.full((1, 2, 1, 1), 300.0, dtype=torch.float16), torch.zeros(1, 2))
    assert float(squares) == 180_000


def test_scale_of_the_features_does_not_matter_once_mu_has_followed():
    squares = torch.rand(2, 9, 5, generator=torch.Generator().manual_seed(0))
    one, other = (bag(d * 10 / float(nearest([d]))) for d in (squares, 100 * squares))
    torch.testing.assert_close(one, other)


def test_a_local_feature_is_the_mean_of_nine_places_around_it():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    seen = {float(local(maps)) for _ in range(60)}
    assert seen == {5.0, 6.0, 9.0, 10.0}  # centres of the four windows of 3×3


def test_the_loss_written_out():
    method = learner(kappa=3.0)
    given = batch(method)
    torch.manual_seed(5)
    found = method.losses(given)["crops"]
    words = method.vocabulary[0].snapshot()
    maps = method.teacher.model.stages(given.one("context").data)[-1][..., 1:-1, 1:-1].flatten(2).transpose(1, 2)
    d = torch.cdist(maps, words.expand(4, -1, -1)).square()
    mu = 0.99 * 0.5 + 0.01 * float(d.amin(2).mean())
    q = (-10 / mu * d).softmax(2).amax(1)
    y = q / q.sum(1, keepdim=True)
    crops = given.one("anchor")
    assert crops.owner.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    f = method.encoder(crops.data)
    w = method.heads[0](words)
    torch.testing.assert_close(w.norm(dim=1), torch.ones(12))
    loss = F.cross_entropy(3 * f @ w.T, y[crops.owner])
    torch.testing.assert_close(found, loss, rtol=1e-4, atol=1e-5)


def test_nothing_is_stored_before_the_step_and_the_oldest_words_go():
    method = learner()
    before, mu = method.vocabulary[0].snapshot(), method.mu.clone()
    method.losses(batch(method))
    method.losses(batch(method, seed=1))  # accumulated: both enter after the step
    assert torch.equal(method.vocabulary[0].snapshot(), before)
    assert torch.equal(method.mu, mu)
    method.after_step(1)
    after = method.vocabulary[0].snapshot()
    assert torch.equal(after[8:], before[8:])
    assert not (after[:8] == before[:8]).all(1).any()
    assert method.mu != mu
    for step in (2, 3):  # 4 + 4 + 4 + 4 rows into 12 places: past the end
        method.losses(batch(method, n=5, seed=step))
        method.after_step(step)
    assert not (method.vocabulary[0].snapshot() == before).all(1).any()


def test_gradients_reach_student_and_head_and_neither_words_nor_teacher():
    method = learner(levels=2, patches=PatchGrid(view=SimCLRViews(size=32), patch=12, jitter=2))
    found = method.losses(batch(method))
    assert set(found) == {"crops", "patches"}
    sum(found.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in method.encoder.parameters())
    assert all(p.grad is not None for p in method.heads.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert not [name for name, _ in method.named_parameters() if "vocabulary" in name]


def test_weights_of_the_dynamic_head_move_with_their_words_and_fixed_ones_do_not():
    words = torch.rand(12, 8)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    dynamic, fixed = (learner(head=head).heads[0] for head in ("dynamic", "fixed"))
    torch.testing.assert_close(dynamic(words[order]), dynamic(words)[order])
    assert torch.equal(fixed(words[order]), fixed(words))


def test_the_teacher_follows_by_half_a_cosine_and_keeps_its_own_statistics():
    method = learner()
    start = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1)
    method.losses(batch(method))
    buffers = [b.clone() for b in method.teacher.model.buffers()]
    method.after_step(5)  # half-way of 10
    for before, now in zip(start, method.teacher.parameters()):
        torch.testing.assert_close(now - before, torch.full_like(now, 0.005), rtol=1e-2, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(buffers, method.teacher.model.buffers()))
    assert method.teacher.model.training


def test_what_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="feature maps of a convolutional network"):
        OBoW(ImageTransformer(ImageTransformerConfig(size=16, patch=8, dim=32, depth=1, heads=2)))
    with pytest.raises(ConfigError, match="levels=3, but the encoder has 2 stages"):
        learner(levels=3)
    tiny = OBoW(ConvNet(ConvNetConfig(size=16, stem_width=4, widths=(4, 8), depths=(1, 1))), Config(**SMALL))
    with pytest.raises(ConfigError, match="4×4 leaves nothing"):
        tiny.losses(batch(tiny))
