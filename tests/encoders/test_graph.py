"""Layers by hand, and what a node's embedding depends on."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional as F

from counterpoint.encoders.export import onnx
from counterpoint.encoders.graph import GAT, GCN, Attention, Convolution, GATConfig, GCNConfig, with_loops
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.modalities.graph import Graph
from counterpoint.train.gradcache import embed

PATH = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])  # 0 - 1 - 2


def features(n=6, f=5, seed=0):
    x = np.random.default_rng(seed).random((n, f), dtype=np.float32)
    return np.where(x < 0.4, 0, x).astype(np.float32)


def ring(n=6, f=5):
    return Graph(features=features(n, f), edges=np.array([np.arange(n), np.roll(np.arange(n), 1)]))


def test_a_convolution_by_hand():
    # Degrees with loops 2, 3, 2: out_0 = h_0 / 2 + h_1 / sqrt 6, out_1 = h_1 / 3 + (h_0 + h_2) / sqrt 6.
    layer, h = Convolution(1, 1), torch.tensor([[1.0], [2.0], [4.0]])
    out = layer(h, with_loops(PATH, 3)).flatten().tolist()
    root = 6**0.5
    assert out == pytest.approx([0.5 + 2 / root, 2 / 3 + 5 / root, 2 + 2 / root])


def test_attention_by_hand():
    layer = Attention(2, 4, heads=2)
    h, edges = torch.randn(3, 4), with_loops(PATH, 3)
    with torch.no_grad():
        out, h2 = layer(h, edges), h.view(3, 2, 2)
        for i, near in enumerate([[0, 1], [0, 1, 2], [1, 2]]):
            for k in range(2):
                score = torch.stack(
                    [F.leaky_relu(layer.left[k] @ h2[j, k] + layer.right[k] @ h2[i, k], 0.2) for j in near]
                )
                expected = score.softmax(0) @ h2[near, k]
                torch.testing.assert_close(out[i].view(2, 2)[k], expected)


def test_attention_that_does_not_look_is_the_mean():
    layer, h = Attention(2, 4, heads=2), torch.randn(3, 4)
    with torch.no_grad():
        layer.left.zero_()
        layer.right.fill_(1e4)  # the same for all sources of a node, and no overflow
        torch.testing.assert_close(layer(h, with_loops(PATH, 3))[1], h.mean(0))


@pytest.mark.parametrize("make", [lambda: Attention(4, 7), lambda: Convolution(4, 7)])
def test_decoding_a_few_rows_is_the_whole_layer(make):
    layer, x, edges, wanted = make(), torch.randn(6, 4), with_loops(ring().edges, 6), torch.tensor([4, 1])
    torch.testing.assert_close(layer.decode(x, edges, wanted), layer(x @ layer.weight, edges)[wanted])


ENCODERS = {
    "gat": lambda **more: GAT(GATConfig(features=5, dim=8, heads=2, **more)),
    "gcn": lambda **more: GCN(GCNConfig(features=5, dim=8, **more)),
}
every = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)


@every
def test_dense_and_sparse_features_are_the_same(make):
    encoder, one = make(), ring()
    two = Graph(features=sparse.csr_array(one.features), edges=one.edges)
    assert np.abs(encoder.encode(one) - encoder.encode(two)).max() <= 1e-6
    hidden = np.array([True, False, True, False, False, False])
    encoder = make(mask_token=True).eval()
    torch.nn.init.normal_(encoder.token)
    a, b = (encoder(encoder.inputs(g.features, g.edges, hidden=hidden)) for g in (one, two))
    torch.testing.assert_close(a, b)
    by_hand = torch.where(
        torch.from_numpy(hidden)[:, None], encoder.token, torch.from_numpy(encoder.scaled(one.features))
    )
    plain = make(scale="none").eval()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    torch.testing.assert_close(plain(plain.inputs(by_hand.detach().numpy(), one.edges)), a)


@every
def test_two_layers_see_two_steps(make):
    encoder, one = make(), ring(8)
    changed = one.features.copy()
    changed[0] = changed[0, ::-1] + 1
    moved = np.abs(encoder.encode(one) - encoder.encode(Graph(features=changed, edges=one.edges))).max(1) > 1e-6
    assert np.flatnonzero(moved).tolist() == [0, 1, 2, 6, 7]


@every
def test_the_numbering_of_nodes_does_not_matter(make):
    encoder, one = make(), ring()
    order = np.random.default_rng(1).permutation(6)
    place = np.argsort(order)
    other = Graph(features=one.features[order], edges=place[one.edges])
    assert np.abs(encoder.encode(other) - encoder.encode(one)[order]).max() <= 1e-6


@every
def test_the_length_of_features_does_not_matter_where_rows_are_scaled(make):
    one = ring()
    longer = Graph(features=one.features * np.arange(1, 7, dtype=np.float32)[:, None], edges=one.edges)
    assert np.abs(make_same(make).encode(one) - make_same(make).encode(longer)).max() <= 1e-6
    assert np.abs(make_same(make, scale="none").encode(one) - make_same(make, scale="none").encode(longer)).max() > 1e-3


def make_same(make, **more):
    torch.manual_seed(0)
    return make(**more)


def test_graphs_side_by_side_do_not_mix():
    encoder, one, two = ENCODERS["gat"](), ring(), Graph(features=features(4, 5, seed=3), edges=PATH)
    z = encoder.encode([two[2], one[1], two[0]])
    assert np.abs(z - np.stack([encoder.encode(two)[2], encoder.encode(one)[1], encoder.encode(two)[0]])).max() <= 1e-6


def test_it_has_no_onnx_form(tmp_path):
    with pytest.raises(ModelError, match="no ONNX form"):
        onnx(ENCODERS["gcn"](), tmp_path / "model.onnx")


def test_what_cannot_work_is_said():
    encoder, one = ENCODERS["gat"](), ring()
    with pytest.raises(ConfigError, match="cannot be cut"):
        embed(encoder, encoder.collate(one), 2)
    with pytest.raises(DataError, match="The nodes have 3 features; this encoder reads 5"):
        encoder.encode(ring(6, 3))
    with pytest.raises(DataError, match="embeds the nodes of a graph, not str"):
        encoder.encode(["a text"])
    with pytest.raises(ConfigError, match="mask_token=True"):
        encoder.inputs(one.features, one.edges, hidden=np.ones(6, dtype=bool))
    with pytest.raises(ConfigError, match="dim=8 cannot be shared by 3 heads"):
        GATConfig(dim=8, heads=3)
    with pytest.raises(ConfigError, match="features=F"):
        GAT(GATConfig())
