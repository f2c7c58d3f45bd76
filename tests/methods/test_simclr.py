"""The loss is NT-Xent, written out."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from counterpoint.data.batch import Batch, View
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.methods.vision.simclr import Config, SimCLR

SMALL = ConvNetConfig(size=8, stem_width=4, widths=(8,), depths=(1,))


class Given(nn.Module):
    """Stands for the encoder: its input is the embedding."""

    dim = 2
    modality = "image"

    def forward(self, z):
        return z


def given(z1, z2, temperature):
    method = SimCLR(Given(), Config(temperature=temperature))
    method.projector = nn.Identity()
    views = (View(torch.tensor(z1), "image", "anchor"), View(torch.tensor(z2), "image", "positive"))
    return float(method.losses(Batch(views, torch.arange(len(z1))))["contrast"])


def test_two_images_by_hand():
    # Image 1 is seen along x both times, image 2 along y. Every view: positive 1, the two views of the other image 0.
    loss = given([[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [0.0, 1.0]], 0.5)
    assert loss == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2)), abs=1e-5)


def test_the_formula_written_out():
    rng = np.random.default_rng(0)
    z1, z2 = rng.normal(size=(2, 5, 2))
    z = np.concatenate((z1, z2))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for i in range(10):
        others = [a for a in range(10) if a != i]
        exps = {a: math.exp(z[i] @ z[a] / 0.1) for a in others}
        terms.append(-math.log(exps[(i + 5) % 10] / sum(exps.values())))
    assert given(z1, z2, 0.1) == pytest.approx(np.mean(terms), rel=1e-6)


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    method = SimCLR(ConvNet(SMALL), Config(hidden=8, out=4)).train()
    rows = [{"row": i, "image": torch.rand(3, 8, 8)} for i in range(6)]
    method.losses(method.views(rows, np.random.default_rng(0)))["contrast"].backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())


def test_gradient_caching_changes_nothing_without_batch_norm():
    def gradient(micro_batch):
        torch.manual_seed(0)
        config = ConvNetConfig(size=8, stem_width=4, widths=(8,), depths=(1,), norm="group")
        method = SimCLR(ConvNet(config), Config(hidden=8, out=4, norm=None)).train()
        method.micro_batch = micro_batch
        rows = [{"row": i, "image": np.full((8, 8, 3), i / 7)} for i in range(7)]
        method.losses(method.views(rows, np.random.default_rng(0)))["contrast"].backward()
        return torch.cat([p.grad.flatten() for p in method.parameters()])

    torch.testing.assert_close(gradient(None), gradient(3), rtol=1e-4, atol=1e-6)
