"""Two towers: one encoder per modality, matched by contrast (CLIP, SigLIP).

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020; with
`form="sigmoid"`: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343.

For whoever has two kinds of things about the same object: pictures and captions, sounds and labels. Each tower ends in
a linear map to a common width; a row's two vectors must find each other among the batch, in both directions, at a
learned temperature. A row that lacks one of the two takes no part in the comparison (and is counted by the loader).

    softmax:  L = ½ (CE_rows(scale u vᵀ, i) + CE_columns(scale u vᵀ, i))
    sigmoid:  L = -(1/N) Σ_ij log σ(z_ij (scale u_i·v_j + bias)),   z_ij = +1 where i = j, else -1

Published: ViT or ResNet beside a 12-layer text transformer, batch 32,768, learned temperature from 0.07 (scale <= 100),
AdamW 5e-4, weight decay 0.2, 32 epochs of 4·10^8 pairs; sigmoid: scale 10, bias -10 at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNetConfig, ImageTransformerConfig
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import two_streams
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """dim: common width. temperature: at the start, learned. form: softmax (CLIP) or sigmoid (SigLIP). bias: at the
    start, learned, of sigmoid alone."""

    dim: int = 512
    temperature: float = 0.07
    form: str = "softmax"
    bias: float = -10.0


@method(
    "two-tower",
    title="Two towers: contrastive matching of two modalities",
    paper="arXiv 2103.00020",
    year=2021,
    modalities=("image", "text"),
    needs=("towers",),
    usual=("towers",),
)
class TwoTower(Method):
    """Two modalities of one row find each other among the batch. encoders: one for each stream."""

    Config = Config

    def __init__(self, encoders: Mapping[str, Encoder], config: Config | None = None) -> None:
        if len(encoders) != 2:
            raise ConfigError(f"Two towers take two encoders; {len(encoders)} were given ({', '.join(encoders)}).")
        super().__init__(next(iter(encoders.values())), config)
        del self.encoder
        self.tower = nn.ModuleDict({s: Projected(e, self.config.dim) for s, e in encoders.items()})
        temperature = 0.1 if self.config.form == "sigmoid" else self.config.temperature
        self.scale = LogitScale(temperature, learnable=True)
        self.bias = nn.Parameter(torch.tensor(self.config.bias)) if self.config.form == "sigmoid" else None

    def towers(self) -> Mapping[str, Encoder]:
        return {stream: tower for stream, tower in self.tower.items() if isinstance(tower, Encoder)}

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        return two_streams(self.towers(), rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        u, v = (
            F.normalize(self.embed(self.tower[view.stream], view), dim=-1)
            for view in (batch.one("anchor"), batch.one("positive"))
        )
        scale = self.scale()
        self.observe(anchor=u, positive=v, scale=scale)
        loss = contrast(u, v, Diagonal(), scale=scale, bias=self.bias, form=self.config.form, both=self.bias is None)
        return {"match": loss}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder={"image": ImageTransformerConfig(), "text": TextTransformerConfig(max_length=77)},
                train=TrainConfig(batch=32_768, epochs=32, lr=5e-4, weight_decay=0.2, betas=(0.9, 0.98), warmup=2_000),
            )
        small = size == "small"
        return Recipe(
            config=Config(dim=128 if small else 32),
            encoder={"image": ConvNetConfig(), "text": StaticTextConfig(dim=128 if small else 32)},
            train=TrainConfig(batch=128 if small else 16, epochs=20 if small else 1, lr=1e-3),
        )
