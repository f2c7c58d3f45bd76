"""In which batches rows come: no duplicates among candidates, several rows per class, sources in turn."""

from __future__ import annotations

from dataclasses import replace

from counterpoint.data.loader import Loader, StreamLoader
from counterpoint.data.log import Log
from counterpoint.data.mixture import ALPHA, Mixture
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
UNMIXED = "batch_of names sources, whose batches are of their own with mix. Type also: --mix 0.5"


def fitting(config: TrainConfig, rows: RowSet | Stream, log: Log) -> TrainConfig:
    """The recipe's settings with a batch that suits the rows: an epoch of one step teaches little, and rows that share
    texts cannot stand in one batch."""
    if isinstance(rows, Stream):
        return config
    if rows.whole:
        return replace(config, batch=len(rows))
    of_number = min(config.batch, suited(len(rows)))
    batch = rows.roomy(of_number, config.seed)
    if batch == config.batch:
        return config
    shared = f"Many of the {len(rows):,} rows share texts, which must not meet in a batch"
    why = f"There are {len(rows):,} rows" if batch == of_number else shared
    log.note(f"{why}, so the batch is {batch:,} instead of {config.batch:,} (--batch N sets another).")
    return replace(config, batch=batch)


def suited(rows: int) -> int:
    """The largest batch that few rows should have."""
    return max(min(SMALLEST, rows), rows // STEPS_OF_SMALL)


def make_loader(given: Given, config: TrainConfig, method: Method | None = None) -> Loader | StreamLoader:
    """Batches that suit the rows: no duplicates among candidates, several rows per class, like lengths together; or
    those that the method asks for."""
    rows, batch, seed = given.rows, config.batch, config.seed
    rank, world = launched()
    own = None if method is None else method.sampler(rows, config)
    unknown = set(config.batch_of) - set(SOURCED)
    if isinstance(rows, Stream):
        if unknown:
            raise ConfigError(UNMIXED)
        rows.seed = seed
        return StreamLoader(rows, batch, rank=rank, world=world)
    if own is not None:
        return Loader(rows, own, rank=rank, world=world)
    if rows.mixed or (config.mix is not None and rows.by_source()):
        return Loader(rows, mixture(rows, config, given.log), rank=rank, world=world)
    if unknown:
        raise ConfigError(UNMIXED)
    if config.mix is not None:
        given.log.note(
            f"mix={config.mix:g} changes nothing, as these rows are of one source. Give several files, or name the "
            "column that says which source (file, task, language, domain) a row is from: --columns source=COLUMN"
        )
    return Loader(rows, rows.sampler(batch, seed), rank=rank, world=world)


def mixture(rows: RowSet, config: TrainConfig, log: Log) -> Mixture:
    """Batches of one source each, in every source those that are usual for its rows.

    A source has batches of as many rows as ``config.batch_of`` says of it, else of its kind, else ``config.batch``, but
    smaller ones where it has few rows.
    """
    sources = rows.by_source()
    parts = {name: part for name, (part, _) in sources.items()}
    if unknown := sorted(set(config.batch_of) - {*parts, *SOURCED}):
        raise ConfigError(f"batch_of names the source {unknown[0]!r}; there are {', '.join(parts)}.")
    asked = {n: config.batch_of.get(n, config.batch_of.get(p.schema.kind, config.batch)) for n, p in parts.items()}
    size = {
        n: b if n in config.batch_of else parts[n].roomy(min(b, suited(len(parts[n]))), config.seed)
        for n, b in asked.items()
    }
    samplers = [part.sampler(size[name], config.seed) for name, part in parts.items()]
    found = Mixture(
        samplers,
        [places for _, places in sources.values()],
        alpha=ALPHA if config.mix is None else config.mix,
        seed=config.seed,
        names=list(parts),
    )
    shares = ", ".join(
        f"{name} {n:,} of {s.batch:,} rows" for name, n, s in zip(parts, found.counts.tolist(), samplers)
    )
    log.note(f"Batches in an epoch, each of one source, p ∝ n^{found.alpha:g} for a source that makes n: {shares}.")
    return found
