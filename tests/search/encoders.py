"""An encoder small enough to compute by hand: it counts words of a fixed list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder


class Counts(Encoder):
    modality = "text"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.vocabulary = list(vocabulary)
        self.dim = len(vocabulary)
        self.weight = nn.Parameter(torch.ones(self.dim))

    def collate(self, items: Sequence[Any], role: str | None = None) -> Data:
        return torch.tensor([[float(text.split().count(w)) for w in self.vocabulary] for text in items])

    def forward(self, data: Data) -> Tensor:
        assert isinstance(data, Tensor)
        return data * self.weight
