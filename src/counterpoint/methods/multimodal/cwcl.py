"""CWCL: a frozen tower lends its similarities to a new modality, as positives of continuous strength.

Srinivasa et al. 2023, "CWCL: Cross-Modal Transfer with Continuously Weighted Contrastive Loss", arXiv 2309.14580.

For whoever owns a good encoder of one modality and pairs with another one that has none: the new tower is matched to
the frozen one, and is used zero-shot afterwards (classes by prompts or by examples in the frozen modality). Seen from
the frozen side every candidate is a positive, as much as the frozen tower finds its partner similar; seen from the new
side, whose similarities nobody may trust yet, only the partner is.

    q_i = f(v_i) / |f(v_i)|  (frozen),   p_i = g(u_i) / |g(u_i)|,   w_ij = q_i·q_j / 2 + 1/2
    L = -(1/N) Σ_i 1/Σ_j w_ij · Σ_j w_ij log softmax_j(scale q_i·p_j)  -  (1/N) Σ_i log softmax_i'(scale p_i·q_i')[i]

The new tower ends in a linear map to the width of the frozen one, which stays exactly as it is: in eval mode, without
gradient, the same weights in the model folder after training as before.

Published: locked ViT-L/16 beside a text tower on 27 M captions; a Whisper encoder beside a locked text model on speech.
Learned temperature from 0.07, batch 16,384, no setting of its own for w. (Batch and temperature are not certain.)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNetConfig, ImageTransformerConfig
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import two_streams
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, TeacherSimilarity
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import total
from counterpoint.train.config import TrainConfig

FLAT = 0.8
"""Mean weight of two different rows above which the targets say little."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """frozen: the tower that stays as it is. temperature: at the start, learned. weighted: from which side candidates
    count by their weight: the frozen one (CWCL), neither (plain contrast), or both.

    centre: weights from the frozen features minus their mean over the batch, where a common part makes all of them
    alike. sharpen: exponent of the weights; larger ones leave fewer positives. Neither is part of the published method.
    """

    frozen: str = "text"
    temperature: float = 0.07
    weighted: str = "frozen"
    centre: bool = False
    sharpen: float = 1.0

    def __post_init__(self) -> None:
        if self.weighted not in ("frozen", "neither", "both"):
            raise ConfigError(f"weighted={self.weighted!r}: type frozen, neither or both.")
        if not self.sharpen > 0:
            raise ConfigError(f"sharpen={self.sharpen}: give an exponent above 0; 1 leaves the weights as they are.")


@method(
    "cwcl",
    title="CWCL: a frozen tower's similarities as continuous weights",
    paper="arXiv 2309.14580",
    year=2023,
    modalities=("image", "text"),
    needs=("towers",),
)
class CWCL(Method):
    """A new tower learns to match a frozen one, which weighs every candidate by its own similarity. encoders: one for
    each stream. config: see `Config`."""

    Config = Config

    def __init__(self, encoders: Mapping[str, Encoder], config: Config | None = None) -> None:
        super().__init__(next(iter(encoders.values())), config)
        del self.encoder
        name = self.config.frozen
        if len(encoders) != 2 or name not in encoders:
            raise ConfigError(
                f"CWCL takes two towers, one of them the frozen one ({name}); given were {', '.join(encoders)}. "
                "Say which one is frozen: --set frozen=NAME (Config(frozen=...))."
            )
        self.streams = tuple(encoders)
        [new] = (e for stream, e in encoders.items() if stream != name)
        self.frozen = Teacher(encoders[name], momentum=1.0, dropout=False)
        self.tower = Projected(new, encoders[name].dim)
        self.scale = LogitScale(self.config.temperature, learnable=True)
        self._looked = False

    @classmethod
    def kept(cls, config: Config) -> tuple[str, ...]:
        return (config.frozen,)

    def towers(self) -> Mapping[str, Encoder]:
        return {s: self.frozen.model if s == self.config.frozen else self.tower for s in self.streams}

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        return two_streams(self.towers(), rows)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        name = self.config.frozen
        new, old = sorted(batch.views, key=lambda view: view.stream == name)
        with torch.no_grad():
            features = self.embed(self.frozen.model, old)
        q = unit(features, batch.rows)
        p = F.normalize(self.embed(self.tower, new), dim=-1)
        scale = self.scale()
        self.observe(anchor=p, positive=q, scale=scale)
        hard, soft = Diagonal(), self.weights(features)
        side = self.config.weighted
        return {
            "weighted": contrast(q, p, hard if side == "neither" else soft, scale=scale),
            "plain": contrast(p, q, soft if side == "both" else hard, scale=scale),
        }

    def weights(self, features: Tensor) -> TeacherSimilarity:
        """What each candidate counts for each anchor, from the frozen features ``(N, D)``; never anything trained."""
        n = total(features.new_tensor([float(len(features))]))
        if self.config.centre:
            features = features - total(features.sum(0)) / n
        z = F.normalize(features, dim=-1)
        if self.training and not self._looked:  # once: on a GPU the figure has to be waited for
            self._look(z, float(n))
            self._looked = True
        power = self.config.sharpen
        if power == 1:
            return TeacherSimilarity(z, slope=0.5, intercept=0.5)
        return TeacherSimilarity(z, transform=lambda cos: (cos / 2 + 0.5).clamp_min(0) ** power)

    def _look(self, z: Tensor, n: float) -> None:
        """Warn of a batch that teaches nothing: of one row, or of rows that the frozen tower hardly tells apart."""
        if n < 2:
            warnings.warn("CWCL compares the rows of a batch; of one row both losses are 0.", stacklevel=4)
            return
        mean = 0.5 + (float(total(z.sum(0)).square().sum()) - n) / (2 * n * (n - 1))
        if mean > FLAT and self.config.sharpen == 1:
            warnings.warn(
                f"The frozen {self.config.frozen} tower finds all rows alike: the mean weight of two rows is "
                f"{mean:.2f} (1 = the same), so every candidate is nearly as good a positive as any other. Try --set "
                "centre=True, which takes out what all rows share, or --set sharpen=4.",
                stacklevel=4,
            )

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(frozen="image"),
                encoder={"image": ImageTransformerConfig(), "text": TextTransformerConfig(max_length=77)},
                train=TrainConfig(batch=16_384, epochs=10, lr=1e-3, weight_decay=1e-4, warmup=0.05),
            )
        small = size == "small"
        return Recipe(
            config=Config(),
            encoder={"image": ConvNetConfig(), "text": StaticTextConfig(dim=128 if small else 32)},
            train=TrainConfig(batch=128 if small else 16, epochs=20 if small else 1, lr=1e-3),
        )


def unit(features: Tensor, rows: Tensor) -> Tensor:
    """Frozen features at unit length; an error names the row that has no direction. rows: their numbers ``(N,)``."""
    length = features.norm(dim=-1)
    bad = ~(length > 0) | ~length.isfinite()  # NaN is neither
    if bad.any():
        i = int(bad.nonzero()[0])
        raise DataError(
            f"The frozen tower gives row {int(rows[i])} an embedding of length {float(length[i])}, which has no "
            "direction to match. Leave that row out, or look whether the model folder is damaged."
        )
    return F.normalize(features, dim=-1)
