"""Encoders of graphs: graph attention and graph convolution, over one graph at once.

Sources: Veličković et al. 2018 (GAT), arXiv 1710.10903; Kipf & Welling 2017 (GCN), arXiv 1609.02907.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data, Whole
from counterpoint.data.nodes import Nodes
from counterpoint.encoders.base import Encoder, Traced, config_of, seeded
from counterpoint.errors import ConfigError, DataError, ItemError, ModelError
from counterpoint.modalities.graph import Features, Graph, Node, small

Project: TypeAlias = Callable[[Tensor], Tensor]
"""From a weight ``(F, D)`` to projected nodes ``(N, D)``."""


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """features: width F of a node's features; 0: that of the graph it is made for. dim: width D of every layer.

    layers: how many. dropout: of each layer's input. norm: after each layer, before the PReLU. scale: ``row`` divides
    each node's features by the sum of their absolute values (bags of words); none. mask_token: learn a vector ``(F,)``,
    at first 0, that stands for the features of hidden nodes.
    """

    features: int = 0
    dim: int = 512
    layers: int = 2
    dropout: float = 0.2
    norm: Literal["none", "layer"] = "none"
    scale: Literal["row", "none"] = "row"
    mask_token: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"layers={self.layers}, dropout={self.dropout}: expected layers >= 1, 0 <= dropout < 1.")


@dataclass(frozen=True, kw_only=True)
class GCNConfig(GraphConfig):
    """A graph convolution: neighbours count by their degrees."""


@dataclass(frozen=True, kw_only=True)
class GATConfig(GraphConfig):
    """heads: attention heads, each D / heads wide. attention_dropout: share of edges a head leaves out."""

    heads: int = 4
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1 or self.dim % self.heads:
            raise ConfigError(f"dim={self.dim} cannot be shared by {self.heads} heads. Give a multiple of the heads.")


class Attention(nn.Module):
    """One layer of graph attention, its projection apart: ``out_i = Σ_j α_ij h_j + b`` over the sources j of i.

    ``α_ij = softmax_j LeakyReLU(left · h_j + right · h_i)`` per head.

    features: F, width of the inputs. dim: D, of the outputs. heads: how many. dropout: of the weights α.
    """

    def __init__(self, features: int, dim: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, dim))
        self.left, self.right = (nn.Parameter(torch.empty(heads, dim // heads)) for _ in range(2))
        self.bias = nn.Parameter(torch.empty(dim))
        self.heads, self.dropout = heads, dropout
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for parameter in (self.weight, self.left, self.right):
            nn.init.xavier_normal_(parameter, gain=2**0.5)
        nn.init.zeros_(self.bias)

    def forward(self, h: Tensor | Project, edges: Tensor) -> Tensor:
        """h: (N, D), projected by ``weight``, or what projects with it. edges: (2, E), sorted by target. -> (N, D)."""
        h = h if isinstance(h, Tensor) else h(self.weight)
        split = h.unflatten(1, (self.heads, -1))  # N, heads, width
        alpha = self._shares((split * self.left).sum(-1), (split * self.right).sum(-1), edges)
        ends = _ends(edges, len(h))
        of_heads = zip(split.unbind(1), alpha.unbind(1))
        return torch.cat([_spread(part, edges[0], ends, share) for part, share in of_heads], 1) + self.bias

    def decode(self, x: Tensor, edges: Tensor, wanted: Tensor) -> Tensor:
        """The outputs ``(V, D)`` of the wanted nodes ``(V,)`` from inputs ``(N, F)``, with one head.

        What `forward` of ``x @ weight`` gives, at less cost where D is much larger than F: sums are taken before the
        projection, and only the wanted rows are projected.

        edges: ``(2, E)`` from source to target, loops included.
        """
        assert self.heads == 1
        alpha = self._shares(x @ (self.weight @ self.left.T), x @ (self.weight @ self.right.T), edges)
        return _spread(x, edges[0], _ends(edges, len(x)), alpha.squeeze(1))[wanted] @ self.weight + self.bias

    def _shares(self, left: Tensor, right: Tensor, edges: Tensor) -> Tensor:
        """Attention ``(E, heads)``: of each node's incoming edges, before dropout, the shares sum to 1."""
        source, target = edges
        score = F.leaky_relu(left[source] + right[target], 0.2)
        at = target.unsqueeze(1).expand_as(score)
        peak = torch.full_like(right, -torch.inf).scatter_reduce(0, at, score.detach(), "amax")
        weight = (score - peak[target]).exp()
        return F.dropout(weight / _summed(weight, target, len(right))[target], self.dropout, self.training)


