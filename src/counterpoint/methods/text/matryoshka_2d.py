"""2DMSE: embeddings that can be cut in depth (layers) and in width (dimensions).

Li et al. 2024, "2D Matryoshka Sentence Embeddings", arXiv 2402.14776 (version 1).

For whoever serves one text encoder on machines of different means: after training the first n layers and the first k
dimensions are an encoder of their own, without training again (`counterpoint export --layers n --dim k`). At every step
one layer n and one width k are drawn, and the base loss l is asked of the whole embedding, of the layer's, and of both
cut to k dimensions; the layer's embedding is also drawn towards the last one's, coordinate by coordinate.

    X_n = pool(layer n),  n ~ U{1 .. N-1},  k ~ U(widths)
    full  = l(X_N) + l(X_n) / n
    slim  = l(X_N[:k]) + l(X_n[:k]) / n
    align = temperature · KL( softmax(X_N / temperature) || softmax(X_n / temperature) )
    L = full + slim + align

l is in-batch contrast for pairs, CoSENT and perhaps AnglE's angle for scored pairs; it normalises what it is given.
Without `depth` this is Matryoshka in width alone, without `width` in depth alone, without both l(X_N). Families that
normalise before each block have a norm behind the last one: it ends every exit, here as in the encoder that is cut.

Published settings: BERT-base on AllNLI, lr 5e-5, batch 128, widths 8, 16, 32, ... below D, align with weight 1 and
temperature 1, and a gradient to the last layer as well (`stop_gradient` is not published). Later versions of the paper
(ESE) compress every layer towards the principal components of its own embeddings: another method, not in here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.states import LayerStates
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods import batches
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.coordinates import coordinate_kl
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.rank import angle, cosent
from counterpoint.processes import total, world
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """depth, width: whether layers, and whether widths, are drawn. widths: to draw from (none: 8, 16, 32, ... below D).
    shallow: divide the loss of layer n by n.

    align: weight of the agreement with the last layer. temperature: of its softmax. stop_gradient: the last layer is
    then not drawn towards the earlier one.

    contrast_temperature: of the base loss of pairs. cosent, angle: weights of the base losses of scored pairs.
    cosent_scale, angle_scale: of their differences.
    """

    depth: bool = True
    width: bool = True
    widths: tuple[int, ...] = ()
    shallow: bool = True
    align: float = 1.0
    temperature: float = 1.0
    stop_gradient: bool = False
    contrast_temperature: float = 0.05
    cosent: float = 1.0
    angle: float = 0.0
    cosent_scale: float = 20.0
    angle_scale: float = 1.0

    def __post_init__(self) -> None:
        if min(self.cosent, self.angle, self.align) < 0 or self.cosent + self.angle == 0:
            raise ConfigError(
                f"cosent={self.cosent}, angle={self.angle}, align={self.align}: weights are at least 0, and one of "
                "cosent and angle is more."
            )


@method(
    "matryoshka-2d",
    title="2DMSE: embeddings that can be cut in layers and dimensions",
    paper="arXiv 2402.14776",
    year=2024,
    modalities=("text",),
    needs=("pairs", "scored"),
)
class Matryoshka2D(Method):
    """The base loss of the whole embedding, of an earlier layer, and of both cut to fewer dimensions."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        layers = encoder.depth if isinstance(encoder, TextTransformer) else 1
        self.depths = tuple(range(1, layers)) if self.config.depth else ()
        self.widths = self._widths(encoder.dim) if self.config.width else ()
        self._check_angle(encoder.dim)
        self._tell(encoder, layers)
        # What is drawn at a step: the same over all processes, when a step is computed again, and after resuming.
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("step", torch.tensor(0))

    def _widths(self, dim: int) -> tuple[int, ...]:
        widths = self.config.widths or tuple(2**i for i in range(3, dim.bit_length()) if 2**i < dim)
        if bad := [k for k in widths if not 1 <= k <= dim]:
            raise ConfigError(
                f"widths holds {bad[0]}; this encoder gives {dim} dimensions: name widths from 1 to {dim}."
            )
        return widths

    def _check_angle(self, dim: int) -> None:
        if self.config.angle and (odd := [k for k in (*self.widths, dim) if k % 2]):
            raise ConfigError(
                "The angle loss reads one half of an embedding as real parts and the other as imaginary ones, and a "
                f"width of {odd[0]} is odd. Name even widths, or set angle=0."
            )

    def _tell(self, encoder: Encoder, layers: int) -> None:
        """Say which part of the method falls away, where the encoder leaves nothing to draw."""
        if self.config.depth and not self.depths:
            warnings.warn(
                f"This {encoder.kind} encoder has no layer to stop at before its last, so it is trained to be cut in "
                "width alone. For both, start from a transformer: --encoder transformer.",
                stacklevel=4,
            )
        if self.config.width and not self.widths:
            warnings.warn(
                f"No width is below the {encoder.dim} dimensions of this encoder, so it is trained at full width only. "
                "Name widths (widths=4,8).",
                stacklevel=4,
            )

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        if rows and "score" in rows[0]:
            return batches.scored(self.encoder, rows)
        if self.config.angle:
            raise ConfigError("The angle loss compares scores, and pairs (anchor, positive) have none. Set angle=0.")
        return batches.pairs(self.encoder, rows)

    def drawn(self) -> tuple[int | None, int | None]:
        """The layer n and the width k of this step; None where there is nothing to draw from."""
        rng = np.random.default_rng([int(self.seed), int(self.step)])
        n, k = (int(rng.choice(of)) if of else None for of in (self.depths, self.widths))
        return n, k

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        (n, k), score = self.drawn(), self._scores(batch)
        exits = LayerStates(self.encoder, None if n is None else (n, len(self.depths) + 1))
        x = self.embed_each(exits, batch.views)
        last, early = [z[:, -1] for z in x], [z[:, 0] for z in x]
        self.observe(anchor=F.normalize(last[0], dim=-1), positive=F.normalize(last[1], dim=-1))
        share = 1.0 if n is None or not self.config.shallow else 1 / n
        losses = {"full": self.base(last, score)}
        if n is not None:
            losses["full"] = losses["full"] + share * self.base(early, score)
        if k is not None:
            losses["slim"] = self.base([z[:, :k] for z in last], score)
            if n is not None:
                losses["slim"] = losses["slim"] + share * self.base([z[:, :k] for z in early], score)
        if n is not None and self.config.align:
            settings = {"temperature": self.config.temperature, "stop_gradient": self.config.stop_gradient}
            losses["align"] = self.config.align * coordinate_kl(torch.cat(early), torch.cat(last), **settings)
        return losses

    def _scores(self, batch: Batch) -> Tensor | None:
        """Of scored pairs ``(N,)``; None: of pairs. A process without a row hears from the others which they are."""
        score = batch.labels.get("score")
        if world() == 1:
            return score
        scored = total(torch.tensor(int(score is not None), device=batch.rows.device), "max")
        return torch.zeros(0, device=batch.rows.device) if score is None and scored else score

    def base(self, x: Sequence[Tensor], score: Tensor | None) -> Tensor:
        """The loss l of embeddings ``(N, D)`` of anchors, of positives, and perhaps ``(K, D)`` of negatives. score:
        ``(N,)`` of scored pairs.

        x: of each role."""
        c = self.config
        if score is not None:
            a, b = x
            loss = a.new_zeros(())
            if c.cosent:
                loss = loss + c.cosent * cosent(a, b, score, scale=c.cosent_scale)
            if c.angle:
                loss = loss + c.angle * angle(a, b, score, scale=c.angle_scale)
            return loss
        a, b, *rest = (F.normalize(z, dim=-1) for z in x)
        return contrast(
            a, b, Diagonal(), scale=1 / c.contrast_temperature, both=True, extra=torch.cat(rest) if rest else None
        )

    def after_step(self, step: int) -> None:
        self.step.fill_(step)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, max_length=128, pooling="cls"),
                train=TrainConfig(batch=128, epochs=1, lr=5e-5, warmup=0.1, schedule="linear"),
            )
        small = size == "small"
        layers, width = (4, 128) if small else (2, 32)
        return Recipe(
            config=Config(),
            encoder=TextTransformerConfig(
                layers=layers, width=width, heads=4, max_length=128 if small else 32, vocabulary=8_000
            ),
            train=TrainConfig(batch=128 if small else 16, epochs=5 if small else 1, lr=1e-3, warmup=0.1),
        )
