"""The k-mers of DNA, the words of k neighbouring bases, and an encoder that is the mean of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, seeded
from counterpoint.encoders.pooling import pool
from counterpoint.errors import ConfigError, DataError, ItemError
from counterpoint.modalities.dna import clean, strandless, words

EXAMPLES = ("ACGTTGCAACTTGACCATTG" * 4, "GATTACA", "TTTTCCNCAAGG")
"""Sequences that ONNX files are checked with."""


def check(sequences: Sequence[Any]) -> None:
    """Sequences are strings: `ItemError` otherwise, with the place and the type.

    sequences: whatever was given.
    """
    for place, sequence in enumerate(sequences):
        if not isinstance(sequence, str):
            said = f"Sequence {{place}} is of the type {type(sequence).__name__}, where a string is expected."
            raise ItemError(said, place, len(sequences))


def cleaned(sequences: Sequence[Any]) -> list[str]:
    """Each sequence as `counterpoint.modalities.dna.clean` gives it. `ItemError` names the place of what is no DNA.

    sequences: strings.
    """
    check(sequences)
    out = []
    for place, sequence in enumerate(sequences):
        try:
            out.append(clean(sequence))
        except (DataError, UnicodeEncodeError) as error:
            said = str(error) if isinstance(error, DataError) else "A sequence holds half of a surrogate pair."
            raise ItemError(f"{said} (Item {{place}} of {{of}}.)", place, len(sequences)) from error
    return out


@dataclass(frozen=True, kw_only=True)
class KmerBagConfig:
    """dim: width. k: bases of a word. both_strands: a word and its reverse complement share an embedding, so that a
    sequence and its reverse complement have the same. max_length: bases that are read."""

    dim: int = 128
    k: int = 6
    both_strands: bool = True
    max_length: int = 8_192

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 10 or self.dim < 1 or self.max_length < self.k:
            raise ConfigError(
                f"k={self.k}, dim={self.dim}, max_length={self.max_length}: expected k from 1 to 10, a dim of at least "
                "1, and a max_length of at least k."
            )


class KmerBag(Encoder):
    """``z = 1/M · Σ_m e(w_m)`` over the M overlapping k-mers of a sequence. A sequence without any gives zeros.

    >>> encoder = KmerBag(KmerBagConfig(dim=8, k=3))
    >>> z = encoder.encode(["ACGTTGCA", "TGCAACGT"])  # one is the other's reverse complement
    >>> z.shape, bool(np.allclose(z[0], z[1], atol=1e-6))
    ((2, 8), True)
    """

    kind: ClassVar[str] = "kmer-bag"
    modality: ClassVar[str] = "dna"
    choices: ClassVar[tuple[str, ...]] = ("static",)
    standard: ClassVar[bool] = True
    config: KmerBagConfig

    def __init__(self, config: KmerBagConfig) -> None:
        super().__init__()
        self.config, self.dim = config, config.dim
        size = strandless(config.k)[1] if config.both_strands else 4**config.k
        self.table = nn.Parameter(torch.randn(size, config.dim) / config.dim**0.5)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls(KmerBagConfig(dim=16, k=3))

    def traced(self) -> Traced:
        def forward(words: Tensor) -> Tensor:
            return pool(*self.tokens({"words": words}))

        free = {0: "batch", 1: "length"}
        return Traced(forward=forward, example=self.collate(EXAMPLES), names=("words",), free=free)

    @property
    def strandless(self) -> bool:
        """Whether a sequence and its reverse complement have the same embedding."""
        return self.config.both_strands

    def collate(self, items: Sequence[Any], role: str | None = None) -> dict[str, Tensor]:
        """``words`` ``(N, T)`` long, -1 behind the last one of a sequence."""
        c = self.config
        found = [words(s[: c.max_length], c.k, both_strands=c.both_strands) for s in cleaned(items)]
        out = np.full((len(found), max((len(f) for f in found), default=0)), -1, dtype=np.int64)
        for row, f in zip(out, found):
            row[: len(f)] = f
        return {"words": torch.from_numpy(out)}

    def check(self, items: Sequence[Any]) -> None:
        check(items)

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Bases of each sequence, ``(N,)`` int."""
        return np.clip(np.fromiter(map(len, items), np.int64, len(items)), 1, self.config.max_length)

    def forward(self, data: Data) -> Tensor:
        assert not isinstance(data, Tensor)
        ids = data["words"]
        real = ids >= 0
        offsets = F.pad(real.sum(1).cumsum(0), (1, 0))
        return F.embedding_bag(ids[real], self.table, offsets, mode="mean", include_last_offset=True)

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Embeddings of the words; their mean is that of the sequence.

        data: as `collate` gives it.
        """
        assert not isinstance(data, Tensor)
        real = data["words"] >= 0
        return F.embedding(data["words"].clamp(min=0), self.table) * real.unsqueeze(-1), real