class Convolution(nn.Module):
    """One layer of graph convolution, its projection apart: ``out_i = Σ_j h_j / sqrt(deg_i deg_j) + b``.

    features: F, width of the inputs. dim: D, of the outputs.
    """

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(features, dim)), nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, h: Tensor | Project, edges: Tensor) -> Tensor:
        """h: (N, D), projected by ``weight``, or what projects with it. edges: (2, E), loops included, by target."""
        return self._mean(h if isinstance(h, Tensor) else h(self.weight), edges) + self.bias

    def decode(self, x: Tensor, edges: Tensor, wanted: Tensor) -> Tensor:
        """The outputs ``(V, D)`` of the wanted nodes ``(V,)`` from inputs ``(N, F)``; see `Attention.decode`.

        x: the inputs. edges: ``(2, E)`` from source to target, loops included.
        """
        return self._mean(x, edges)[wanted] @ self.weight + self.bias

    @staticmethod
    def _mean(x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        root = torch.bincount(target, minlength=len(x)).to(x.dtype).rsqrt()
        return _spread(x, source, _ends(edges, len(x)), root[source] * root[target])


def _ends(edges: Tensor, n: int) -> Tensor:
    """``(n + 1,)``: where the incoming edges of each of n nodes begin among the edges ``(2, E)``, sorted by target."""
    return F.pad(torch.bincount(edges[1], minlength=n).cumsum(0), (1, 0))


def _spread(x: Tensor, source: Tensor, ends: Tensor, weights: Tensor) -> Tensor:
    """``(N, D)`` sums over the incoming edges of each node, see `_ends`, of ``weights[e] x[source[e]]``.

    As bags of rows, so that no ``(E, D)`` is ever made: at Cora's size its allocation cost most of a step.
    """
    return F.embedding_bag(
        source, x.contiguous(), ends, mode="sum", per_sample_weights=weights.contiguous(), include_last_offset=True
    )


def _summed(values: Tensor, target: Tensor, n: int) -> Tensor:
    """``(n, ...)`` sums of the values ``(E, ...)`` that have the same target."""
    return values.new_zeros(n, *values.shape[1:]).index_add(0, target, values)


class GraphEncoder(Encoder):
    """Layers with PReLU after each; an item is a `Node`, and all of its graph is read to embed it.

    ``encode(graph)`` embeds every node. What `collate` gives is a `Whole`: ``nodes`` (M,) which nodes are asked for;
    ``edges`` (2, E) with a loop at every node; ``features`` (N, F), or ``offsets`` (N + 1), ``columns`` and ``values``
    (the CSR matrix); and where nodes are hidden, ``hidden`` (N,) bool.
    """

    modality = "graph"
    config: GraphConfig
    layers: nn.ModuleList

    def __init__(self, config: GraphConfig) -> None:
        super().__init__()
        if config.features < 1:
            raise ConfigError("An encoder of graphs needs the number of node features: give features=F.")
        self.config, self.dim = config, config.dim
        widths = [config.features, *[config.dim] * (config.layers - 1)]
        self.layers = nn.ModuleList(self._layer(width) for width in widths)
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.dim) if config.norm == "layer" else nn.Identity() for _ in widths
        )
        self.activations = nn.ModuleList(nn.PReLU() for _ in widths)
        self.token = nn.Parameter(torch.zeros(config.features)) if config.mask_token else None

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls.build(config_of(cls)(dim=16), Nodes(small(np.random.default_rng(0))))

    def traced(self) -> Traced:
        raise ModelError(
            "An encoder of graphs has no ONNX form: it reads a whole graph at once. Load its folder with "
            "counterpoint.encoders.folder.load instead."
        )

    @abstractmethod
    def _layer(self, width: int) -> nn.Module:
        """A layer from this width to ``dim`` with ``weight`` (width, dim); called with projected nodes and edges."""

    @abstractmethod
    def decoder(self, width: int) -> Attention | Convolution:
        """A single layer of this family, from embeddings to this width, for training only."""

    # --- in ----------------------------------------------------------------------------------------------------

    def is_one(self, items: Any) -> bool:
        """A `Node`."""
        return super().is_one(items) or isinstance(items, Node)

    def collate(self, items: Sequence[Any], role: str | None = None) -> Whole:
        """`Node`s, or a whole `Graph`; nodes of several graphs are embedded side by side."""
        if isinstance(items, Graph):
            return self.inputs(items.features, items.edges)
        for place, item in enumerate(items):
            if not isinstance(item, Node):
                given = type(item).__name__
                said = f"An encoder of graphs embeds the nodes of a graph, not {given} (item {{place}})."
                raise ItemError(said, place, len(items))
        graphs = list(dict.fromkeys(node.graph for node in items))
        starts = np.cumsum([0, *map(len, graphs)])
        start = dict(zip(graphs, starts))
        matrices = [g.features for g in graphs]
        dense = all(isinstance(m, np.ndarray) for m in matrices)
        return self.inputs(
            np.concatenate(matrices) if dense else sparse.vstack([sparse.csr_array(m) for m in matrices], format="csr"),
            np.concatenate([g.edges + start[g] for g in graphs], axis=1),
            nodes=np.array([start[node.graph] + node.number for node in items]),
        )

    def inputs(
        self,
        features: Features,
        edges: np.ndarray,
        *,
        nodes: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
    ) -> Whole:
        """What `forward` eats. features: (N, F). edges: (2, E) without loops. nodes: those asked for (None: all).
        hidden: (N,) bool, nodes whose features the mask token stands for."""
        n, width = features.shape
        if width != self.config.features:
            raise DataError(f"The nodes have {width:,} features; this encoder reads {self.config.features:,}.")
        if hidden is not None and self.token is None:
            raise ConfigError("Nodes are to be hidden, but the encoder has no mask token: set mask_token=True.")
        out = Whole(nodes=torch.from_numpy(np.arange(n) if nodes is None else nodes), edges=with_loops(edges, n))
        scaled = self.scaled(features)
        if sparse.issparse(scaled):
            for name, array in (("offsets", scaled.indptr), ("columns", scaled.indices)):
                out[name] = torch.from_numpy(array.astype(np.int64))
            out["values"] = torch.from_numpy(scaled.data)
        else:
            out["features"] = torch.from_numpy(scaled)
        if hidden is not None:
            out["hidden"] = torch.from_numpy(hidden)
        return out

    def scaled(self, features: Features) -> Features:
        """Features ``(N, F)`` float32, each node's divided by the sum of their absolute values where that is asked."""
        return row_scaled(features, self.config.scale)

    def _batches(self, items: Sequence[Any], role: str | None, budget: int) -> Iterator[tuple[np.ndarray, Data]]:
        if len(items):  # in one piece: a graph read in parts is another graph
            yield np.arange(len(items)), self.collate(items, role)

    # --- out ---------------------------------------------------------------------------------------------------

    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(M, D)`` of the nodes asked for."""
        assert isinstance(data, Whole)
        edges, z = data["edges"], None
        for layer, norm, activation in zip(self.layers, self.norms, self.activations):
            # Projected inside the layer: only there are weights whole that FSDP has sharded.
            project = partial(self._first, data) if z is None else self._drop(z).matmul
            z = activation(norm(layer(project, edges)))
        assert z is not None
        return z[data["nodes"]]

    def _first(self, data: Whole, weight: Tensor) -> Tensor:
        """``(N, D)``: features, of hidden nodes the mask token, after dropout and projection."""
        shown = ~data["hidden"] if "hidden" in data else None
        if "features" in data:
            x = data["features"]
            h = self._drop(x if shown is None else x * shown.unsqueeze(1)) @ weight
        else:
            values = data["values"]
            if shown is not None:
                values = values * shown.repeat_interleave(data["offsets"].diff())
            h = F.embedding_bag(
                data["columns"],
                weight,
                data["offsets"],
                mode="sum",
                per_sample_weights=self._drop(values),
                include_last_offset=True,
            )
        if shown is None:
            return h
        assert self.token is not None
        # One draw of dropout for the token in all hidden nodes: one of their own each would cost as much as all else.
        return h + torch.outer((~shown).to(h.dtype), self._drop(self.token) @ weight)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


class GAT(GraphEncoder):
    """Graph attention: several heads side by side in every layer.

    >>> graph = Graph(features=np.eye(5, dtype=np.float32), edges=np.array([[0, 1, 2], [1, 2, 3]]))
    >>> encoder = GAT(GATConfig(features=5, dim=8, heads=2, layers=1))
    >>> encoder.encode(graph).shape, encoder.encode([graph[0]]).shape
    ((5, 8), (1, 8))
    """

    kind: ClassVar[str] = "gat"
    choices: ClassVar[tuple[str, ...]] = ("gat",)
    standard: ClassVar[bool] = True
    config: GATConfig

    def __init__(self, config: GATConfig) -> None:
        super().__init__(config)

    def _layer(self, width: int) -> nn.Module:
        c = self.config
        return Attention(width, c.dim, heads=c.heads, dropout=c.attention_dropout)

    def decoder(self, width: int) -> Attention:
        return Attention(self.dim, width, dropout=self.config.attention_dropout)


class GCN(GraphEncoder):
    """Graph convolution.

    >>> graph = Graph(features=np.eye(5, dtype=np.float32), edges=np.array([[0, 1, 2], [1, 2, 3]]))
    >>> GCN(GCNConfig(features=5, dim=8, layers=1)).encode(graph).shape
    (5, 8)
    """

    kind: ClassVar[str] = "gcn"
    choices: ClassVar[tuple[str, ...]] = ("gcn",)
    config: GCNConfig

    def __init__(self, config: GCNConfig) -> None:
        super().__init__(config)

    def _layer(self, width: int) -> nn.Module:
        return Convolution(width, self.config.dim)

    def decoder(self, width: int) -> Convolution:
        return Convolution(self.dim, width)


def with_loops(edges: np.ndarray, n: int) -> Tensor:
    """Edges ``(2, E + n)`` with one from each node to itself, sorted by target.

    edges: ``(2, E)`` from source to target. n: of nodes.
    """
    both = np.concatenate((edges, np.tile(np.arange(n), (2, 1))), axis=1)
    return torch.from_numpy(both[:, np.argsort(both[1], kind="stable")])


def row_scaled(features: Features, how: str) -> Features:
    """Features ``(N, F)`` float32; ``row``: each node's divided by the sum of their absolute values; ``none``.

    features: dense or CSR. how: row or none.
    """
    x: Any = sparse.csr_array(features) if sparse.issparse(features) else np.asarray(features)
    x = x.astype(np.float32)
    if how == "none":
        return x
    total = np.asarray(abs(x).sum(axis=1)).ravel()
    share = np.divide(1, total, out=np.ones_like(total), where=total > 0).astype(np.float32)
    if not sparse.issparse(x):
        return x * share[:, None]
    return sparse.csr_array((x.data * np.repeat(share, np.diff(x.indptr)), x.indices, x.indptr), shape=x.shape)
