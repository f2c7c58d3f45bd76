"""Vectors that something else computed (frozen features of patches, of documents), perhaps through a few layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, noise, seeded, small_rows
from counterpoint.encoders.bulk import is_vector
from counterpoint.encoders.node_mlp import dense
from counterpoint.errors import ConfigError, ItemError


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """features: width F of the vectors; 0: that of the rows it is made for. widths: of the hidden layers, ReLU after
    each. dim: width D of the embedding; 0: the vectors are taken as they are."""

    features: int = 0
    widths: tuple[int, ...] = ()
    dim: int = 128


class Vectors(Encoder):
    """Linear layers with ReLU between them, over vectors ``(F,)`` of finite numbers.

    >>> encoder = Vectors(VectorConfig(features=4, widths=(8,), dim=3))
    >>> encoder.encode([[1.0, 2, 3, 4], [0.0, 0, 0, 1]]).shape
    (2, 3)
    """

    kind: ClassVar[str] = "vectors"
    modality: ClassVar[str] = "vector"
    choices: ClassVar[tuple[str, ...]] = ("mlp",)
    standard: ClassVar[bool] = True
    config: VectorConfig

    def __init__(self, config: VectorConfig) -> None:
        super().__init__()
        if config.features < 1:
            raise ConfigError("An encoder of vectors needs their width: give features=F.")
        if config.widths and not config.dim:
            raise ConfigError(f"widths={config.widths} without dim: give the width of the embedding too.")
        self.config, self.dim = config, config.dim or config.features
        self.layers = dense(config.features, *config.widths, config.dim) if config.dim else nn.Sequential()
        self.register_buffer("_at", torch.empty(0), persistent=False)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls.build(VectorConfig(widths=(16,), dim=8), small_rows(cls.modality))

    def traced(self) -> Traced:
        return Traced(forward=self.forward, example=noise(3, self.config.features))

    @property
    def device(self) -> torch.device:
        return self._at.device  # type: ignore[return-value]  # there may be no weights to ask

    def is_one(self, items: Any) -> bool:
        """Numbers ``(F,)``."""
        return is_vector(items)

    def collate(self, items: Sequence[Any], role: str | None = None) -> Tensor:
        """Vectors ``(M, F)`` float32."""
        width = self.config.features
        out = np.empty((len(items), width), dtype=np.float32)
        for place, item in enumerate(items):
            out[place] = _numbers(item, width, place, len(items))
        if not np.isfinite(out).all():
            bad = int(np.flatnonzero(~np.isfinite(out).all(1))[0])
            raise ItemError(
                "Vector {place} of {of} holds NaN or infinite numbers. Leave it out or mend it.", bad, len(out)
            )
        return torch.from_numpy(out)

    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(M, D)``."""
        z: Tensor = self.layers(data)
        return z


def _numbers(item: Any, width: int, place: int, of: int) -> np.ndarray:
    try:
        found = np.asarray(item, dtype=np.float32)
    except (TypeError, ValueError) as error:
        given = type(item).__name__
        said = f"Vector {{place}} is no row of numbers but a {given}; this encoder reads ({width},)."
        raise ItemError(said, place, of) from error
    if found.shape != (width,):
        raise ItemError(f"Vector {{place}} has shape {found.shape}; this encoder reads ({width},).", place, of)
    return found
