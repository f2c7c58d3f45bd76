"""Graphs from arrays and tables; what is wrong with them said in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from counterpoint.data.batch import Whole, move, size, take
from counterpoint.data.nodes import Nodes, holds_graph, neighbour_graph, read_graph
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.graph import Graph, Node

EYE = np.eye(4, dtype=np.float32)


def graph(**more) -> Graph:
    return Graph(**{"features": EYE, "edges": np.array([[0, 1, 1, 3, 0], [1, 0, 2, 3, 1]]), **more})


def test_edges_go_both_ways_once_and_never_to_themselves():
    assert set(zip(*graph().edges.tolist())) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert graph().degrees.tolist() == [1, 2, 1, 0]


def test_a_graph_is_the_sequence_of_its_nodes():
    g = graph()
    assert len(g) == 4
    assert g[-1] == Node(g, 3)
    assert [n.number for n in g[1:3]] == [1, 2]
    assert [n.number for n in g] == [0, 1, 2, 3]
    with pytest.raises(IndexError):
        g[4]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"edges": np.array([[0], [4]])}, "names nodes 0 to 4, but there are 4 nodes"),
        ({"edges": np.zeros((3, 2), int)}, r"\(3, 2\); expected whole numbers"),
        ({"edges": np.zeros((2, 2))}, "float64"),
        ({"features": np.zeros((0, 3))}, "0 nodes with 3 features"),
        ({"features": EYE * np.nan}, "NaN or infinite"),
        ({"labels": np.zeros(3, int)}, r"labels has shape \(3,\) for 4 nodes"),
        ({"parts": {"test": np.array([9])}}, "part test names nodes that do not exist"),
    ],
)
def test_what_cannot_be_a_graph(wrong, said):
    with pytest.raises(DataError, match=said):
        graph(**wrong)


def test_rows_of_nodes_and_their_parts():
    g = graph(
        labels=np.array([1, 0, -1, 1]), names=("a", "b"), parts={"train": np.array([0, 2]), "test": np.array([3])}
    )
    rows = Nodes(g)
    assert rows[0] == {"node": Node(g, 0), "label": 1, "row": 0}
    assert "label" not in rows[2]
    assert [r["row"] for r in rows[np.array([3, 1])]] == [3, 1]
    assert rows.labelled("train").index.tolist() == [0]  # 2 has no label
    assert rows.labelled().index.tolist() == [0, 1, 3]
    assert (rows.schema.kind, rows.schema.labels, rows.schema.modalities) == ("graph", ("a", "b"), {"node": "graph"})
    assert len(Nodes(graph()).labelled()) == 0


def test_arrays(tmp_path: Path):
    features = sparse.csr_array(np.array([[0, 1, 1], [1, 0, 0]]))
    np.savez(
        tmp_path / "s.npz",
        edges=[[0], [1]],
        feat_data=np.ones(1, np.uint8),
        feat_indices=features.indices,
        feat_indptr=features.indptr,
        feat_shape=features.shape,
        labels=[1, -1],
        val_idx=[0],
    )
    np.savez(tmp_path / "d.npz", edges=[[0], [1]], features=features.toarray())
    one, two = read_graph(tmp_path / "s.npz"), read_graph(tmp_path / "d.npz")
    assert np.array_equal(one.features.toarray(), two.features)
    assert (one.labels.tolist(), one.names, {k: v.tolist() for k, v in one.parts.items()}) == (
        [1, -1],
        ("0", "1"),
        {"dev": [0]},
    )
    assert two.labels is None
    np.savez(tmp_path / "n.npz", edges=[[0], [1]], x=[1])
    with pytest.raises(DataError, match=r"holds edges, x but no node features\. Add features \(N, F\)"):
        read_graph(tmp_path / "n.npz")
    np.savez(tmp_path / "o.npz", features=np.array([object()]), edges=[[0], [0]])
    with pytest.raises(DataError, match="cannot be read"):
        read_graph(tmp_path / "o.npz")  # a pickle inside
    np.savez(tmp_path / "e.npz", features=EYE)
    assert [holds_graph(tmp_path / f"{n}.npz") for n in "sdne"] == [True, True, True, False]


def test_tables(tmp_path: Path):
    (tmp_path / "nodes.csv").write_text("id,label,height,split\na,x,1.5,train\nb,,2,\nc,w,-1,val\n")
    (tmp_path / "edges.csv").write_text("source,target\na,b\nc,b\n")
    assert holds_graph(tmp_path)
    g = read_graph(tmp_path)
    assert np.array_equal(g.features, np.array([[1.5], [2], [-1]], dtype=np.float32))
    assert (g.labels.tolist(), g.names) == ([1, -1, 0], ("w", "x"))
    assert {k: v.tolist() for k, v in g.parts.items()} == {"train": [0], "dev": [2]}
    assert g.degrees.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("nodes", "edges", "said"),
    [
        ("id,x\na,1\n", "source,target\na,q\n", "names the node 'q'"),
        ("id,x\na,1\na,2\n", "source,target\na,a\n", "more than once"),
        ("name,x\na,1\n", "source,target\na,a\n", "one of them must be id"),
        ("id,x\na,blue\n", "source,target\na,a\n", "every column but id, label and split is a number"),
        ("id,x\na,1\n", "source\na\n", "expected source and target"),
        ("id,x\na,1,2\n", "source,target\n", "line 2: 3 values for 2 columns"),
        ("", "source,target\n", "is empty"),
        ("id\na\n", "source,target\n", "1 nodes with 0 features"),
    ],
)
def test_tables_that_are_no_graph(tmp_path: Path, nodes: str, edges: str, said: str):
    (tmp_path / "nodes.csv").write_text(nodes)
    (tmp_path / "edges.csv").write_text(edges)
    with pytest.raises(DataError, match=said):
        read_graph(tmp_path)


def test_a_whole_is_moved_but_never_cut():
    data = Whole(nodes=torch.arange(3), edges=torch.zeros(2, 7))
    assert size(data) == 3
    assert isinstance(move(data, "cpu"), Whole)
    with pytest.raises(ConfigError, match=r"cannot be cut.*Leave micro_batch"):
        take(data, slice(0, 1))


def test_rows_and_their_nearest():
    rows = np.array([[0.0], [1.0], [3.0], [10.0]])
    g = neighbour_graph(rows, 1, labels=np.array([0, 0, 1, 1]))
    assert set(zip(*g.edges.tolist())) == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}
    assert g.names == ("0", "1")
    with pytest.raises(DataError, match="4 rows do not have 4 neighbours"):
        neighbour_graph(rows, 4)
