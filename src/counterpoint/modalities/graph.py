"""Nodes of a graph: each is embedded with what lies around it, so a node carries the graph that it is of.

How a graph is read, and its nodes as rows: `counterpoint.data.nodes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, overload

import numpy as np

from counterpoint.errors import DataError
from counterpoint.modalities.base import Modality

if TYPE_CHECKING:
    from scipy import sparse

GRAPH = "graph"

Features: TypeAlias = "np.ndarray | sparse.csr_array"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph, by its number: what an encoder of graphs embeds, reading the graph around it."""

    graph: Graph
    number: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Graph(Sequence[Node]):
    """features: (N, F) float32, dense or CSR. edges: (2, E) int64 from source to target; both directions of each edge
    are kept once, and no loops. labels: (N,) int64, -1 where there is none; None: no labels at all. names: of the
    classes. parts: train, dev, test -> numbers of the nodes, where the graph comes with a split.
    """

    features: Features
    edges: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, edges = self.features.shape[0], np.asarray(self.edges)
        if n == 0 or self.features.shape[1] == 0:
            raise DataError(f"The graph has {n} nodes with {self.features.shape[1]} features; both must be more.")
        if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype.kind not in "iu":
            raise DataError(f"edges is {edges.dtype} {edges.shape}; expected whole numbers (2, E): from node, to node.")
        if edges.size and not 0 <= edges.min() <= edges.max() < n:
            raise DataError(
                f"edges names nodes {edges.min()} to {edges.max()}, but there are {n:,} nodes, numbered from 0."
            )
        values = self.features if isinstance(self.features, np.ndarray) else self.features.data
        if not np.isfinite(np.asarray(values)).all():
            raise DataError("Some node features are NaN or infinite. Give them a value, or leave these columns out.")
        if self.labels is not None and np.shape(self.labels) != (n,):
            raise DataError(f"labels has shape {np.shape(self.labels)} for {n:,} nodes; expected ({n},), -1: no label.")
        for name, numbers in self.parts.items():
            if len(numbers) and not 0 <= np.min(numbers) <= np.max(numbers) < n:
                raise DataError(f"The part {name} names nodes that do not exist; there are {n:,}, numbered from 0.")
        source, target = edges.astype(np.int64)
        both = np.concatenate((source * n + target, target * n + source))[np.tile(source != target, 2)]
        object.__setattr__(self, "edges", np.stack(np.divmod(np.unique(both), n)))

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @overload
    def __getitem__(self, which: int) -> Node: ...
    @overload
    def __getitem__(self, which: slice) -> list[Node]: ...
    def __getitem__(self, which: int | slice) -> Node | list[Node]:
        numbers = range(len(self))[which]
        return Node(self, numbers) if isinstance(numbers, int) else [Node(self, i) for i in numbers]

    @cached_property
    def degrees(self) -> np.ndarray:
        """Neighbours of each node, ``(N,)``."""
        return np.bincount(self.edges[1], minlength=len(self))


def small(rng: np.random.Generator, nodes: int = 12, features: int = 7) -> Graph:
    """A ring of nodes with a few chords, each node with some of its features and one of three labels.

    rng: every draw comes from it. nodes, features: how many.
    """
    values = (rng.random((nodes, features)) < 0.5).astype(np.float32)
    values[:, 0] = 1
    ring = np.stack((np.arange(nodes), np.roll(np.arange(nodes), 1)))
    edges = np.concatenate((ring, rng.integers(0, nodes, (2, nodes))), axis=1)
    return Graph(features=values, edges=edges, labels=np.arange(nodes) % 3)


modality = Modality(
    name=GRAPH,
    one="a node of a graph",
    many="nodes of a graph",
    fits=lambda type_: False,
    shape="whole",
    then=(
        "python: from counterpoint.encoders.folder import load; load('{run}/model').encode(graph)  # graph: "
        "counterpoint.data.nodes.read_graph(PATH), or its nodes",
    ),
    example=lambda rng: small(rng)[0],
)
