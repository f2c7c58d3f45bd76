"""Encoders small enough to compute by hand, for tests of methods and trainers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder


class Vectors(Encoder):
    """Items are vectors already; a linear map (the identity at first), with dropout where asked."""

    modality = "text"

    def __init__(self, dim: int, *, dropout: float = 0.0, modality: str = "text") -> None:
        super().__init__()
        self.dim, self.modality = dim, modality
        self.map = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.map.weight)
        self.dropout = nn.Dropout(dropout)

    def collate(self, items: Sequence[Any], role: str | None = None) -> Data:
        return torch.tensor([list(item) for item in items], dtype=torch.get_default_dtype()).reshape(-1, self.dim)

    def forward(self, data: Data) -> Tensor:
        assert isinstance(data, Tensor)
        return self.dropout(self.map(data))


class Words(Encoder):
    """Texts of numbers, ``"3 1 2"``; the embedding is the mean of the numbers' vectors."""

    modality = "text"

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.table = nn.Embedding(vocabulary + 1, dim, padding_idx=vocabulary)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[int(w) for w in text.split()] for text in texts]

    def collate_ids(self, ids: Sequence[Sequence[int]]) -> Data:
        longest = max(map(len, ids))
        pad = self.table.padding_idx
        return {"input_ids": torch.tensor([[*row, *[pad] * (longest - len(row))] for row in ids])}

    def collate(self, items: Sequence[str], role: str | None = None) -> Data:
        return self.collate_ids(self.ids(items))

    def forward(self, data: Data) -> Tensor:
        ids = data["input_ids"]  # type: ignore[index]
        real = (ids != self.table.padding_idx).sum(1, keepdim=True)
        return self.table(ids).sum(1) / real
