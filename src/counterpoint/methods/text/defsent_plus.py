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

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, Sampler
from counterpoint.data.schema import Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.pooling import check
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.subwords import TEMPLATE, check_template
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.encoders.transforms import independent
from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.methods.batches import number
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Labels
from counterpoint.processes import gathered, rank, sizes, starts, total, world
from counterpoint.train.config import TrainConfig

SHARP = 100.0
"""What independent components are multiplied with."""
PART = 10_000
"""Definitions encoded before they are added to the targets of their entries."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """rounds: of progressive separate training; steps and epochs of the run count all of them. isotropic: independent
    components as the targets of the last round. iterations: they are looked for in, at most. scale: of the logits;
    larger where embeddings are short, as the logits of targets that are all alike are flat. targets: ``definitions``,
    or ``random`` ones of the same lengths, which is what shows whether the meaning of targets matters. pooler: the
    dense layer, while training, on top of a definition's embedding: ``tanh``, ``gelu`` or ``none``.

    pooling: of a transformer's tokens while training ('': the encoder's): cls, mean, ..., or ``prompt``, the state at
    the mask token of ``template``. after: pooling of the encoder that is kept ('': as while training).
    """

    rounds: int = 3
    isotropic: bool = True
    iterations: int = 1_000
    scale: float = 1.0
    targets: str = "definitions"
    pooler: str = "tanh"
    pooling: str = ""
    after: str = ""
    template: str = TEMPLATE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds={self.rounds}: there is at least one.")
        if self.iterations < 1:
            raise ConfigError(f"iterations={self.iterations}: there is at least one.")
        if not self.scale > 0:
            raise ConfigError(f"scale={self.scale}: give a number above 0.")
        if self.targets not in ("definitions", "random"):
            raise ConfigError(f"targets={self.targets!r}: type definitions or random.")
        if self.pooler not in ("tanh", "gelu", "none"):
            raise ConfigError(f"pooler={self.pooler!r}: type tanh, gelu or none.")
        for pooling in filter(None, (self.pooling, self.after)):
            check(pooling, also=("prompt",))
        check_template(self.template)


class Glossary:
    """Entries with their definitions, as rows give them.

    definitions: the distinct ones. owners: ``(P, 2)`` pairs of a definition and an entry, each once. size: of the
    entries. repeated: definitions that stand under several entries.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        entries: dict[str, int] = {}
        definitions: dict[str, int] = {}
        owners: dict[tuple[int, int], None] = {}
        for row in rows:
            entry = entries.setdefault(row["anchor"].strip(), len(entries))
            definition = definitions.setdefault(row["positive"].strip(), len(definitions))
            owners[definition, entry] = None
        self.definitions, self.size = list(definitions), len(entries)
        self.owners = np.array(list(owners), dtype=np.int64).reshape(-1, 2)
        times = Counter(definition for definition, _ in owners)
        self.repeated = sum(n > 1 for n in times.values())
        self._entry = {d: -1 if times[i] > 1 else -2 for d, i in definitions.items()}
        for definition, entry in owners:
            text = self.definitions[definition]
            self._entry[text] = entry if self._entry[text] == -2 else -1

    def entry(self, definition: str) -> int:
        """The number of the entry that a definition is of; -1 where it is of several."""
        return self._entry[definition.strip()]


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
        c: Config = config or Config()
        if c.pooling:
            encoder = _pooled(encoder, c.pooling, c.template)
        if c.after:
            _pooled(encoder, c.after, c.template)  # what cannot be is said before the training
        super().__init__(encoder, c)
        self.rounds = self.config.rounds
        encoder.normalize = True
        self.pooler = nn.Sequential()
        if self.config.pooler != "none":
            dense = nn.Linear(encoder.dim, encoder.dim)
            nn.init.eye_(dense.weight)
            nn.init.zeros_(dense.bias)
            self.pooler = nn.Sequential(dense, nn.Tanh() if self.config.pooler == "tanh" else nn.GELU())
        # What every round starts from; where there is one round only, nothing has to be kept.
        self.original = Teacher(nn.Sequential(encoder, self.pooler), momentum=1.0) if self.rounds > 1 else None
        self.glossary: Glossary | None = None
        self.register_buffer("targets", torch.zeros(0, encoder.dim))

    def towers(self) -> Mapping[str, Encoder]:
        """The encoder, which afterwards may pool otherwise than while it was trained."""
        after, template = self.config.after, self.config.template
        return {self.encoder.modality: _pooled(self.encoder, after, template) if after else self.encoder}

    # --- the glossary ------------------------------------------------------------------------------------------

    def read(self, rows: Iterable[Row]) -> Glossary:
        """Take in the whole glossary, before the training: its entries are what a definition is classified into."""
        found = self.glossary = Glossary(rows)
        if found.size < 2:
            raise DataError(f"The glossary has {found.size} entry; there is nothing to tell apart with fewer than two.")
        if self.config.isotropic and found.size <= self.encoder.dim:
            raise DataError(
                f"{found.size:,} entries cannot be made isotropic in {self.encoder.dim} dimensions. Give more entries, "
                "a narrower encoder, or leave the components out: --set isotropic=false."
            )
        if found.repeated:
            warnings.warn(
                f"{found.repeated:,} of {len(found.definitions):,} definitions stand under several entries. They count "
                "for the targets of all of them, but are not learned from, as they have no one answer.",
                stacklevel=2,
            )
        self.targets = self.targets.new_zeros(found.size, self.encoder.dim)
        return found

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        if isinstance(rows, Stream):
            raise ConfigError(
                "defsent-plus classifies into all entries, which a stream does not give at once. Add --no-streaming."
            )
        self.read(rows)
        # Entries may repeat within a batch, as its rows are not compared with one another.
        return LengthBucketed(rows.lengths(), config.batch, seed=config.seed) if isinstance(rows, Rows) else None

    def before_round(self, number: int) -> None:
        if self.glossary is not None:
            if any(isinstance(p, DTensor) for p in self.encoder.parameters()):
                raise ConfigError("DefSent+ encodes every definition between rounds, whole: add --parallel ddp.")
            self.targets.copy_(self.made(self.glossary, number))
        elif number == 0:
            warnings.warn(
                "No glossary was read, so each batch is classified into its own entries only. Call `read(rows)` with "
                "all rows before the training, or take the batches from `sampler(rows, config)`.",
                stacklevel=2,
            )
        if number and self.original is not None:
            now, first = nn.Sequential(self.encoder, self.pooler), self.original.model
            for mine, its in zip((*now.parameters(), *now.buffers()), (*first.parameters(), *first.buffers())):
                _restore(mine.detach(), its.detach())

    def made(self, glossary: Glossary, number: int) -> Tensor:
        """The targets ``(entries, D)`` of a round, from the encoder as it is."""
        found = self.averages(glossary)
        if self.config.targets == "random":  # directions without meaning, as long as the averages are
            draw = torch.randn(found.shape, generator=torch.Generator().manual_seed(self.config.seed))
            return F.normalize(draw, dim=1) * found.norm(dim=1, keepdim=True)
        if self.config.isotropic and number == self.rounds - 1:
            return torch.from_numpy(
                SHARP * independent(found.numpy(), seed=self.config.seed, iterations=self.config.iterations)
            )
        return found

    def averages(self, glossary: Glossary) -> Tensor:
        """``(entries, D)`` the mean embedding of each entry's definitions, by the encoder as it is, without dropout.

        Every process encodes its share.
        """
        sums, owners = torch.zeros(glossary.size, self.encoder.dim), glossary.owners
        count = torch.from_numpy(np.bincount(owners[:, 1], minlength=glossary.size))
        for start in range(rank() * PART, len(owners), world() * PART):
            part = owners[start : start + PART]
            z = self.encoder.encode([glossary.definitions[d] for d in part[:, 0]], normalize=False)
            sums.index_add_(0, torch.from_numpy(part[:, 1]), torch.from_numpy(z))
        return total(sums.to(self.encoder.device)).cpu() / count[:, None]

    # --- a step ------------------------------------------------------------------------------------------------

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
        member = F.one_hot(entry.clamp_min(0), max(int(entries.max()), 0) + 1).to(z) * (entry >= 0)[:, None]
        return entry, total(member.T @ z) / total(member.sum(0))[:, None].clamp_min(1)

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(layers=12, width=768, heads=12, max_length=150, pooling="cls"),
                train=TrainConfig(
                    batch=32, epochs=3, lr=5e-6, eps=1e-6, weight_decay=0.0, warmup=0.0, schedule="linear"
                ),
            )
        small = size == "small"
        return Recipe(
            config=Config(rounds=1 if small else 2, isotropic=False, scale=SCALE),
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


SCALE = 10.0
"""Of the logits of static encoders, whose embeddings are short."""


def _pooled(encoder: Encoder, pooling: str, template: str) -> Encoder:
    """An encoder of the same weights with another pooling."""
    if not isinstance(encoder, TextTransformer):
        raise ConfigError(
            f"pooling={pooling} is about the tokens of a transformer, and a {type(encoder).__name__} is none. Add "
            "--encoder transformer, or name a model folder or hub id; or leave it out."
        )
    return encoder.pooled_by(pooling, template=template)


def _restore(mine: Tensor, its: Tensor) -> None:
    """Set a weight to what it was, as far as this process holds it."""
    if isinstance(mine, DTensor):
        if not isinstance(its, DTensor):
            its = distribute_tensor(its, mine.device_mesh, mine.placements, src_data_rank=None)
        mine, its = mine.to_local(), its.to_local()
    mine.copy_(its)
