"""Which nodes are hidden, and what is put in their place."""

import numpy as np
import pytest

from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.graph import Graph
from counterpoint.views.graph import drop_edges, influence, mask_nodes

RING = Graph(
    features=np.arange(11, dtype=np.float32)[:, None] + 1, edges=np.array([np.arange(10), np.roll(np.arange(10), 1)])
)  # node 10 is alone


@pytest.mark.parametrize(
    ("rate", "replace", "chosen", "exchanged"), [(0.5, 0.05, 5, 0), (0.55, 0.5, 5, 2), (0.9, 1, 9, 9)]
)
def test_the_numbers_are_rounded_down_and_the_rest_is_hidden(rate, replace, chosen, exchanged):
    for seed in range(20):
        features, nodes, hidden = mask_nodes(RING, np.random.default_rng(seed), rate=rate, replace=replace)
        assert len(set(nodes)) == chosen
        assert 10 not in nodes
        assert hidden.sum() == chosen - exchanged
        assert set(np.flatnonzero(hidden)) <= set(nodes)
        changed = np.flatnonzero((features != RING.features).any(1))
        assert set(changed) == set(nodes) - set(np.flatnonzero(hidden))  # nobody keeps its own


def test_nothing_to_hide_is_said():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"10 of 11 nodes have a neighbour; a share of 0.05 of them is none"):
        mask_nodes(RING, rng, rate=0.05)
    for wrong in ({"rate": 1}, {"rate": 0}, {"rate": 0.5, "replace": 2}):
        with pytest.raises(ConfigError):
            mask_nodes(RING, rng, **wrong)


def test_edges_are_dropped_in_both_directions():
    edges = drop_edges(RING, np.random.default_rng(0), share=0.5)
    pairs = set(zip(*edges.tolist()))
    assert {(b, a) for a, b in pairs} == pairs
    assert 0 < len(pairs) < 20
    assert set(zip(*drop_edges(RING, np.random.default_rng(0), share=0).tolist())) == set(zip(*RING.edges.tolist()))


def test_influence_is_a_walk():
    graph = Graph(features=np.eye(3, dtype=np.float32), edges=np.array([[0], [1]]))
    step = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert np.allclose(influence(graph, order=1).toarray(), step)
    assert np.allclose(influence(RING, order=3).toarray().sum(1), 1)
    assert np.allclose(influence(RING, order=3, summed=True).toarray().sum(1), 3)
    one = influence(RING, order=1).toarray()
    assert np.allclose(influence(RING, order=3).toarray(), one @ one @ one)
    assert np.allclose(influence(RING, order=2, summed=True).toarray(), one + one @ one)
    with pytest.raises(ConfigError, match="order=0"):
        influence(RING, order=0)
