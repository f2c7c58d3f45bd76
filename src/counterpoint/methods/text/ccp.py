"""CCP: sentences of many languages in one space, from documents in each of them and no translation.

Wu et al. 2022, "Unsupervised Context Aware Sentence Representation Pretraining for Multi-lingual Dense Retrieval",
IJCAI 2022, arXiv 2206.03281.

For whoever wants to search across languages and owns documents in each, but no pairs: a sentence must find one that
stands beside it in its document. Which sentences stand together is much the same in every language, so that the spaces
come out alike. A row is a document, its sentences one per line (or found by their full stops); `source` is its
language. A batch is of one language, and so is the queue that it is compared with: where languages are mixed, most
negatives are told by their language alone.

    z_c, z_i = unit(head(h_c, h_i)),   0 < |i - c| <= window
    L = -log( exp(scale z_c·z_i) / (exp(scale z_c·z_i) + Σ_{z in M_l} exp(scale z_c·z)) ),  plus the same with c and i
        swapped;   M_l: earlier z_i of the language, but for those of the same document

The head is linear, batch norm, linear; one role is normalised by its batch, the other by running statistics, in turn
(`AsymmetricHead`): otherwise batch statistics, which both carry, give the partner away. It is dropped after training.
What still sets languages apart in the embeddings is taken out by `counterpoint.encoders.calibrate`.

Published: XLM-R base, [CLS], 108 languages of CCNet. Temperature, window, size of the queues and of the batch are not
certain; taken are 0.05, 1 and 32,768. Only the retrieval stage of the original code was released.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Homogeneous, Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import AsymmetricHead
from counterpoint.encoders.residual import ResidualTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.pending import Pending
from counterpoint.memory.queue import GroupQueues
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import sourced
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Diagonal, NotSame, OnlyOwn
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import total
from counterpoint.train.config import TrainConfig
from counterpoint.views.text import neighbours, sentences


@dataclass(frozen=True, kw_only=True)
class Config:
    """sources: names of the languages (from the rows). window: places between a sentence and its context. queue:
    entries for each language. mixed: one queue for all languages. hidden, out: widths of the head. warmup, asymmetric:
    see `AsymmetricHead`. temperature: of the loss."""

    sources: tuple[str, ...] = ()
    window: int = 1
    temperature: float = 0.05
    queue: int = 32_768
    mixed: bool = False
    hidden: int = 768
    out: int = 256
    warmup: int = 30
    asymmetric: bool = True

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"window={self.window}: a neighbour is at least one place away; type window=1.")


@method(
    "ccp",
    title="CCP: contrastive context prediction in many languages",
    paper="arXiv 2206.03281",
    year=2022,
    modalities=("text",),
    needs=("texts",),
)
class CCP(Method):
    """A sentence finds one that stands beside it, among sentences of its own language."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        if not c.sources:
            raise DataError(
                "CCP needs to know each document's language: name the column that says it, --columns source=COLUMN "
                "(Config(sources=...)). Of one language, give a column that says the same in every row."
            )
        self.head = AsymmetricHead(encoder.dim, c.hidden, c.out, warmup=c.warmup, asymmetric=c.asymmetric)
        languages = 1 if c.mixed else len(c.sources)
        self.queues = GroupQueues(languages, c.queue, c.out, fields={"document": torch.long})
        self.scale = LogitScale(c.temperature)
        self._pending = Pending[Tensor]()

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        """Batches of one language, of documents with at least two sentences."""
        if not isinstance(rows, Rows):
            return None
        column = rows.column(str(rows.schema.columns["text"]))
        alone = np.fromiter((len(sentences(text.as_py())) < 2 for text in column), bool, len(rows))
        if alone.all():
            raise DataError(
                "No document has two sentences. A row holds a document: its sentences one per line, or with full stops."
            )
        if alone.any():
            warnings.warn(
                f"{alone.sum():,} of {len(rows):,} documents have one sentence only, which has no neighbour: left out.",
                stacklevel=2,
            )
        return Homogeneous(np.where(alone, -1, rows.sources()), config.batch, seed=config.seed)

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        if len(found := sorted(set(sourced(rows, "languages")))) > 1:
            names = [self.config.sources[s] for s in found]
            raise DataError(
                f"A batch holds documents in {' and '.join(names)}: sentences of another language are no negatives. "
                "Give rows whose order can be chosen (--no-streaming), or a sampler that keeps languages apart "
                "(counterpoint.data.sampler.Homogeneous)."
            )
        drawn = [(r, neighbours(sentences(r["text"]), rng, window=self.config.window)) for r in rows]
        pairs = [(r, pair) for r, pair in drawn if pair is not None]
        views = tuple(
            View(self.encoder.collate([pair[side] for _, pair in pairs]), self.encoder.modality, role)
            for side, role in enumerate(("anchor", "context"))
        )
        sources = torch.tensor([r["source"] for r, _ in pairs], dtype=torch.long)
        return Batch(views, torch.tensor([r["row"] for r, _ in pairs]), {"source": sources})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        a, b = self.head(*(self.embed(self.encoder, batch.one(role)) for role in ("anchor", "context")))
        a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
        queue = self.queues.of(self._group(batch))
        # The same document may have been here lately: its sentences are context, whatever the window.
        documents = torch.cat([batch.rows, queue.snapshot("document")])
        pairing = Diagonal() & OnlyOwn() & NotSame(batch.rows, documents)
        scale, bank = self.scale(), queue.snapshot()
        self._pending.put(batch, b.detach())
        self.observe(anchor=a, positive=b, scale=scale)
        return {
            "context": contrast(a, b, pairing, scale=scale, extra=bank, shared=True),
            "centre": contrast(b, a, pairing, scale=scale, extra=bank, shared=True),
        }

    def _group(self, batch: Batch) -> int:
        """Of the rows of all processes."""
        source = batch.labels["source"]
        found = int(total(source[0] if len(source) else source.new_tensor(0), "max"))
        return 0 if self.config.mixed else found

    def after_step(self, step: int) -> None:
        for batch, z in self._pending.take():
            self.queues.of(self._group(batch)).push(z, document=batch.rows)
        self.head.step()

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, heads=12, max_length=256, pooling="cls"),
                train=TrainConfig(batch=1024, steps=100_000, lr=1e-4, warmup=0.05, schedule="linear"),
            )
        small = size == "small"
        return Recipe(
            config=Config(
                queue=4_096 if small else 64,
                temperature=0.1,
                hidden=256 if small else 32,
                out=128 if small else 16,
                warmup=30 if small else 1,
            ),
            encoder=ResidualTextConfig(dim=256 if small else 32),
            train=TrainConfig(batch=64 if small else 8, epochs=20 if small else 1, lr=2e-3, weight_decay=0.0),
        )
