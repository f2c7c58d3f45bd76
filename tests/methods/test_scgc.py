"""The contrast by the graph, the clusters' loss and the two stages are what the paper says."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.nodes import Nodes
from counterpoint.encoders.node_mlp import NodeMLP, NodeMLPConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.structure.scgc import SCGC, Config, neighbour_contrast
from counterpoint.modalities.graph import Graph
from counterpoint.objectives.cluster import sharpened

RNG = np.random.default_rng(0)
GRAPH = Graph(features=RNG.random((20, 6), dtype=np.float32), edges=RNG.integers(0, 20, (2, 30)))


def build(steps=4, seed=0, **settings):
    torch.manual_seed(seed)
    method = SCGC(NodeMLP(NodeMLPConfig(features=6, widths=(16,), dim=4)), Config(clusters=3, **settings))
    method.before_training(steps)
    return method


def views(method, seed=0):
    return method.views(Nodes(GRAPH)[:], np.random.default_rng(seed))


def test_three_nodes_by_hand():
    # Cosines: 0-1: 1, 0-2 and 1-2: 0; for itself each counts exp(0). τ = 2.
    z = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    weights = torch.tensor([[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.5, 0.5]])
    e = math.exp(2)
    shares = [(0.5 + 0.5 * e) / (2 + e), (1 + e + 1) / 3 / (2 + e), 1 / 3]
    expected = -sum(map(math.log, shares)) / 3
    assert float(neighbour_contrast(z, weights, scale=2.0, eps=0.0)) == pytest.approx(expected, rel=1e-5)


def test_with_one_neighbour_each_it_is_infonce_with_a_score_of_zero_for_itself():
    z, partner = torch.randn(6, 4), torch.tensor([1, 0, 3, 2, 5, 4])
    found = neighbour_contrast(z, torch.eye(6)[partner], scale=3.0, eps=0.0)
    scores = 3 * F.normalize(z) @ F.normalize(z).T
    scores.fill_diagonal_(0)
    torch.testing.assert_close(found, F.cross_entropy(scores, partner))


def test_weights_that_are_the_same_everywhere_teach_nothing():
    z = torch.randn(5, 3, requires_grad=True)
    loss = neighbour_contrast(z, torch.full((5, 5), 0.2), scale=2.0, eps=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-5)
    assert z.grad.abs().max() < 1e-6


def test_the_length_of_a_code_does_not_matter_to_the_contrast():
    z, weights = torch.randn(5, 3), torch.rand(5, 5)
    one, two = (neighbour_contrast(x, weights, scale=2.0) for x in (z, z * torch.arange(1, 6)[:, None]))
    torch.testing.assert_close(one, two)
    assert neighbour_contrast(torch.zeros(5, 3), weights, scale=2.0).isfinite()


def test_the_encoder_reads_no_graph():
    method, alone = build(), Graph(features=GRAPH.features, edges=np.zeros((2, 0), int))
    assert np.array_equal(method.encoder.encode(GRAPH), method.encoder.encode(alone))


def test_the_first_stage_trains_the_auto_encoder_alone():
    method = build(pretrain=0.5, sample=8)
    losses = method.losses(views(method))
    assert {k: v.item() == 0 for k, v in losses.items()} == {
        "reconstruction": False,
        "neighbours": True,
        "clusters": True,
    }
    sum(losses.values()).backward()
    assert not method.encoder.centres.grad.any()
    assert method.decoder[-1].weight.grad.any()


def test_between_the_stages_the_centres_are_those_of_k_means():
    method = build(pretrain=0.5)
    before = method.encoder.centres.clone()
    for step in (1, 2):
        assert torch.equal(method.encoder.centres, before)
        batch = views(method)
        method.losses(batch)
        method.after_step(step)
    with torch.no_grad():
        z = method.encoder(batch.views[0].data)
        nearest = torch.cdist(z, method.encoder.centres).argmin(1)
    means = torch.stack([z[nearest == k].mean(0) for k in range(3)])
    torch.testing.assert_close(method.encoder.centres.detach(), means, rtol=1e-4, atol=1e-5)


def test_the_second_stage_written_out():
    for star in (False, True):
        method = build(pretrain=0.0, star=star, alpha=2.0, beta=3.0, order=2)
        batch = views(method)
        nodes = batch.rows.numpy()
        a = np.eye(20)
        a[tuple(GRAPH.edges)] = 1
        a /= a.sum(1, keepdims=True)
        m = torch.from_numpy((a + a @ a if star else a @ a)[nodes][:, nodes]).float()
        torch.testing.assert_close(batch.labels["influence"], m)
        with torch.no_grad():
            x = torch.from_numpy(GRAPH.features[nodes])
            z = method.encoder(x)
            q = 1 / (1 + torch.cdist(z, method.encoder.centres) ** 2)
            q = q / q.sum(1, keepdim=True)
            p = q**2 / q.sum(0)
            p = p / p.sum(1, keepdim=True)
            losses = method.losses(batch)
            torch.testing.assert_close(losses["clusters"], 3 * F.kl_div(q.log(), p, reduction="batchmean"))
            torch.testing.assert_close(losses["neighbours"], 2 * neighbour_contrast(z, m, scale=0.5))
            mse = F.mse_loss(method.decoder(z), x)
            torch.testing.assert_close(losses["reconstruction"], mse * (not star))


def test_the_target_has_no_gradient_and_a_dead_cluster_gets_nothing():
    q = torch.tensor([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0]], requires_grad=True)
    p = sharpened(q)
    assert not p.requires_grad
    assert p.isfinite().all()
    assert not p[:, 2].any()
    assert (p.sum(1) - 1).abs().max() < 1e-6


def test_a_block_has_its_part_of_the_influence():
    method = build(block=7)
    batch = views(method)
    assert len(batch) == 7
    assert batch.labels["influence"].shape == (7, 7)
    assert len(set(batch.rows.tolist())) == 7


def test_what_cannot_work_is_said():
    with pytest.raises(ConfigError, match="clusters >= 2"):
        Config(clusters=1)
    same = Graph(features=np.ones((20, 6), np.float32), edges=GRAPH.edges)
    method = build(pretrain=0.5)
    method.after_step(1)
    method.losses(method.views(Nodes(same)[:], np.random.default_rng(0)))
    with pytest.raises(DataError, match="20 nodes have fewer than 3 different codes"):
        method.after_step(2)
