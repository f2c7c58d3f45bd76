"""Embed-Search-Align (DNA-ESA): an encoder of DNA in which a read lies near the stretch of the genome it comes from.

Holur et al. 2023, "Embed-Search-Align: DNA Sequence Alignment using Transformer Models", arXiv 2309.11087;
Bioinformatics 2025.

For whoever wants to place short reads on a long reference by nearest neighbours in a vector space, or to compare
encoders of sequences on a task whose truth is exact. Training needs bases and nothing else: a fragment of a row, and a
read drawn inside it, some reads with errors; the fragments of a batch choose their reads. Search and local alignment
come after training: `counterpoint index RUN ref.fa`, then `counterpoint align RUN reads.fq --out reads.sam`
(`counterpoint.search.align`).

    F_i = encoder(fragment_i),   r_j = encoder(read_j)
    L_i = -log( exp(cos(F_i, r_i) / τ) / Σ_j exp(cos(F_i, r_j) / τ) )

``both`` lets the reads choose their fragments as well. Rows of a FASTA file never overlap, and a batch holds a row
once, so no read of a batch lies in another's fragment (but for repeats of the genome).

Published (size ``published``): fragments of 800 to 2,000 bases, reads of 150 to 500, of which 40 % have 1 to 4 %
substitutions; 10,000 pieces learned from DNA; 6 layers, 384 wide, 12 heads, dropout 0.1, fixed positions, mean over all
tokens; τ 0.05; Adam 1e-4, weight decay 0.01, one cycle of a cosine; batch 16, gradients of 16 batches, 100,000 to
200,000 steps. Here: layers are normalised after, not before, the residual sum (the library's transformer); the 256 rows
of a step are one batch, so that each fragment has 255 negatives instead of 15; weight decay is decoupled.

Sizes ``small`` and ``smoke``: the encoder is the mean of learned embeddings of overlapping 6-mers that both strands
share (`KmerBag`), reads have more errors (0 to 20 %), fragments are shorter. In minutes on two cores it gets further
than a transformer does in that time; the regime was chosen on seeds from 10 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.dna import DnaTransformerConfig
from counterpoint.encoders.kmers import KmerBagConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.scale import LogitScale
from counterpoint.train.config import TrainConfig
from counterpoint.views.dna import fragment_and_read, indels, substitute


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: τ. both: reads choose fragments too. fragment, read: least length and the one not reached any more,
    in bases. noisy: share of reads with errors. substitutions: least and largest rate of substitutions of these.
    indels: their rate of insertions and deletions."""

    temperature: float = 0.05
    both: bool = False
    fragment: tuple[int, int] = (800, 2000)
    read: tuple[int, int] = (150, 500)
    noisy: float = 0.4
    substitutions: tuple[float, float] = (0.01, 0.04)
    indels: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.noisy <= 1 or not 0 <= self.substitutions[0] <= self.substitutions[1] <= 1:
            raise ConfigError(
                f"noisy={self.noisy}, substitutions={self.substitutions}: expected shares from 0 to 1, the least "
                "before the largest."
            )
        if self.read[0] > self.fragment[0]:
            raise ConfigError(
                f"read={self.read}, fragment={self.fragment}: the shortest fragment is shorter than the shortest read, "
                "which is to lie inside it."
            )


@method(
    "dna-esa",
    title="Embed-Search-Align: reads near their place in the genome",
    paper="arXiv 2309.11087",
    year=2023,
    modalities=("dna",),
    needs=("items",),
    usual=("items",),
)
class DnaEsa(Method):
    """Fragments of a genome choose the reads that were drawn inside them."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        self.scale = LogitScale(self.config.temperature)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """anchor: the fragments. positive: the reads."""
        c, collate, stream = self.config, self.encoder.collate, self.encoder.modality
        pairs = [fragment_and_read(r["dna"], rng, fragment=c.fragment, read=c.read) for r in rows]
        reads = [self.corrupted(read, rng) for _, read in pairs]
        views = (
            View(collate([fragment for fragment, _ in pairs]), stream, "anchor"),
            View(collate(reads), stream, "positive"),
        )
        return Batch(views, torch.tensor([r["row"] for r in rows]))

    def corrupted(self, read: str, rng: np.random.Generator) -> str:
        """A read as a sequencer would give it, with probability ``noisy``; else as it is. rng: of all draws."""
        c = self.config
        if rng.random() >= c.noisy:
            return read
        return indels(substitute(read, rng, rate=rng.uniform(*c.substitutions)), rng, rate=c.indels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        fragment, read = (
            F.normalize(self.embed(self.encoder, batch.one(role)), dim=-1) for role in ("anchor", "positive")
        )
        scale = self.scale()
        self.observe(anchor=fragment, positive=read, scale=scale)
        return {"fragments choose reads": contrast(fragment, read, Diagonal(), scale=scale, both=self.config.both)}

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """On two cores a step of ``small`` takes a tenth of a second."""
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=DnaTransformerConfig(),
                train=TrainConfig(batch=256, steps=100_000, lr=1e-4, warmup=0.3),
            )
        config = Config(fragment=(300, 700), read=(60, 250), noisy=1.0, substitutions=(0.0, 0.2), indels=0.005)
        train = TrainConfig(batch=256, steps=400, lr=0.01, weight_decay=0.0)
        if size == "smoke":
            return Recipe(
                config=replace(config, read=(30, 60), fragment=(60, 120)),
                encoder=KmerBagConfig(dim=32, k=4),
                train=replace(train, batch=32, steps=5),
            )
        return Recipe(config=config, encoder=KmerBagConfig(dim=256), train=train)
