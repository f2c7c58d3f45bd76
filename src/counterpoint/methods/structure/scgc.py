"""SCGC: nodes are clustered by a plain network; the graph only says which nodes should look alike.

Kulatilleke, Portmann & Chandra 2022, "SCGC: Self-Supervised Contrastive Graph Clustering", arXiv 2204.12656. (Another
paper of nearly the same name, "Simple Contrastive Graph Clustering", with two linear encoders, is not this one.)

For whoever must sort the nodes of a graph into K groups and wants no graph at inference: the encoder reads the features
of a node alone. First an auto-encoder is trained; k-means on its code gives K centres; then all is trained together.

    A = edges and loops, rows divided by their sums;   M = A^R, or summed: M = A + A² + ... + A^R  (SCGC*)
    s_ij = cos(z_i, z_j), s_ii = 0
    neighbours = -mean_i log( Σ_j M_ij exp(τ s_ij) / Σ_j exp(τ s_ij) + 1e-8 ),   τ multiplies
    q_ik ∝ 1 / (1 + |z_i - c_k|²),   p_ik ∝ q_ik² / Σ_i q_ik without gradient,   clusters = mean_i KL(p_i || q_i)
    loss = |x - decoder(z)|² + α · neighbours + β · clusters

``star`` is SCGC*: the summed M, and no reconstruction in the second stage. Ablation: α = 0.

Published: layers d-500-500-2000-10 and back, Adam 1e-3, 200 epochs of the whole graph after the auto-encoder; α 1,
β 0.1, R 4, τ 0.5 (digit images, 3 neighbours; citation graphs: R 1 to 2, τ 0.25). The released code prints the best
epoch by the true labels; here the last one counts. The auto-encoder's training is not published: half of the steps
here, on 256 nodes each. Of graphs with more than ``block`` nodes, each step takes so many, with their part of M.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.node_mlp import NodeMLP, NodeMLPConfig, dense
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.modalities.graph import Graph, Node
from counterpoint.objectives.cluster import sharpened, student_t
from counterpoint.processes import gathered
from counterpoint.train.config import TrainConfig
from counterpoint.views.graph import influence


@dataclass(frozen=True, kw_only=True)
class Config:
    """clusters: how many, K. alpha, beta: weights of the neighbours' and of the clusters' loss. order: R. scale: τ.

    star: SCGC*. summed: whether powers of A are summed (None: as star). pretrain: share of the steps that train the
    auto-encoder. sample: nodes per step of it. block: most nodes per step after it.
    """

    clusters: int = 10
    alpha: float = 1.0
    beta: float = 0.1
    order: int = 4
    scale: float = 0.5
    star: bool = False
    summed: bool | None = None
    pretrain: float = 0.5
    sample: int = 256
    block: int = 4096

    def __post_init__(self) -> None:
        if self.clusters < 2 or not 0 <= self.pretrain < 1:
            raise ConfigError(
                f"clusters={self.clusters}, pretrain={self.pretrain}: expected clusters >= 2 and 0 <= pretrain < 1."
            )


@method(
    "scgc",
    title="SCGC: contrastive graph clustering",
    paper="arXiv 2204.12656",
    year=2022,
    modalities=("graph",),
    needs=("graph",),
)
class SCGC(Method):
    """An auto-encoder of node features whose code is contrasted by the graph and drawn to centres of clusters."""

    Config = Config
    encoder: NodeMLP
    step: Tensor

    def __init__(self, encoder: NodeMLP, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        encoder.group(self.config.clusters)
        c = encoder.config
        self.decoder = dense(c.dim, *reversed(c.widths), c.features)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.first = 0
        self._code: tuple[Tensor, Tensor] | None = None
        self._influence: tuple[Graph, Any] | None = None

    def before_training(self, steps: int) -> None:
        self.first = math.floor(self.config.pretrain * steps)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Nodes in random order, the whole graph or a block of it, with their part of M as label ``influence``."""
        if not rows:
            raise DataError("There is no node here to find the graph by. Start fewer processes.")
        graph: Graph = rows[0]["node"].graph
        c = self.config
        if self._influence is None or self._influence[0] is not graph:
            summed = c.star if c.summed is None else c.summed
            self._influence = graph, influence(graph, order=c.order, summed=summed)
        nodes = rng.permutation(len(graph))[: c.block]
        weights = self._influence[1][nodes][:, nodes].toarray().astype(np.float32)
        data = self.encoder.collate([Node(graph, int(i)) for i in nodes])
        return Batch((View(data, "graph"),), torch.from_numpy(nodes), {"influence": torch.from_numpy(weights)})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        view, weights, c = batch.one("anchor"), batch.labels["influence"], self.config
        done = int(self.step)
        joint = done >= self.first
        if done + 1 < self.first:  # the last step of the first stage needs every code, for k-means
            view, weights = view.take(slice(0, c.sample)), weights[: c.sample, : c.sample]
        x = view.data
        assert isinstance(x, Tensor)
        z = self.embed(self.encoder, view)
        self._code = batch.rows[: len(z)], z.detach()
        self.observe(anchor=z, positive=weights @ z)
        assert self.encoder.centres is not None
        q = student_t(z, self.encoder.centres)
        p = sharpened(q)
        return {
            "reconstruction": F.mse_loss(self.decoder(z), x) * float(not (joint and c.star)),
            "neighbours": neighbour_contrast(z, weights, scale=c.scale) * (c.alpha * joint),
            "clusters": (p * (p / q).clamp_min(1e-30).log()).sum(1).mean() * (c.beta * joint),
        }

    def after_step(self, step: int) -> None:
        self.step.fill_(step)
        if step == self.first and self._code is not None and self.encoder.centres is not None:
            # Every process has the graph, or a block of it: each node counts once.
            nodes, code = (gathered(x).cpu().numpy() for x in self._code)
            code = code[np.sort(np.unique(nodes, return_index=True)[1])].astype(np.float64)
            k = self.config.clusters
            if len(np.unique(code, axis=0)) < k:
                raise DataError(f"{len(code)} nodes have fewer than {k} different codes: give fewer clusters.")
            found = KMeans(k, n_init=20, random_state=0).fit(code).cluster_centers_
            centres = self.encoder.centres
            value = torch.from_numpy(found).to(centres.device, centres.dtype)
            with torch.no_grad():
                if isinstance(centres.data, DTensor):  # each process holds a part of them
                    value = distribute_tensor(value, centres.data.device_mesh, centres.data.placements)
                centres.copy_(value)
        self._code = None

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        encoder = NodeMLPConfig()
        # Two parts of 200 steps: one for the auto-encoder, one for all together.
        train = TrainConfig(
            epochs=400, lr=1e-3, weight_decay=0.0, schedule="constant", warmup=0.0, clip=0.0, stop_on_collapse=False
        )
        config = Config()
        if size == "small":
            config, train = Config(pretrain=0.75), replace(train, epochs=280)  # 210 steps of 256 nodes, 70 of all
        elif size == "smoke":
            encoder = replace(encoder, widths=(32, 32))
            config, train = Config(clusters=3), replace(train, epochs=4)
        return Recipe(config=config, encoder=encoder, train=train)


def neighbour_contrast(z: Tensor, weights: Tensor, *, scale: float, eps: float = 1e-8) -> Tensor:
    """``-mean_i log( Σ_j M_ij exp(τ s_ij) / Σ_j exp(τ s_ij) + eps )``, ``s_ij = cos(z_i, z_j)``, ``s_ii = 0``.

    z: ``(N, D)``. weights: M ``(N, N)``, >= 0. Returns ``()``. Its smallest value is -log of M's largest row sum. A
    node's score for itself is 0, and counts so above and below, as in the released code. scale: τ. eps: within the
    logarithm. Source: Kulatilleke et al. 2022, arXiv 2204.12656.
    """
    unit = F.normalize(z, dim=1)
    alike = (scale * (unit @ unit.T).fill_diagonal_(0.0)).exp()
    return -((weights * alike).sum(1) / alike.sum(1) + eps).log().mean()
