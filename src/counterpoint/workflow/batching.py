"""In which batches rows come: no duplicates among candidates, several rows per class, sources in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from counterpoint.data.loader import Loader, StreamLoader
from counterpoint.data.log import Log
from counterpoint.data.mixed import Mixed
from counterpoint.data.mixture import ALPHA, Mixture
from counterpoint.data.nodes import Nodes
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled, Together
from counterpoint.data.schema import SOURCED, RowSet
from counterpoint.data.stream import Stream
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method
from counterpoint.train.config import TrainConfig
from counterpoint.train.team import launched
from counterpoint.workflow.gather import Given

STEPS_OF_SMALL = 8
"""Steps an epoch should have: where a recipe's batch would leave fewer, a smaller one is taken."""
SMALLEST = 8
"""Rows of the smallest batch that is taken for this reason."""


def fitting(config: TrainConfig, rows: RowSet | Stream, log: Log) -> TrainConfig:
    """The recipe's settings with a batch that suits the rows: an epoch of one step teaches little, and rows that share
    texts cannot stand in one batch."""
    if isinstance(rows, Stream):
        return config
    if isinstance(rows, Nodes):
        return replace(config, batch=len(rows))
    of_number = min(config.batch, suited(len(rows)))
    batch = of_number if isinstance(rows, Mixed) else apart(rows, of_number, config.seed)
    if batch == config.batch:
        return config
    shared = f"Many of the {len(rows):,} rows share texts, which must not meet in a batch"
    why = f"There are {len(rows):,} rows" if batch == of_number else shared
    log.note(f"{why}, so the batch is {batch:,} instead of {config.batch:,} (--batch N sets another).")
    return replace(config, batch=batch)


def suited(rows: int) -> int:
    """The largest batch that few rows should have."""
    return max(min(SMALLEST, rows), rows // STEPS_OF_SMALL)


def apart(rows: Any, batch: int, seed: int) -> int:
    """The largest of ``batch``, its half, its quarter … in which at least half of the rows find a place where those
    that share a text must not meet."""
    if rows.schema.kind != "pairs":
        return batch
    keys = rows.keys()
    while batch > 2 and NoDuplicates(keys, batch, seed=seed).rows_of_epoch < len(rows) / 2:
        batch //= 2
    return batch


def make_loader(given: Given, config: TrainConfig, method: Method | None = None) -> Loader | StreamLoader:
    """Batches that suit the rows: no duplicates among candidates, several rows per class, like lengths together; or
    those that the method asks for."""
    rows, batch, seed = given.rows, config.batch, config.seed
    rank, world = launched()
    own = None if method is None else method.sampler(rows, config)
    if own is not None:
        assert not isinstance(rows, Stream)
        return Loader(rows, own, rank=rank, world=world)
    if isinstance(rows, Mixed) or (config.mix is not None and isinstance(rows, Rows) and rows.schema.sources):
        return Loader(rows, mixture(rows, config, given.log), rank=rank, world=world)
    if set(config.batch_of) - set(SOURCED):
        raise ConfigError("batch_of names sources, whose batches are of their own with mix. Type also: --mix 0.5")
    if config.mix is not None and not isinstance(rows, Stream):
        given.log.note(
            f"mix={config.mix:g} changes nothing, as these rows are of one source. Give several files, or name the "
            "column that says which source (file, task, language, domain) a row is from: --columns source=COLUMN"
        )
    if isinstance(rows, Stream):
        rows.seed = seed
        return StreamLoader(rows, batch, rank=rank, world=world)
    if isinstance(rows, Nodes):
        if batch != len(rows):
            raise ConfigError(
                f"batch={batch}: a graph is trained on as a whole, all {len(rows):,} nodes in every step. "
                "Leave --batch out."
            )
        return Loader(rows, Together(len(rows), batch, seed=seed), rank=rank, world=world)
    return Loader(rows, usual(rows, batch, seed), rank=rank, world=world)


def usual(rows: Any, batch: int, seed: int) -> Sampler:
    """The batches that suit rows of their kind."""
    match rows.schema.kind:
        case "pairs":
            return NoDuplicates(rows.keys(), batch, seed=seed)
        case "labelled" | "bags":
            return PxK(rows.labels(), batch, seed=seed)
        case "texts" | "scored":
            return LengthBucketed(rows.lengths(), batch, seed=seed)
    return Shuffled(len(rows), batch, seed=seed)


def mixture(rows: RowSet | Stream, config: TrainConfig, log: Log) -> Mixture:
    """Batches of one source each, in every source those that are usual for its rows.

    A source has batches of as many rows as ``config.batch_of`` says of it, else of its kind, else ``config.batch``, but
    smaller ones where it has few rows.
    """
    if isinstance(rows, Mixed):
        parts = dict(zip(rows.names, rows.parts))
    elif isinstance(rows, Rows) and rows.schema.sources:
        number, names = rows.sources(), rows.schema.sources
        parts = {names[s]: rows.subset(np.flatnonzero(number == s)) for s in np.unique(number)}
    else:
        raise AssertionError("rows of one source")
    if unknown := sorted(set(config.batch_of) - {*parts, *SOURCED}):
        raise ConfigError(f"batch_of names the source {unknown[0]!r}; there are {', '.join(parts)}.")
    asked = {n: config.batch_of.get(n, config.batch_of.get(p.schema.kind, config.batch)) for n, p in parts.items()}
    size = {
        n: b if n in config.batch_of else apart(parts[n], min(b, suited(len(parts[n]))), config.seed)
        for n, b in asked.items()
    }
    samplers = [usual(part, size[name], config.seed) for name, part in parts.items()]
    if isinstance(rows, Mixed):
        members = np.split(np.arange(len(rows)), np.cumsum([len(p) for p in rows.parts])[:-1])
    else:
        members = [np.flatnonzero(number == s) for s in np.unique(number)]
    found = Mixture(
        samplers, members, alpha=ALPHA if config.mix is None else config.mix, seed=config.seed, names=list(parts)
    )
    shares = ", ".join(
        f"{name} {n:,} of {s.batch:,} rows" for name, n, s in zip(parts, found.counts.tolist(), samplers)
    )
    log.note(f"Batches in an epoch, each of one source, p ∝ n^{found.alpha:g} for a source that makes n: {shares}.")
    return found
