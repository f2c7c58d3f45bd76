"""An encoder of nodes that reads their features alone: the graph is for the loss that trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.data.nodes import Nodes
from counterpoint.encoders.base import Encoder, Traced, noise, seeded
from counterpoint.encoders.graph import row_scaled
from counterpoint.errors import ConfigError, DataError, ItemError
from counterpoint.modalities.graph import Node, small


@dataclass(frozen=True, kw_only=True)
class NodeMLPConfig:
    """features: width F of a node's features; 0: that of the graph it is made for. widths: of the hidden layers. dim:
    width D of the embedding. scale: ``row`` divides a node's features by the sum of their absolute values; none.
    clusters: number K of centres that embeddings belong to; 0: none."""

    features: int = 0
    widths: tuple[int, ...] = (500, 500, 2000)
    dim: int = 10
    scale: Literal["row", "none"] = "none"
    clusters: int = 0


class NodeMLP(Encoder):
    """Linear layers with ReLU between them, and perhaps centres of clusters; items are `Node`s.

    Embeddings are not normalised: distances to the centres count.

    >>> from counterpoint.modalities.graph import Graph
    >>> graph = Graph(features=np.eye(5, dtype=np.float32), edges=np.array([[0, 1], [1, 2]]))
    >>> NodeMLP(NodeMLPConfig(features=5, widths=(8,), dim=3)).encode(graph).shape
    (5, 3)
    """

    kind: ClassVar[str] = "node-mlp"
    modality = "graph"
    choices: ClassVar[tuple[str, ...]] = ("mlp",)
    normalize = False
    config: NodeMLPConfig

    def __init__(self, config: NodeMLPConfig) -> None:
        super().__init__()
        if config.features < 1:
            raise ConfigError("An encoder of nodes needs the number of their features: give features=F.")
        self.config, self.dim = config, config.dim
        self.layers = dense(config.features, *config.widths, config.dim)
        self.centres: nn.Parameter | None = None
        self.group(config.clusters)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls.build(NodeMLPConfig(widths=(16,), dim=8), Nodes(small(np.random.default_rng(0))))

    def traced(self) -> Traced:
        """Of features ``(N, F)``, scaled as the configuration says."""
        return Traced(forward=self.forward, example=noise(3, self.config.features))

    def group(self, clusters: int) -> None:
        """Have this many centres, drawn anew where their number changes."""
        held = 0 if self.centres is None else len(self.centres)
        if clusters != held:
            self.centres = nn.Parameter(torch.randn(clusters, self.dim)) if clusters else None
            self.config = replace(self.config, clusters=clusters)

    def is_one(self, items: Any) -> bool:
        """A `Node`."""
        return super().is_one(items) or isinstance(items, Node)

    def collate(self, items: Sequence[Any], role: str | None = None) -> Tensor:
        """Features ``(M, F)``, dense."""
        for place, item in enumerate(items):
            if not isinstance(item, Node):
                given = type(item).__name__
                said = f"An encoder of nodes embeds the nodes of a graph, not {given} (item {{place}})."
                raise ItemError(said, place, len(items))
        out = np.empty((len(items), self.config.features), dtype=np.float32)
        graphs = {node.graph: None for node in items}
        for graph in graphs:
            if graph.features.shape[1] != out.shape[1]:
                given = graph.features.shape[1]
                raise DataError(f"The nodes have {given:,} features; this encoder reads {out.shape[1]:,}.")
            places = [i for i, node in enumerate(items) if node.graph is graph]
            found = row_scaled(graph.features[[items[i].number for i in places]], self.config.scale)
            out[places] = found.toarray() if sparse.issparse(found) else found
        return torch.from_numpy(out)

    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(M, D)``."""
        z: Tensor = self.layers(data)
        return z

    def clusters(self, items: Sequence[Any]) -> np.ndarray:
        """The cluster of each node, ``(M,)``: that of the nearest centre."""
        if self.centres is None:
            raise ConfigError("This encoder has no clusters: train it with a method that makes some.")
        z = torch.from_numpy(self.encode(items, normalize=False))
        return torch.cdist(z, self.centres.detach().cpu()).argmin(1).numpy()


def dense(*widths: int) -> nn.Sequential:
    """Linear layers through these widths, ReLU between them."""
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])
