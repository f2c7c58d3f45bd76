"""GraphMAE: the features of hidden nodes are reconstructed from their neighbours.

Hou et al. 2022, "GraphMAE: Self-Supervised Masked Graph Autoencoders", KDD 2022, arXiv 2205.10803.

For whoever has a graph with node features and few labels. Half of the nodes lose their features to a learned token; an
encoder of the graph embeds all nodes; a decoder of one graph layer, which sees the hidden nodes as zeros once more, has
to give their features back. The direction counts, not the length, and nodes that are easy count less.

    h = encoder(A, x with the token x_M at the hidden nodes),   h' = h W,   h'_i = 0 for every chosen node i
    z = decoder(A, h')
    loss = mean over chosen i of (1 - cos(x_i, z_i))^γ

``rate`` of the nodes are chosen; a share ``replace`` of these gets the features of other nodes instead of the token.
``edge_drop`` leaves out edges for the encoder alone. Ablations: ``hide=False`` reconstructs every node from its own
features; ``decoder="mlp"`` reads a node without its neighbours (and cannot re-mask); ``remask=False``; ``error="mse"``.

Published for Cora (size ``published``): graph attention of 2 layers, 512 wide in all, 4 heads, dropout 0.2, attention
dropout 0.1, PReLU; rate 0.5, replace 0.05, γ 3; Adam 1e-3 with weight decay 2e-4 and cosine decay, 1,500 epochs.
Here: weight decay is decoupled (AdamW); nodes without a neighbour, which nothing could reconstruct, are never chosen;
nodes without features have no direction and are left out of the loss; the published split of the chosen nodes loses one
to rounding, here the token has the remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View, Whole
from counterpoint.data.schema import Row
from counterpoint.encoders.graph import GATConfig, GraphEncoder, with_loops
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.modalities.graph import Graph
from counterpoint.objectives.reconstruct import masked_mse, scaled_cosine_error
from counterpoint.train.config import TrainConfig
from counterpoint.views.graph import drop_edges, mask_nodes


@dataclass(frozen=True, kw_only=True)
class Config:
    """rate: share of the nodes that are chosen. replace: share of these that get another node's features. gamma: power
    of the error. edge_drop: share of edges that the encoder does not see. hide, decoder, remask, error: see above."""

    rate: float = 0.5
    replace: float = 0.05
    gamma: float = 3.0
    edge_drop: float = 0.0
    hide: bool = True
    decoder: Literal["gnn", "mlp"] = "gnn"
    remask: bool = True
    error: Literal["cosine", "mse"] = "cosine"

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ConfigError(
                f"rate={self.rate}: expected more than 0 and less than 1, as some nodes must stay visible."
            )


@method(
    "graphmae",
    title="GraphMAE: masked graph autoencoder",
    paper="arXiv 2205.10803",
    year=2022,
    modalities=("graph",),
    needs=("graph",),
    usual=("graph",),
)
class GraphMAE(Method):
    """Hidden nodes are reconstructed from their neighbours' embeddings."""

    Config = Config
    encoder: GraphEncoder

    def __init__(self, encoder: GraphEncoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        if encoder.token is None:
            raise ConfigError("graphmae needs an encoder with a mask token: set mask_token=True in its configuration.")
        encoder.token.requires_grad_(self.config.hide)
        features, dim = encoder.config.features, encoder.dim
        self.bridge = nn.Linear(dim, dim, bias=False)
        self.decoder = (
            encoder.decoder(features)
            if self.config.decoder == "gnn"
            else nn.Sequential(nn.Linear(dim, dim), nn.PReLU(), nn.Linear(dim, features))
        )

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """The whole graph, whichever of its nodes are asked for. Beside what the encoder eats: ``chosen`` (V,),
        ``target`` (V, F) and ``seen`` (2, E), the edges that the decoder sees."""
        if not rows:
            raise DataError("There is no node here to find the graph by. Start fewer processes.")
        graph: Graph = rows[0]["node"].graph
        c, n = self.config, len(graph)
        features, chosen, hidden = mask_nodes(graph, rng, rate=c.rate, replace=c.replace)
        if not c.hide:
            features, chosen, hidden = graph.features, np.arange(n), np.zeros(n, dtype=bool)
        edges = drop_edges(graph, rng, share=c.edge_drop) if c.edge_drop else graph.edges
        data = self.encoder.inputs(features, edges, hidden=hidden if c.hide else None)
        target = self.encoder.scaled(graph.features[chosen])
        data["chosen"] = torch.from_numpy(chosen)
        data["target"] = torch.from_numpy(target if isinstance(target, np.ndarray) else target.toarray())
        data["seen"] = with_loops(graph.edges, n) if c.edge_drop else data["edges"]
        return Batch((View(data, "graph"),), torch.arange(n))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        view, c = batch.one("anchor"), self.config
        data = view.data
        assert isinstance(data, Whole)
        h = self.embed(self.encoder, view)
        z, target = self.decode(h, data), data["target"]
        # Predictions of bags of words are all alike at first: what must not collapse are the embeddings.
        self.observe(anchor=h[data["chosen"]], positive=self.bridge(h.detach())[data["chosen"]])
        if c.error == "mse":
            return {"reconstruction": masked_mse(z, target=target)}
        return {"reconstruction": scaled_cosine_error(z, target=target, gamma=c.gamma)}

    def decode(self, h: Tensor, data: Whole) -> Tensor:
        """Features ``(V, F)`` of the chosen nodes from all embeddings ``(N, D)``. h: the embeddings. data: as `views`
        made it."""
        h, chosen = self.bridge(h), data["chosen"]
        if isinstance(self.decoder, nn.Sequential):
            out: Tensor = self.decoder(h[chosen])
            return out
        if self.config.remask and self.config.hide:
            h = h.index_fill(0, chosen, 0.0)
        return self.decoder.decode(F.dropout(h, self.encoder.config.dropout, self.training), data["seen"], chosen)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """On one core a step of ``small`` takes about a tenth of a second for Cora's 2,708 nodes."""
        encoder = GATConfig(mask_token=True)
        train = TrainConfig(epochs=1500, lr=1e-3, weight_decay=2e-4, warmup=0.0, clip=0.0, stop_on_collapse=False)
        if size == "small":
            encoder, train = replace(encoder, dim=128), replace(train, epochs=600)
        elif size == "smoke":
            encoder, train = replace(encoder, dim=32), replace(train, epochs=3)
        return Recipe(config=Config(), encoder=encoder, train=train)
