"""A method: a module that owns encoders, heads, memories and teachers, and answers `views`, `losses` and `encode`."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor, nn

from counterpoint.data.batch import Batch, Data, View, joined, size
from counterpoint.data.sampler import Sampler
from counterpoint.data.schema import Kind, Row, RowSet
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder, made_by, standard
from counterpoint.errors import ConfigError
from counterpoint.methods.catalogue import expanded
from counterpoint.processes import world
from counterpoint.train.budget import Budget
from counterpoint.train.config import Statistics, TrainConfig
from counterpoint.train.gradcache import embed

LONG = 60
"""Median words from which texts count as documents: their parts can then be contrasted with each other."""


@dataclass(frozen=True)
class Usual:
    """Rows for which a method is the first choice, where that depends on more than what they hold.

    kind: of the rows. least, below: bounds of the median number of words in a text. because: the sentence that says so,
    where there are bounds; ``{words}`` stands for the median. otherwise: where no other method is the first choice.
    """

    kind: Kind
    least: float = 0
    below: float = math.inf
    because: str = ""
    otherwise: bool = False


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a method is and what it needs; the command line, the docs page and the errors derive from it.

    learns: the modalities that it learns from, as it says them (see `counterpoint.methods.catalogue.expanded`); of rows
    of the kind ``towers``, the ones that it takes together. needs: the kinds of rows. usual: kinds for which it is the
    first choice, with each of its modalities; no two methods may be that. name: as it is typed. title, paper, year: of
    the publication.
    """

    name: str
    title: str
    paper: str
    year: int
    learns: tuple[str, ...]
    needs: tuple[Kind, ...]
    usual: tuple[Usual, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities that it learns from."""
        return expanded(self.learns)

    def first_for(self, kind: str, modality: str) -> Usual | None:
        """What makes it the first choice for rows of a kind and a modality (``image+text``: of both); None: nothing."""
        together = kind == "towers"
        if modality not in (["+".join(sorted(self.modalities))] if together else self.modalities):
            return None
        return next((usual for usual in self.usual if usual.kind == kind), None)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A full configuration: of the method, of its encoder, of the training run.

    config: the method's. encoder: its encoder's, or one for each modality. train: of the run.
    """

    config: Any
    encoder: Any
    train: TrainConfig

    def encoder_of(self, modality: str) -> Any:
        """The configuration of this modality's encoder; of one that the recipe names none for, the standard one."""
        held = self.encoder.get(modality) if isinstance(self.encoder, Mapping) else self.encoder
        if held is not None and made_by(held).modality == modality:
            return held
        usual = standard(modality)
        return usual.configured(usual.choices[0])


class Method(nn.Module):
    """Base of every method.

    A subclass defines ``Config`` (a frozen dataclass of its own settings), `views`, `losses`, and `recipe`;
    `after_step` where it keeps memory, `towers` where it trains more than the one encoder.

    encoder: what is trained. config: a ``Config`` (None: its defaults).
    """

    spec: ClassVar[Spec]
    Config: ClassVar[type]
    rounds: int = 1
    """Parts of equal length that a training is cut into; schedule and optimiser begin anew with each."""

    def __init__(self, encoder: Encoder, config: Any = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = self.Config() if config is None else config
        # Set by the trainer: items per encoder pass, or what finds their number (None: all at once).
        self.micro_batch: int | Budget | None = None
        self.batch_statistics: Statistics = "refuse"  # set by the trainer: of batch normalisation in these passes
        self.precision = "float32"  # set by the trainer: of the encoder's passes; losses are always in float32
        self.observed: dict[str, Tensor] = {}

    # --- the answers -------------------------------------------------------------------------------------------

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Rows to a batch of views; a pure function of its arguments (may run in another thread).

        rows: of one batch. rng: every draw comes from it.
        """
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; their sum is minimised.

        batch: as `views` made it, on the device.
        """
        raise NotImplementedError

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings ``(N, D)`` of the anchors of a batch, as used after training."""
        view = batch.views[0]
        return self.towers()[view.stream](view.data)

    def sampler(self, rows: RowSet | Stream, config: TrainConfig) -> Sampler | None:
        """Batches in an order that the method needs; None: those that are usual for rows of their kind.

        rows: of the training. config: of the training.
        """
        return None

    def before_training(self, steps: int) -> None:
        """Called once, before the first step, with the number of steps (schedules of momentum, of weights)."""

    def before_round(self, number: int) -> None:
        """Called before the first step of each of the `rounds` of a training, 0-based; never twice in a resumed run.

        number: of the round.
        """

    def after_step(self, step: int) -> None:
        """Called after every optimiser step (1-based): momentum teachers, closed-form weights."""

    def towers(self) -> Mapping[str, Encoder]:
        """The encoders to keep after training, by stream."""
        return {self.encoder.modality: self.encoder}

    @classmethod
    def kept(cls, config: Any) -> tuple[str, ...]:
        """Streams of the towers that stay as they are given: encoders that somebody trained before.

        config: the method's.
        """
        return ()

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        """The configuration of a size: ``published`` (the paper's), ``small`` (a laptop), ``smoke`` (<= 20 s)."""
        raise NotImplementedError

    # --- helpers -----------------------------------------------------------------------------------------------

    def embed(self, encoder: nn.Module, view: View | Data) -> Tensor:
        """Embeddings of a view, in micro-batches with recomputation where the trainer asked for gradient caching."""
        data = view.data if isinstance(view, View) else view
        return embed(encoder, data, self.micro_batch, precision=self.precision, statistics=self.batch_statistics)

    def embed_each(self, encoder: nn.Module, views: Sequence[View | Data]) -> list[Tensor]:
        """Embeddings of several views. With several processes in one pass: in shards, layers have to run equally often
        everywhere, and a view of hard negatives may be there on one process and not on another."""
        if world() == 1:
            return [self.embed(encoder, view) for view in views]
        parts = [view.data if isinstance(view, View) else view for view in views]
        found = self.embed(encoder, joined(parts, fill=self.encoder.fill))
        return list(found.split([size(part) for part in parts]))

    def observe(self, **tensors: Tensor) -> None:
        """Show the trainer's monitors embeddings, ``anchor`` and ``positive`` ``(N, D)``, and figures, ``scale`` and
        ``code_perplexity`` ``()``."""
        self.observed = {k: v.detach() for k, v in tensors.items()}


M = TypeVar("M", bound=type[Method])


def method(
    name: str,
    *,
    title: str,
    paper: str,
    year: int,
    modalities: tuple[str, ...],
    needs: tuple[Kind, ...],
    usual: tuple[Kind | Usual, ...] = (),
) -> Callable[[M], M]:
    """Class decorator: attach the `Spec`. usual: kinds, or, under a condition, `Usual`s. Raises `ConfigError` where a
    method is to be usual for a kind of rows that it does not learn from.

    name: as it is typed. title, paper, year: of the publication. modalities: that it learns from. needs: kinds of rows.
    """
    first = tuple(one if isinstance(one, Usual) else Usual(one) for one in usual)
    if not {one.kind for one in first} <= set(needs):
        raise ConfigError(f"The method {name} is usual for {', '.join(o.kind for o in first)}; it needs {needs}.")

    def attach(cls: M) -> M:
        cls.spec = Spec(name=name, title=title, paper=paper, year=year, learns=modalities, needs=needs, usual=first)
        return cls

    return attach


@cache
def discover() -> dict[str, type[Method]]:
    """Every method of the library by name, found by importing the modules of ``counterpoint.methods``."""
    import counterpoint.methods as package

    found: dict[str, type[Method]] = {}
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, Method) and "spec" in vars(value):
                found[value.spec.name] = value
    return dict(sorted(found.items()))


def find(name: str) -> type[Method]:
    """The method of this name, or an error that lists what there is."""
    methods = discover()
    if name not in methods:
        raise ConfigError(f"There is no method {name!r}. Type one of: {', '.join(methods)}.")
    return methods[name]
