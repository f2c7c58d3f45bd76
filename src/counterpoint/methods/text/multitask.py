"""Sources of several kinds in one run: pairs, scored pairs, texts and labelled texts train one encoder, each by its own
objective.

Reimers & Gurevych 2019, "Sentence-BERT", arXiv 1908.10084, trained on one kind of rows after another; training on data
sets in turn, each batch from one, goes back to Collobert & Weston 2008, "A unified architecture for natural language
processing".

For whoever has a file of questions and answers, one of judged pairs and a pile of plain texts, and wants one encoder
out of all of them. Every batch is of one source, and its loss is that of an existing method, computed with the encoder
that all share; what else a method has (a head, a queue, a scale) belongs to the sources that have its loss.

    L = weight_s · L_{method(s)}(batch),   s the source of the batch, drawn with p_s ∝ n_s^mix

Settings in common use: p ∝ size^0.5 for sources of very unlike sizes, 1 for each row once per epoch; pairs by in-batch
ranking, scored pairs by their order (CoSENT), texts by dropout (SimCSE), labelled texts by supervised contrast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Batch
from counterpoint.data.schema import Row, Schema
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.base import Method, Recipe, find, method
from counterpoint.processes import total, world
from counterpoint.train.config import TrainConfig

USUAL = {"pairs": "in-batch", "scored": "graded", "texts": "simcse", "labelled": "supcon"}
"""The method whose loss rows of a kind have, where none is named."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """objectives: name of a source, or kind of rows -> the method whose loss they have. weights: likewise -> what that
    loss is multiplied by (1). settings: METHOD.SETTING -> its value, for example {"in-batch.temperature": 0.02}. size:
    whose recipe gives the other settings. parts: name of each source -> what its rows hold; `fit` knows it."""

    objectives: dict[str, str] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    size: str = "published"
    parts: Mapping[str, Schema] = field(default_factory=dict)


@method(
    "multitask",
    title="Several sources, each batch of one of them and by an objective of its own",
    paper="arXiv 1908.10084",
    year=2019,
    modalities=("text",),
    needs=("mixed",),
    usual=("mixed",),
)
class Multitask(Method):
    """The loss of a batch is that of the method named for its source, with the one encoder."""

    Config = Config

    def __init__(self, encoder: Encoder, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        if not c.parts:
            raise ConfigError("parts={}: give what each source holds, by its name, as `Mixed(...).schema` has it.")
        kinds = {part.kind for part in c.parts.values()}
        for setting, named in (("objectives", c.objectives), ("weights", c.weights)):
            if unknown := sorted(set(named) - {*c.parts, *kinds, *USUAL}):
                raise ConfigError(
                    f"{setting} names {unknown[0]!r}, which is no source ({', '.join(c.parts)}) and no kind "
                    f"({', '.join(sorted(kinds))})."
                )
        self.names = tuple(c.parts)
        chosen = {name: c.objectives.get(name) or objective(part.kind, c) for name, part in c.parts.items()}
        self.weights = [c.weights.get(name, c.weights.get(part.kind, 1.0)) for name, part in c.parts.items()]
        if unknown := sorted({key.split(".")[0] for key in c.settings} - set(chosen.values())):
            raise ConfigError(f"settings names the method {unknown[0]!r}; used are {', '.join(chosen.values())}.")
        # Sources that have a method in common share its head and memory, unless their classes differ.
        made: dict[tuple[str, tuple[str, ...]], int] = {}
        inner: list[Method] = []
        self.of: list[int] = []
        for name, part in c.parts.items():
            key = (readable(chosen[name], part.kind), part.labels)
            if key not in made:
                made[key] = len(inner)
                inner.append(borrowing(encoder, chosen[name], part, c))
            self.of.append(made[key])
        # No list: the elements of lists are taken for layers, and sharded one by one.
        self.inner = nn.ModuleDict({str(i): one for i, one in enumerate(inner)})

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        sources = sorted({int(r["source"]) for r in rows})
        if not rows and world() > 1:  # the others know which source the batch is of
            nothing = torch.zeros(0, dtype=torch.long)
            return Batch((), nothing, {"source": nothing})
        if len(sources) != 1:
            held = ", ".join(self.names[s] for s in sources) or "no rows"
            raise DataError(
                f"A batch holds rows of one source; this one has {held}. Make batches with "
                "`counterpoint.data.mixture.Mixture`."
            )
        batch = self._inner(sources[0]).views(rows, rng)
        labels = {**batch.labels, "source": torch.full((len(batch),), sources[0])}
        return dataclasses.replace(batch, labels=labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        source = self._source(batch)
        inner = self._inner(source)
        if not len(batch):
            batch = inner.views((), np.random.default_rng(0)).to(batch.rows.device)
        inner.micro_batch, inner.precision = self.micro_batch, self.precision
        inner.batch_statistics = self.batch_statistics
        found = inner.losses(batch)
        self.observed = inner.observed
        return {f"{self.names[source]}/{name}": self.weights[source] * loss for name, loss in found.items()}

    def _source(self, batch: Batch) -> int:
        """Of the rows of all processes."""
        own = batch.labels["source"]
        source = int(total(own[0] if len(own) else own.new_tensor(-1), "max"))
        if len(own) and int(own[0]) != source:
            raise DataError(
                f"This process has rows of {self.names[int(own[0])]}, another one rows of {self.names[source]}: a "
                "batch is of one source. Make batches with `counterpoint.data.mixture.Mixture`."
            )
        return source

    def _inner(self, source: int) -> Method:
        found = self.inner[str(self.of[source])]
        assert isinstance(found, Method)
        return found

    def before_training(self, steps: int) -> None:
        for inner in self.inner.values():
            inner.before_training(steps)  # type: ignore[operator]

    def after_step(self, step: int) -> None:
        for inner in self.inner.values():
            inner.after_step(step)  # type: ignore[operator]

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=TextTransformerConfig(),
                train=TrainConfig(batch=64, epochs=1, lr=2e-5, warmup=0.1, schedule="linear", mix=0.5),
            )
        small = size == "small"
        return Recipe(
            config=Config(size=size),
            encoder=StaticTextConfig(dim=512 if small else 64, token_dropout=0.1),
            train=TrainConfig(batch=256 if small else 32, epochs=3 if small else 1, lr=5e-3, weight_decay=0.0, mix=0.5),
        )


def objective(kind: str, config: Config) -> str:
    """The method for rows of a kind. config: of multitask."""
    return config.objectives.get(kind) or USUAL[kind]


def readable(name: str, kind: str) -> str:
    """The name of a method, which reads rows of this kind."""
    if kind not in (needs := find(name).spec.needs):
        raise ConfigError(
            f"The method {name} learns from {' or '.join(needs)}, and rows of the kind {kind} were to have its loss. "
            f"Name another, for example objectives={{{kind!r}: {USUAL[kind]!r}}}."
        )
    return name


def borrowing(encoder: Encoder, name: str, part: Schema, config: Config) -> Method:
    """A method with an encoder that is not its own: it is no part of the method's own weights. name: the method.
    config: of multitask."""
    cls = find(name)
    settings = cls.recipe(config.size).config
    given = {key.split(".", 1)[1]: v for key, v in config.settings.items() if key.startswith(f"{name}.")}
    known = {f.name for f in dataclasses.fields(settings)}
    if unknown := sorted(set(given) - known):
        raise ConfigError(f"The method {name} has no setting {unknown[0]!r}. It has: {', '.join(sorted(known))}.")
    if "labels" in known:
        given["labels"] = part.labels
    found = cls(encoder, dataclasses.replace(settings, **given))
    if found.rounds > 1 or set(found.towers()) != {encoder.modality}:
        raise ConfigError(f"The method {name} cannot be one of several: it trains in rounds, or other encoders too.")
    del found.encoder
    object.__setattr__(found, "encoder", encoder)
    return found
