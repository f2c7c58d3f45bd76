"""Views of a graph: features hidden or exchanged, edges dropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.graph import Features, Graph, Node
from counterpoint.views.features import Cheap, Matrix


def mask_nodes(
    graph: Graph, rng: np.random.Generator, *, rate: float, replace: float = 0.0
) -> tuple[Features, np.ndarray, np.ndarray]:
    """Features ``(N, F)`` after replacement, the nodes that were chosen ``(V,)`` (sorted), those to be hidden ``(N,)``
    bool.

    floor(rate · n) of the n nodes that have a neighbour are chosen (an isolated one could not be told from anything).
    A share ``replace`` of them, rounded down, gets the features of other nodes; the rest is to be hidden.
    Source: Hou et al. 2022 (GraphMAE), arXiv 2205.10803.

    rng: every draw comes from it. graph: with features of its nodes ``(N, F)``. rate: share of nodes that is chosen.

    >>> graph = Graph(features=np.eye(4, dtype=np.float32), edges=np.array([[0, 1, 2], [1, 2, 3]]))
    >>> features, chosen, hidden = mask_nodes(graph, np.random.default_rng(0), rate=0.5)
    >>> features.shape, len(chosen), int(hidden.sum())
    ((4, 4), 2, 2)
    """
    if not 0 < rate < 1 or not 0 <= replace <= 1:
        raise ConfigError(f"rate={rate}, replace={replace}: expected 0 < rate < 1 and 0 <= replace <= 1.")
    able = np.flatnonzero(graph.degrees)
    chosen = rng.permutation(able)[: int(rate * len(able))]
    if not len(chosen):
        raise DataError(
            f"{len(able):,} of {len(graph):,} nodes have a neighbour; a share of {rate:g} of them is none to learn "
            "from. Give a larger graph, or a larger share."
        )
    exchanged, hidden = np.split(chosen, [int(replace * len(chosen))])
    # Drawn from all nodes, as published; one that draws itself takes the last draw, which is kept in reserve.
    drawn = rng.permutation(len(graph))[: len(exchanged) + 1]
    source = np.arange(len(graph))
    source[exchanged] = np.where(drawn[:-1] == exchanged, drawn[-1], drawn[:-1]) if len(exchanged) else []
    mask = np.zeros(len(graph), dtype=bool)
    mask[hidden] = True
    return graph.features[source] if len(exchanged) else graph.features, np.sort(chosen), mask


def influence(graph: Graph, *, order: int, summed: bool = False) -> sparse.csr_array:
    """How far each node reaches each other in ``order`` random steps, ``(N, N)``: ``A^order``, or, ``summed``,
    ``A + A² + ... + A^order``. A: edges and loops, each row divided by its sum.
    Source: Kulatilleke et al. 2022 (SCGC), arXiv 2204.12656.

    graph: whose edges count.

    >>> graph = Graph(features=np.eye(3, dtype=np.float32), edges=np.array([[0], [1]]))
    >>> influence(graph, order=2).toarray().tolist()
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    if order < 1:
        raise ConfigError(f"order={order}: expected at least one step.")
    n = len(graph)
    both = sparse.csr_array((np.ones(graph.edges.shape[1], np.float32), tuple(graph.edges)), shape=(n, n))
    step = sparse.diags_array(1 / (graph.degrees + 1).astype(np.float32)) @ (
        both + sparse.eye_array(n, dtype=np.float32)
    )
    power = found = sparse.csr_array(step)
    for _ in range(order - 1):
        power = power @ step
        found = found + power if summed else power
    return sparse.csr_array(found)


def drop_edges(graph: Graph, rng: np.random.Generator, *, share: float) -> np.ndarray:
    """The edges ``(2, E')`` without a random share of them, gone in both directions.

    rng: every draw comes from it. graph: with edges ``(2, E)``. share: of the edges, from 0 to 1.

    >>> graph = Graph(features=np.eye(4, dtype=np.float32), edges=np.array([[0, 1, 2, 3], [1, 2, 3, 0]]))
    >>> graph.edges.shape, drop_edges(graph, np.random.default_rng(0), share=0.5).shape
    ((2, 8), (2, 2))
    """
    if not 0 <= share < 1:
        raise ConfigError(f"share={share}: expected at least 0 and below 1.")
    one = graph.edges[:, graph.edges[0] < graph.edges[1]]
    one = one[:, rng.random(one.shape[1]) >= share]
    return np.concatenate((one, one[::-1]), axis=1)


# --- cheap features ----------------------------------------------------------------------------------------------


def own(train: Sequence[Node], test: Sequence[Node]) -> tuple[Matrix, Matrix, str]:
    """Features of the nodes themselves, scaled to unit length.

    train, test: nodes. Returns the matrices of both, and what was left out of them in words.

    >>> graph = Graph(features=2 * np.eye(3, dtype=np.float32), edges=np.array([[0], [1]]))
    >>> train, test, cut = own([graph[0], graph[1]], [graph[2]])
    >>> train.shape, test.shape
    ((2, 3), (1, 3))
    """
    return *(_of_nodes(items, steps=0) for items in (train, test)), ""


def around(train: Sequence[Node], test: Sequence[Node]) -> tuple[Matrix, Matrix, str]:
    """Features averaged twice over neighbours and the node itself (Wu et al. 2019, SGC, arXiv 1902.07153).

    train, test: nodes. Returns the matrices of both, and what was left out of them in words.

    >>> graph = Graph(features=2 * np.eye(3, dtype=np.float32), edges=np.array([[0], [1]]))
    >>> train, test, cut = around([graph[0], graph[1]], [graph[2]])
    >>> train.shape, test.shape
    ((2, 3), (1, 3))
    """
    return *(_of_nodes(items, steps=2) for items in (train, test)), ""


def _of_nodes(nodes: Sequence[Node], *, steps: int) -> Matrix:
    from scipy import sparse
    from sklearn.preprocessing import normalize

    graphs: list[Graph] = list(dict.fromkeys(node.graph for node in nodes))
    found = []
    for graph in graphs:
        x, n = normalize(sparse.csr_array(graph.features)), len(graph)
        loops = sparse.eye_array(n, dtype=np.float32)
        edges = sparse.csr_array((np.ones(graph.edges.shape[1], np.float32), tuple(graph.edges)), (n, n)) + loops
        root = sparse.dia_array((edges.sum(1)[None] ** -0.5, [0]), shape=(n, n))
        for _ in range(steps):
            x = root @ (edges @ (root @ x))
        found.append(normalize(sparse.csr_array(x)))
    starts = dict(zip(graphs, np.cumsum([0, *map(len, graphs)])))
    return sparse.vstack(found, format="csr")[np.array([starts[node.graph] + node.number for node in nodes])]


cheap = (Cheap(name="node features", of=own), Cheap(name="node features of neighbours", of=around))
