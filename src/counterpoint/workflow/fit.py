"""`fit`: from raw rows to an encoder that is trained, measured and reported."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from counterpoint._version import __version__
from counterpoint.data.read import Source
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.layout import read_json
from counterpoint.errors import ConfigError, MissingExtra
from counterpoint.methods.base import Method
from counterpoint.report import page
from counterpoint.report.collect import collect
from counterpoint.train.config import TrainConfig
from counterpoint.train.contracts import Result
from counterpoint.train.loop import Trainer
from counterpoint.workflow import folder as place
from counterpoint.workflow.choose import choose, configured
from counterpoint.workflow.folder import Asked
from counterpoint.workflow.measure import as_metrics, measure, measured
from counterpoint.workflow.models import SETTINGS, Beginning, make_encoder, save_towers
from counterpoint.workflow.rows import Given, fitting, gather, make_loader
from counterpoint.workflow.values import typed

SIZES = ("small", "published", "smoke")


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves: the trained method, its folder, the final figures, and how the run ended."""

    method: Method
    folder: Path
    metrics: dict[str, Any]
    result: Result
    notes: list[str] = field(default_factory=list)


def fit(
    data: Source = (),
    *,
    out: Path | str,
    method: str = "auto",
    columns: Mapping[str, str | list[str]] | None = None,
    encoder: str = "auto",
    test: Source = (),
    size: str = "small",
    settings: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    split: str | None = None,
    streaming: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[Any], None] | None = None,
) -> Fitted:
    """Train an encoder on rows, measure it beside a baseline, write its model folder and its report.

    data: whatever `counterpoint.data.read.read` takes. method: its name (auto: the columns decide). columns: part ->
    column. encoder: auto, static, transformer, or a folder or hub id. test: rows to measure on (none: a part of the
    data is held out). size: the recipe to start from: small, published, smoke. settings: of the method. train: fields
    of `TrainConfig` that replace the recipe's. overwrite: replace the run in the folder. resume: continue it; whatever
    is left out is then as it was. say: receives each sentence about what was decided, and the table of figures (None:
    the terminal).

    Raises `DataError` for rows that cannot be used, `ConfigError` for settings that contradict each other or the rows,
    `ModelError` for folders that cannot be read or written.
    """
    say = say or Console(markup=False, highlight=False, soft_wrap=True).print
    folder, clock = Path(out), Clock()
    place.refuse(folder, resume=resume, overwrite=overwrite)
    asked = Asked(
        data=_paths(data),
        method=method,
        columns=dict(columns or {}),
        encoder=encoder,
        test=_paths(test),
        size=size,
        settings=dict(settings or {}),
        train=typed(TrainConfig, train or {}, of="the training run", option="--{} VALUE"),
        split=split,
        streaming=streaming,
    )
    if resume:
        asked = place.continued(folder, asked)
        if not place.has_checkpoint(folder):
            say(f"The run in {folder} was stopped before its first checkpoint; it begins again.")

    with clock("read"):
        given = gather(asked.data, columns=asked.columns, test=asked.test, split=asked.split, streaming=asked.streaming)
    with clock("set-up"):
        plan = make_plan(asked, given, folder, begun=resume and place.has_checkpoint(folder))
    told = [*given.log.lines(), plan.why]
    for sentence in told:
        say(sentence)

    watch = _watch(given) if given.held and (plan.train.eval_every or plan.train.metric) else None
    if watch and plan.train.metric:
        _check_metric(plan.train.metric, watch(plan.learner))
    trainer = Trainer(
        plan.learner,
        make_loader(given, plan.train),
        plan.train,
        folder=folder,
        evaluate=watch,
        resume=resume,
        overwrite=overwrite,
        extra=describe(plan, asked, given),
    )
    if overwrite:
        place.clear(folder)
    if not plan.begun:
        # A resumed run needs the same vocabulary, whatever became of the files it was learned from.
        save_towers(plan.towers, folder / "start")
    result = trainer.fit()
    clock.seconds["train"] = round(result.seconds, 2)

    trained = dict(plan.learner.towers())
    save_towers(trained, folder / "model")
    notes = [line for line in given.log.lines() if line not in told]
    metrics: dict[str, Any] = {
        "title": f"{plan.name} on {title(asked.data)}",
        "method": plan.name,
        "why": plan.why,
        "rows": None if given.known is None else len(given.known),
        "queries": len(given.held),
        "steps": result.steps,
        "stopped": result.stopped,
        "versions": versions(),
    }
    found = None
    if result.stopped != "interrupted":
        with clock("evaluate"):
            found, more = measured(trained, given)
        notes += more
        metrics |= as_metrics(found) if found else {}
    metrics |= {"notes": notes, "seconds": clock.seconds}
    place.write_whole(folder / "metrics.json", metrics)
    if found:
        say(found.table())
    for note in notes:
        say(note)
    if result.stopped == "interrupted":
        say(f"Interrupted. The model so far: {folder / 'model'}. Continue: counterpoint fit --out {folder} --resume")
    else:
        report(folder, trained, given, say)
        say(f"Model: {folder / 'model'}")
        say("\n  ".join(["Next:", *next_commands(folder, given, trained)]))
    return Fitted(plan.learner, folder, metrics, result, notes)


