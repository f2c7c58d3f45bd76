"""An encoder around another one, which it asks for everything that it does not do itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder


class Around(Encoder):
    """Modality, prompts, unit length, collation and costs are those of ``encoder``, the one inside."""

    encoder: Encoder

    def _surround(self, encoder: Encoder) -> None:
        """To be called once, after ``super().__init__()``."""
        self.encoder, self.fill = encoder, dict(encoder.fill)

    @property
    def modality(self) -> str:  # type: ignore[override]
        return self.encoder.modality

    @property
    def normalize(self) -> bool:  # type: ignore[override]
        return self.encoder.normalize

    @normalize.setter
    def normalize(self, value: bool) -> None:
        self.encoder.normalize = value

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        return self.encoder.prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self.encoder.prompts = value

    @property
    def default_prompt(self) -> str | None:  # type: ignore[override]
        return self.encoder.default_prompt

    @default_prompt.setter
    def default_prompt(self, value: str | None) -> None:
        self.encoder.default_prompt = value

    @property
    def similarity(self) -> str:  # type: ignore[override]
        return self.encoder.similarity

    @similarity.setter
    def similarity(self, value: str) -> None:
        self.encoder.similarity = value

    def is_one(self, items: Any) -> bool:
        return self.encoder.is_one(items)

    def listed(self, items: Any) -> Sequence[Any]:
        return self.encoder.listed(items)

    def check(self, items: Sequence[Any]) -> None:
        self.encoder.check(items)

    def collate(self, items: Sequence[Any], role: str | None = None) -> Data:
        return self.encoder.collate(items, role)

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        return self.encoder.lengths(items)

    def _batches(self, items: Sequence[Any], role: str | None, budget: int) -> Iterator[tuple[np.ndarray, Data]]:
        return self.encoder._batches(items, role, budget)
