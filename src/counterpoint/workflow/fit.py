"""`fit`: from raw rows to an encoder that is trained, measured and reported."""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch

from rich.console import Console

from counterpoint._version import __version__
from counterpoint.data import registry
from counterpoint.data.infer import infer
from counterpoint.data.inspect import leakage
from counterpoint.data.loader import Loader, StreamLoader
from counterpoint.data.log import Log
from counterpoint.data.read import Source, read, train_part
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import LengthBucketed, NoDuplicates, PxK, Sampler, Shuffled
from counterpoint.data.schema import Row, Schema
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.layout import write_json
from counterpoint.errors import MissingExtra
from counterpoint.methods.base import Method, find
from counterpoint.report import page
from counterpoint.report.collect import collect
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Result, Trainer
from counterpoint.train.run import Run
from counterpoint.workflow.choose import check, choose, configured
from counterpoint.workflow.measure import as_metrics, measure
from counterpoint.workflow.models import FINE_TUNE, FROM_SCRATCH, make_encoder, save_towers

MOST_HELD, FEWEST_HELD = 1000, 10
"""Rows held out to measure on, at most and at least."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves: the trained method, its folder, the final figures, and how the run ended."""

    method: Method
    folder: Path
    metrics: dict[str, Any]
    result: Result
    notes: list[str] = field(default_factory=list)


def make_loader(schema: Schema, rows: Rows | Stream, config: TrainConfig) -> Loader | StreamLoader:
    """Batches that suit the rows: no duplicates among candidates, several rows per class, like lengths together."""
    if isinstance(rows, Stream):
        return StreamLoader(rows, config.batch)
    batch, seed = config.batch, config.seed
    sampler: Sampler
    match schema.kind:
        case "pairs":
            sampler = NoDuplicates(rows.keys(), batch, seed=seed)
        case "labelled":
            sampler = PxK(rows.labels(), batch, seed=seed)
        case "texts" | "scored":
            sampler = LengthBucketed(rows.lengths(), batch, seed=seed)
        case _:
            sampler = Shuffled(len(rows), batch, seed=seed)
    return Loader(rows, sampler)