# --- what is going to be trained -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A method with its encoders, and how it will be trained. begins: how the encoders start. begun: a run goes on."""

    name: str
    why: str
    learner: Method
    towers: dict[str, Encoder]
    train: TrainConfig
    begins: Beginning
    begun: bool


def make_plan(asked: Asked, given: Given, folder: Path, *, begun: bool) -> Plan:
    """The method the rows call for, its encoders (those the run began with, where it goes on) and its settings."""
    if asked.size not in SIZES:
        raise ConfigError(f"There is no recipe of the size {asked.size!r}. Type one of: {', '.join(SIZES)}.")
    cls, why = choose(given.schema, given.rows, asked.method)
    recipe = cls.recipe(asked.size)
    config = configured(cls, recipe.config, asked.settings)
    torch.manual_seed(asked.train.get("seed", recipe.train.seed))  # encoders and heads are drawn here
    towers: dict[str, Encoder] = {}
    begins: Beginning = "recipe"
    for stream in given.modalities:
        base = recipe.encoder[stream] if isinstance(recipe.encoder, Mapping) else recipe.encoder
        choice = str(folder / "start") if begun else asked.encoder
        towers[stream], begins = make_encoder(stream, choice, base, given.rows, smoke=asked.size == "smoke")
    if begun:
        begins = read_json(folder / "config.json")["begins"]
    train = dataclasses.replace(recipe.train, **{**SETTINGS[begins], **asked.train})
    if "batch" not in asked.train:
        train = fitting(train, given.rows, given.log)
    if asked.size == "published" and begins == "recipe" and train.lr < 1e-4 and "text" in towers:
        given.log.note(
            "The published recipe goes on from a pretrained encoder; this one starts from random weights, for which "
            f"its learning rate of {train.lr:g} is small. Name one: --encoder FOLDER, or a hub id."
        )
    model: Any = towers if "towers" in cls.spec.needs else next(iter(towers.values()))
    learner = cls(model, config)
    return Plan(cls.spec.name, why, learner, towers, train, begins, begun)


def _watch(given: Given) -> Callable[[Method], dict[str, float]]:
    def watch(trained: Method) -> dict[str, float]:
        return {f.metric: f.value.value for f in measure(trained.towers(), given, beside=False).figures}

    return watch


def _check_metric(name: str, figures: Mapping[str, float]) -> None:
    """Before anything is written, so that a slip in the name does not cost the run that is there."""
    if name not in figures:
        raise ConfigError(f"The evaluation gives no figure {name!r}. Type --metric with one of: {', '.join(figures)}.")


# --- what is told ----------------------------------------------------------------------------------------------


def describe(plan: Plan, asked: Asked, given: Given) -> dict[str, Any]:
    """What ``config.json`` holds beside the settings of the training run."""
    return {
        "method": plan.name,
        "why": plan.why,
        "begins": plan.begins,
        "settings": dataclasses.asdict(plan.learner.config),
        "encoders": {
            stream: {"kind": e.kind, **dataclasses.asdict(e.config), "weights": sum(p.numel() for p in e.parameters())}
            for stream, e in plan.towers.items()
        },
        "schema": dataclasses.asdict(given.schema),
        "rows": None if given.known is None else len(given.known),
        "asked": place.as_json(asked),
    }


def report(folder: Path, towers: Mapping[str, Encoder], given: Given, say: Callable[[str], None]) -> None:
    """The page of the run; a missing extra is told, not raised: the model is there."""
    stream = "text" if "text" in towers else next(iter(towers))
    key = next((k for k, m in given.schema.modalities.items() if m == stream), None)
    shown = [r for r in given.held if key and r.get(key) is not None]
    if key and shown:
        vectors = towers[stream].encode([r[key] for r in shown], normalize=True)
        names = [r[key] if isinstance(r[key], str) else f"row {r['row']}" for r in shown]
        groups = [given.schema.labels[r["label"]] for r in shown] if given.schema.labels else None
        collect(folder, vectors, names, groups=groups)
    try:
        say(f"Report: {page.write(folder)}")
    except MissingExtra as error:
        say(f"No report was written. {error}")


def next_commands(folder: Path, given: Given, towers: Mapping[str, Encoder]) -> list[str]:
    """What can be typed now."""
    stream = f" --stream {next(iter(towers))}" if len(towers) > 1 else ""
    lines = [f"counterpoint eval {folder} TEST_ROWS", f"counterpoint encode {folder} ROWS --out vectors.npy{stream}"]
    if "text" in towers:
        lines.append(f'counterpoint index {folder} ROWS && counterpoint search {folder} "a question"')
    return [*lines, f"counterpoint export {folder} --to onnx --out model.onnx{stream}"]


def title(data: list[str]) -> str:
    """The source in a title: its name, or how many there are."""
    return Path(data[0]).name if len(data) == 1 else f"{len(data)} sources"


def versions() -> dict[str, str]:
    named = ("torch", "transformers", "tokenizers", "datasets", "numpy")
    return {"counterpoint": __version__, "python": platform.python_version()} | {n: version(n) for n in named}


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(time.perf_counter() - start, 2)


def _paths(source: Source) -> list[str]:
    return [str(s) for s in ([source] if isinstance(source, str | Path) else source)]
