"""DefSent+: definitions are classified into the space that definitions span.

DefSent+ 2024, "Improving sentence embeddings of language models by projecting definition sentences into a
quasi-isotropic or isotropic vector space of unlimited dictionary entries", arXiv 2405.16153; after DefSent (ACL 2021).

For whoever owns a glossary, a dictionary, a catalogue (an entry, and one or more texts that say what it is) and wants a
better encoder of sentences, without pairs that somebody has judged. Every entry has a fixed target, the mean of its
definitions as the encoder saw them before; a definition must find the target of its entry among those of all.

    E_e = 1/m Σ_{d of e} f(d),    h_d = tanh(W f(d) + b),    L = -log( exp(scale h_d·E_e) / Σ_e' exp(scale h_d·E_e') )

Progressive separate training: with the encoder of one round E is made anew, and the next round starts again from the
*original* weights, not from those of the round before. In the last round E can be made isotropic: standardised, turned
into independent components, times 100 (of variance 1 alone the logits would be flat).

The encoder is kept without the dense layer. Published models read a sentence's embedding at the mask token of a prompt
(``after=prompt``), whatever they were trained with; a long sentence is cut, never the prompt.

An entry may be several words long, and entries repeat, one row per definition. A definition that stands under two
entries has no one answer: it counts for the mean of both, and is not learned from.

Published: raw BERT, three rounds of one epoch, the last one isotropic; one or two rounds and no components for models
that were contrasted before. Batch 32, AdamW (eps 1e-6), linear decay without warm-up, dropout on, rates from 1e-6 to
2e-5; no scale. The dense layer there is that of BERT's next-sentence head, or of RoBERTa's word prediction (with GELU);
encoders here keep neither, so it starts as the identity.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.glossary import Glossary
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.centroids import centroids, group_means
from counterpoint.encoders.heads import dense_pooler
from counterpoint.encoders.pooled import check_pooled, pooled
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.subwords import TEMPLATE
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.encoders.transforms import independent
from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import number
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Labels
from counterpoint.processes import gathered, rank, sizes, starts, world
from counterpoint.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """rounds: of progressive separate training; steps and epochs of the run count all of them. isotropic: independent
    components as the targets of the last round. iterations: they are looked for in, at most. scale: of the logits;
    larger where embeddings are short, as the logits of targets that are all alike are flat. targets: ``definitions``,
    or ``random`` ones of the same lengths, which is what shows whether the meaning of targets matters. pooler: the
    dense layer, while training, on top of a definition's embedding: ``tanh``, ``gelu`` or ``none``.

    pooling: of a transformer's tokens while training ('': the encoder's): cls, mean, ..., or ``prompt``, the state at
    the mask token of ``template``. after: pooling of the encoder that is kept ('': as while training). seed: of random
    targets and of the components.
    """

    rounds: int = 3
    isotropic: bool = True
    iterations: int = 1_000
    scale: float = 1.0
    targets: str = "definitions"
    pooler: Literal["tanh", "gelu", "none"] = "tanh"
    pooling: str = ""
    after: str = ""
    template: str = TEMPLATE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.iterations < 1 or not self.scale > 0:
            raise ConfigError(
                f"rounds={self.rounds}, iterations={self.iterations}, scale={self.scale}: 1 or more, and above 0."
            )
        for name, known in (("targets", ("definitions", "random")), ("pooler", ("tanh", "gelu", "none"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}: type {', '.join(known[:-1])} or {known[-1]}.")
        check_pooled(self.pooling, self.after, template=self.template)


@method(
    "defsent-plus",
    title="DefSent+: definitions classified into a fixed space of entries",
    paper="arXiv 2405.16153",
    year=2024,
    modalities=("text",),
    needs=("pairs",),
)
class DefSentPlus(Method):
    """A definition (the positive of a pair) finds the frozen target of its entry (the anchor) among all entries."""

    Config = Config
    targets: Tensor

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        c = config or Config()
        encoder = pooled(encoder, c.pooling, template=c.template)
        pooled(encoder, c.after, template=c.template)  # what cannot be is said before the training
        super().__init__(encoder, c)
        self.rounds = c.rounds
        encoder.normalize = True
        self.pooler = dense_pooler(encoder.dim, c.pooler)
        # What every round starts from; where there is one round only, nothing has to be kept.
        self.original = Teacher(nn.Sequential(encoder, self.pooler), momentum=1.0) if self.rounds > 1 else None
        self.glossary: Glossary | None = None
        self.register_buffer("targets", torch.zeros(0, encoder.dim))

    def towers(self) -> Mapping[str, Encoder]:
        """The encoder, which afterwards may pool otherwise than while it was trained."""
        return {self.encoder.modality: pooled(self.encoder, self.config.after, template=self.config.template)}

    def read(self, rows: Iterable[Row]) -> Glossary:
        """Take in the whole glossary, before the training: its entries are what a definition is classified into.

        rows: of pairs."""
        found = self.glossary = Glossary.whole(rows)
        if self.config.isotropic and found.size <= self.encoder.dim:
            raise DataError(
                f"{found.size:,} entries cannot be made isotropic in {self.encoder.dim} dimensions. Give more entries, "
                "a narrower encoder, or leave the components out: --set isotropic=false."
            )
        self.targets = self.targets.new_zeros(found.size, self.encoder.dim)
        return found

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        if isinstance(rows, Stream):
            raise ConfigError("defsent-plus classifies into all entries, not those of a stream. Add --no-streaming.")
        self.read(rows)
        # Entries may repeat within a batch, as its rows are not compared with one another.
        return LengthBucketed(rows.lengths(), config.batch, seed=config.seed) if isinstance(rows, Rows) else None

    def before_round(self, number: int) -> None:
        if self.glossary is not None:
            self.targets.copy_(self.made(self.glossary, number))
        elif number == 0:
            warnings.warn(
                "No glossary was read, so each batch is classified into its own entries only. Call `read(rows)` with "
                "all rows before the training, or `sampler(rows, config)`, which does it.",
                stacklevel=2,
            )
        if number and self.original is not None:
            self.original.restore(nn.Sequential(self.encoder, self.pooler))

    def made(self, glossary: Glossary, number: int) -> Tensor:
        """The targets ``(entries, D)`` of a round, from the encoder as it is.

        glossary: all entries. number: of the round, from 0."""
        c, found = self.config, centroids(self.encoder, glossary.definitions, glossary.owners, glossary.size)
        if c.targets == "random":  # directions without meaning, as long as the averages are
            draw = torch.randn(found.shape, generator=torch.Generator().manual_seed(c.seed))
            return F.normalize(draw, dim=1) * found.norm(dim=1, keepdim=True)
        if c.isotropic and number == self.rounds - 1:
            return torch.from_numpy(100 * independent(found.numpy(), seed=c.seed, iterations=c.iterations))
        return found

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        definitions = [r["positive"] for r in rows]
        view = View(self.encoder.collate(definitions), self.encoder.modality)
        # Where no glossary was read the rows are all there is, of all processes: their texts say what is the same.
        said = [[number(definition), number(r["anchor"])] for definition, r in zip(definitions, rows)]
        labels = {"said": torch.tensor(said, dtype=torch.long).view(-1, 2)}
        if self.glossary is not None:
            labels = {"entry": torch.tensor([self.glossary.entry(d) for d in definitions], dtype=torch.long)}
        return Batch((view,), torch.tensor([r["row"] for r in rows]), labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        h = self.pooler(self.embed(self.encoder, batch.one("anchor")))
        own = slice(rank(), None, world())  # processes share the entries among them
        entry, targets = (batch.labels["entry"], self.targets) if self.glossary else self._of_batch(batch)
        numbers = torch.arange(len(targets), device=h.device)
        with torch.no_grad():
            positive = F.normalize(targets[entry.clamp_min(0)].float(), dim=-1)
        self.observe(anchor=F.normalize(h, dim=-1), positive=positive)
        pairing = Labels(entry, candidates=numbers[own])
        return {"entries": contrast(h, targets[own].to(h), pairing, scale=self.config.scale)}

    def _of_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Entries ``(N,)`` and targets ``(entries, D)`` from the definitions of a batch by themselves, over all
        processes, where no glossary was read."""
        with torch.no_grad(), self.encoder.evaluating(gradients=True):
            z = self.encoder(batch.one("anchor").data)
        said = batch.labels["said"]
        counts = sizes(len(said), said.device)
        entries, first = entries_of(gathered(said, counts)), starts(counts)[rank()]
        entry = entries[first : first + len(said)]
        return entry, group_means(z, entry, groups=max(int(entries.max()), 0) + 1)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            encoder = TextTransformerConfig(layers=12, width=768, heads=12, max_length=150, pooling="cls")
            train = TrainConfig(batch=32, epochs=3, lr=5e-6, eps=1e-6, weight_decay=0.0, warmup=0.0, schedule="linear")
            return Recipe(config=Config(), encoder=encoder, train=train)
        small = size == "small"
        return Recipe(
            config=Config(rounds=1 if small else 2, isotropic=False, scale=10.0),  # as static embeddings are short
            encoder=StaticTextConfig(dim=256 if small else 32),
            train=TrainConfig(batch=64 if small else 16, epochs=3 if small else 2, lr=1e-3, weight_decay=0.0),
        )


def entries_of(said: Tensor) -> Tensor:
    """The entry ``(N,)`` of each definition, numbered as they come; -1: of several. said: ``(N, 2)`` long, numbers for
    what definition and entry say."""
    pairs = list(map(tuple, said.tolist()))
    numbers = {entry: i for i, entry in enumerate(dict.fromkeys(entry for _, entry in pairs))}
    times = Counter(definition for definition, _ in dict.fromkeys(pairs))
    found = [numbers[entry] if times[definition] == 1 else -1 for definition, entry in pairs]
    return torch.tensor(found, dtype=torch.long, device=said.device)