def hold_out(rows: Rows | Stream, schema: Schema, test: Source, log: Log) -> tuple[Rows | Stream, list[Row], list[str]]:
    """(rows to train on, rows to measure on, sentences to tell): the test rows given, else a part of the data."""
    if test:
        held = Rows(read(test, split="all", log=log), schema, log=log)
        notes = []
        if isinstance(rows, Rows) and "text" in schema.modalities.values():
            repeated = leakage(rows.texts(), held.texts())
            if repeated:
                notes.append(f"{repeated:,} test texts are training texts too: the figures flatter the model.")
        return rows, held[: min(len(held), MOST_HELD)], notes
    if isinstance(rows, Stream):
        return rows, [], ["A stream has no part that could be held out: give --test FILE to measure the model."]
    size = min(MOST_HELD, len(rows) // 10)
    if size < FEWEST_HELD:
        return rows, [], [f"{len(rows):,} rows are too few to hold a part out: give --test FILE to measure the model."]
    rest, held = rows.split(size)
    return rest, held[: min(len(held), MOST_HELD)], [f"{len(held):,} of {len(rows):,} rows are held out to measure on."]


def refuse_to_mix(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds a run before anything is read; with overwrite, take away what the old run derived."""
    Run(folder, resume=resume, overwrite=overwrite)
    if overwrite:
        for name in ("model", "start", "report", "index"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("metrics.json", "report.html"):
            (folder / name).unlink(missing_ok=True)


def describe(data: Source) -> str:
    """The source in a title: its name, or how many there are."""
    if isinstance(data, str | Path):
        return Path(data).name
    return Path(data[0]).name if len(data) == 1 else f"{len(data)} sources"


def versions() -> dict[str, str]:
    named = ("torch", "transformers", "tokenizers", "datasets", "numpy")
    return {"counterpoint": __version__, "python": platform.python_version()} | {n: version(n) for n in named}


def report(
    folder: Path, towers: Mapping[str, Encoder], held: Sequence[Row], schema: Schema, say: Callable[[str], None]
) -> None:
    """The page of the run; a missing extra is told, not raised: the model is there."""
    stream = "text" if "text" in towers else next(iter(towers))
    key = next((k for k, m in schema.modalities.items() if m == stream and k in (held[0] if held else ())), None)
    if key:
        shown = [r for r in held if r.get(key) is not None]
        vectors = towers[stream].encode([r[key] for r in shown], normalize=True)
        names = [r[key] if isinstance(r[key], str) else f"row {r['row']}" for r in shown]
        groups = [schema.labels[r["label"]] for r in shown] if schema.labels else None
        collect(folder, vectors, names, groups=groups)
    try:
        say(f"Report: {page.write(folder)}")
    except MissingExtra as error:
        say(f"No report was written. {error}")


def fit(
    data: Source,
    *,
    out: Path | str,
    method: str = "auto",
    columns: Mapping[str, str | list[str]] | None = None,
    encoder: str = "auto",
    test: Source = (),
    size: str = "small",
    settings: Mapping[str, str] | None = None,
    train: Mapping[str, Any] | None = None,
    split: str | None = None,
    streaming: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[Any], None] | None = None,
) -> Fitted:
    """Train an encoder on rows, measure it beside a baseline, write its model folder and its report.

    data: whatever `counterpoint.data.read.read` takes. method: its name (auto: the columns decide). columns: part ->
    column. encoder: auto, static, transformer, or a folder or hub id. test: rows to measure on (none: a part of the data
    is held out). size: the recipe to start from: small, published, smoke. settings: of the method, values as text.
    train: fields of `TrainConfig` that replace the recipe's. resume, overwrite: what to do with a run that is there.
    say: receives each sentence about what was decided, and the table of figures (None: the terminal).

    Raises `DataError` for rows that cannot be used, `ConfigError` for settings that contradict each other or the rows,
    `ModelError` for folders that cannot be read or written.
    """
    say = say or Console(markup=False, highlight=False, soft_wrap=True).print
    folder, seconds, clock = Path(out), {}, time.perf_counter()
    resume = resume and (folder / "checkpoints").is_dir()
    refuse_to_mix(folder, resume=resume, overwrite=overwrite)

    log = Log()
    raw = read(data, split=split, streaming=streaming, log=log)
    raw = raw if split or isinstance(raw, datasets.IterableDataset) else train_part(raw, log)
    schema = infer(raw, columns=registry.parts(data, columns or {}))
    rows = Stream(raw, schema) if isinstance(raw, datasets.IterableDataset) else Rows(raw, schema, log=log)
    name, why = choose(schema, rows) if method == "auto" else (method, f"The method was named. {schema.why}")
    cls = find(name)
    check(cls, schema)
    say(f"Method {name}: {cls.spec.title}. {why}")
    rows, held, notes = hold_out(rows, schema, test, log)
    for note in [*log.lines(), *notes]:
        say(note)
    seconds["read"] = time.perf_counter() - clock

    clock = time.perf_counter()
    recipe = cls.recipe(size)
    config = configured(cls, recipe.config, settings or {})
    start = folder / "start" if resume else Path(encoder)
    towers, begins = {}, "recipe"
    for stream in sorted(set(schema.modalities.values())):
        base = recipe.encoder[stream] if isinstance(recipe.encoder, Mapping) else recipe.encoder
        towers[stream], begins = make_encoder(stream, str(start) if resume else encoder, base, rows)
    chosen = {"pretrained": FINE_TUNE, "scratch": FROM_SCRATCH, "recipe": {}}
    if resume:
        begins = str(json.loads((folder / "config.json").read_text())["begins"])
    train_config = dataclasses.replace(recipe.train, **{**chosen[begins], **(train or {})})
    torch.manual_seed(train_config.seed)  # heads and memories are drawn here, before the trainer seeds itself
    model: Any = towers if "towers" in cls.spec.needs else next(iter(towers.values()))
    learner = cls(model, config)
    loader = make_loader(schema, rows, train_config)
    seconds["set-up"] = time.perf_counter() - clock

    def watch(trained: Method) -> dict[str, float]:
        found = measure(trained.towers(), schema, held, rows if isinstance(rows, Rows) else None, beside=False)
        return {f.metric: f.value.value for f in found.figures}

    extra = {
        "method": name,
        "why": why,
        "begins": begins,
        "data": str(data),
        "schema": dataclasses.asdict(schema),
        "settings": dataclasses.asdict(config),
        "encoders": {s: type(e).__name__ for s, e in towers.items()},
        "rows": len(rows) if isinstance(rows, Rows) else None,
    }
    watched = watch if held and (train_config.eval_every or train_config.metric) else None
    trainer = Trainer(
        learner, loader, train_config, folder=folder, evaluate=watched, resume=resume, overwrite=overwrite, extra=extra
    )
    if not resume:
        # Kept until the run is over: a resumed run needs the same vocabulary, whatever became of the data's file.
        save_towers(towers, folder / "start")
    result = trainer.fit()
    seconds["train"] = result.seconds

    clock = time.perf_counter()
    trained = dict(learner.towers())
    save_towers(trained, folder / "model")
    metrics: dict[str, Any] = {
        "title": f"{name} on {describe(data)}",
        "method": name,
        "why": why,
        "rows": extra["rows"],
    }
    if held:
        found = measure(trained, schema, held, rows if isinstance(rows, Rows) else None, beside=True)
        metrics |= as_metrics(found)
        metrics["queries"] = len(held)
        notes += found.notes
        say(found.table())
    seconds["evaluate"] = time.perf_counter() - clock
    if result.stopped == "interrupted":
        notes.append("The run was interrupted; figures are those of the unfinished model. Add --resume to continue.")
    metrics |= {"notes": notes, "seconds": {k: round(v, 2) for k, v in seconds.items()}, "steps": result.steps}
    metrics["versions"] = versions()
    write_json(folder / "metrics.json", metrics)
    if result.stopped != "interrupted":
        shutil.rmtree(folder / "start", ignore_errors=True)
    report(folder, trained, held, schema, say)
    say(f"Model: {folder / 'model'}. Use it: counterpoint encode {folder} FILE --out vectors.npy")
    return Fitted(learner, folder, metrics, result, notes)
