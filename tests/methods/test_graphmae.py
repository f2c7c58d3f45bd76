"""Hidden features reach the loss as its target alone; the loss is the published one."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.nodes import Nodes
from counterpoint.encoders.graph import GAT, GCN, GATConfig, GCNConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.structure.graphmae import Config, GraphMAE
from counterpoint.modalities.graph import Graph

RNG = np.random.default_rng(0)
FEATURES = (RNG.random((30, 12)) < 0.4).astype(np.float32)
FEATURES[:, 0] = 1  # no node without features
EDGES = RNG.integers(0, 30, (2, 60))


def rows(features=FEATURES):
    return Nodes(Graph(features=features, edges=EDGES))[:]


def build(kind="gat", seed=0, **settings):
    torch.manual_seed(seed)
    if kind == "gcn":
        return GraphMAE(GCN(GCNConfig(features=12, dim=8, mask_token=True)), Config(**settings))
    return GraphMAE(GAT(GATConfig(features=12, dim=8, heads=2, mask_token=True)), Config(**settings))


def views(method, features=FEATURES, seed=1):
    return method.views(rows(features), np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["gat", "gcn"])
def test_what_is_hidden_does_not_reach_the_prediction(kind):
    method = build(kind, replace=0.0).eval()
    with torch.no_grad():
        method.encoder.token.normal_()
    batch = views(method)
    chosen = batch.views[0].data["chosen"].numpy()
    other = FEATURES.copy()
    other[chosen] = 1 - other[chosen]
    changed = views(method, other)
    assert np.array_equal(changed.views[0].data["chosen"], chosen)
    with torch.no_grad():
        predictions = [method.decode(method.encoder(b.views[0].data), b.views[0].data) for b in (batch, changed)]
        torch.testing.assert_close(*predictions, rtol=0, atol=1e-6)
    assert method.losses(batch)["reconstruction"] != method.losses(changed)["reconstruction"]


def test_the_loss_written_out():
    method = build(replace=0.3, gamma=2.0).eval()
    data = views(method).views[0].data
    with torch.no_grad():
        h = method.encoder(data) @ method.bridge.weight.T
        h[data["chosen"]] = 0
        z = method.decoder(h @ method.decoder.weight, data["seen"])[data["chosen"]]
        x = torch.from_numpy(FEATURES)[data["chosen"]]
        expected = ((1 - F.cosine_similarity(z, x)) ** 2).mean()
        torch.testing.assert_close(method.losses(views(method))["reconstruction"], expected)


def test_with_gamma_one_it_is_the_cosine_distance():
    method = build(gamma=1.0).eval()
    data = views(method).views[0].data
    z = method.decode(method.encoder(data), data)
    expected = 1 - F.cosine_similarity(z, data["target"]).mean()
    torch.testing.assert_close(method.losses(views(method))["reconstruction"], expected)


def test_a_remasked_node_is_not_decoded_from_its_own_embedding():
    for remask in (True, False):
        method = build(remask=remask).eval()
        data = views(method).views[0].data
        h = torch.randn(30, 8, requires_grad=True)
        method.decode(h, data).square().sum().backward()
        at_chosen = h.grad[data["chosen"]]
        assert bool(at_chosen.any()) is not remask
        assert h.grad.any()


def test_the_token_learns_and_is_unknown_to_the_trained_encoder():
    method = build()
    assert not method.encoder.token.any()
    sum(method.losses(views(method)).values()).backward()
    assert method.encoder.token.grad.any()
    graph = rows()[0]["node"].graph
    before = method.encoder.encode(graph)
    with torch.no_grad():
        method.encoder.token.fill_(7.0)
    assert np.array_equal(method.encoder.encode(graph), before)


def test_nothing_is_hidden_without_hiding_and_the_target_is_every_node():
    method = build(hide=False).eval()
    data = views(method).views[0].data
    assert "hidden" not in data
    assert data["chosen"].tolist() == list(range(30))
    sum(method.losses(views(method)).values()).backward()
    assert method.encoder.token.grad is None


def test_dropped_edges_are_missing_for_the_encoder_alone():
    data = views(build(edge_drop=0.5)).views[0].data
    seen, encoded = (set(zip(*data[k].tolist())) for k in ("seen", "edges"))
    assert encoded < seen
    assert len(seen) == rows()[0]["node"].graph.edges.shape[1] + 30


def test_an_mlp_reads_no_neighbours():
    method = build(decoder="mlp").eval()
    data = views(method).views[0].data
    h = torch.randn(30, 8, requires_grad=True)
    method.decode(h, data)[0].sum().backward()
    assert h.grad.any(1).nonzero().flatten().tolist() == [int(data["chosen"][0])]


def test_every_process_takes_the_whole_graph():
    batch = build().views(rows()[3::2], np.random.default_rng(0))
    assert len(batch) == 30
    with pytest.raises(DataError, match="fewer processes"):
        build().views([], np.random.default_rng(0))


def test_what_cannot_work_is_refused():
    for rate in (0.0, 1.0):
        with pytest.raises(ConfigError, match="some nodes must stay visible"):
            Config(rate=rate)
    with pytest.raises(ConfigError, match="mask_token=True"):
        GraphMAE(GAT(GATConfig(features=12, dim=8, heads=2)))
