"""What every encoder answers to, and the one bulk-encoding loop all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data, move


class Encoder(nn.Module, ABC):
    """From views of one modality to embeddings.

    modality: text, image, ... ``dim``: width D of an embedding. ``prompts``: role -> text put before the item
    (text encoders only). ``normalize``: whether `encode` returns unit vectors by default.
    """

    modality: ClassVar[str]
    dim: int
    normalize: bool = True

    @abstractmethod
    def collate(self, items: Sequence[Any], role: str | None = None) -> Data:
        """Raw items (strings, images) to what `forward` eats, on the CPU; pure, so it may run in a thread."""

    @abstractmethod
    def forward(self, data: Data) -> Tensor:
        """Embeddings ``(N, D)``, not normalised."""

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Token, patch or node embeddings ``(N, T, D)`` and their mask ``(N, T)`` bool (True = real)."""
        raise NotImplementedError(f"{type(self).__name__} gives one embedding per item, none per token.")

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Cost of each item, ``(N,)`` int, used to put items of like length together."""
        return np.ones(len(items), dtype=np.int64)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.inference_mode()
    def encode(
        self,
        items: Sequence[Any],
        *,
        role: str | None = None,
        budget: int = 16_384,
        normalize: bool | None = None,
        precision: str = "float32",
    ) -> np.ndarray:
        """Embeddings ``(N, D)`` float32 in the order given; the same item gives the same vector in any company.

        role: which prompt to use (``query``, ``document``; None: no prompt). budget: padded length units (tokens,
        for text) per forward pass. normalize: unit length (None: the encoder's own default). precision: ``float32``
        or ``bfloat16`` (autocast).
        """
        was_training = self.training
        self.eval()
        out = np.empty((len(items), self.dim), dtype=np.float32)
        unit = self.normalize if normalize is None else normalize
        try:
            for index in buckets(self.lengths(items), budget):
                data = move(self.collate([items[i] for i in index], role), self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    z = self(data)
                z = z.float()
                out[index] = (nn.functional.normalize(z, dim=-1) if unit else z).cpu().numpy()
        finally:
            self.train(was_training)
        return out


def buckets(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Index arrays of items of like length, longest first, each at most ``budget`` padded units (or one item)."""
    order = np.argsort(-lengths, kind="stable")
    out: list[np.ndarray] = []
    start = 0
    while start < len(order):
        n = max(1, budget // max(1, int(lengths[order[start]])))
        out.append(order[start : start + n])
        start += n
    return out
