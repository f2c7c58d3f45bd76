"""`fit`: from raw rows to an encoder that is trained, measured and reported."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from counterpoint.data import objects
from counterpoint.data.files.options import Said, reading_of
from counterpoint.data.files.read import Source
from counterpoint.errors import ConfigError, CounterpointError, ModelError
from counterpoint.evaluate.hybrid_share import told
from counterpoint.files import locked, write_json
from counterpoint.methods.base import Method
from counterpoint.terminal import sentences
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from counterpoint.train.protocols import Result
from counterpoint.train.setup import find_device
from counterpoint.train.team import Team, restarts, started
from counterpoint.workflow import run_folder as place
from counterpoint.workflow.batching import make_loader
from counterpoint.workflow.gather import Given, gather
from counterpoint.workflow.measure import as_metrics, measure, measured
from counterpoint.workflow.models import Beginning, save_towers
from counterpoint.workflow.plan import Plan, make_plan
from counterpoint.workflow.remine import Remining
from counterpoint.workflow.run_folder import Asked
from counterpoint.workflow.settings import typed
from counterpoint.workflow.share import of_run, set_aside
from counterpoint.workflow.summary import describe, next_commands, report, title, versions
from counterpoint.workflow.verdict import begun_with, to_try, verdict

Say = Callable[[Any], None]


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
    lora: int = 0,
    test: Source = (),
    size: str = "small",
    settings: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    split: str | None = None,
    streaming: bool | None = None,
    reading: Said = None,
    resume: bool = False,
    overwrite: bool = False,
    say: Say | None = None,
) -> Fitted:
    """Train an encoder on rows, measure it beside cheap baselines, write its model folder and its report.

    data: whatever `counterpoint.data.files.read.read` takes. method: its name (auto: the columns decide). columns: part
    -> column. encoder: auto, static, transformer, or a folder or hub id; ``text=FOLDER`` names that of one tower. lora:
    rank of the adapters that learn in place of a pretrained encoder's weights (0: the weights themselves). test: rows
    to measure on (none: a part of the data is held out). size: the recipe to start from: small, published, smoke.
    reading: what is said of files rather than found: ``{"separator": ";", "encoding": "cp1252", "header": False}``.
    split: which part of the data (None: train where there are several). streaming: read piece by piece (None: where the
    data are large). settings: of the method. train: fields of `TrainConfig` that replace the recipe's. overwrite:
    replace the run in the folder. resume: continue it; whatever is left out is then as it was. say: receives each
    sentence about what was decided, and the table of figures (None: the terminal). out: the run folder to write.

    Raises `DataError` for rows that cannot be used, `ConfigError` for settings that contradict each other or the rows,
    `ModelError` for folders that cannot be read or written.
    """
    with started(str((train or {}).get("device", "auto"))), warnings.catch_warnings():
        team = Team()
        if not team.leads:
            warnings.simplefilter("ignore", UserWarning)  # the leader says it
        say = (say or sentences().print) if team.leads else _silent
        asked = Asked(
            data=objects.names(data),
            method=method,
            columns=dict(columns or {}),
            encoder=encoder,
            lora=lora,
            test=objects.names(test),
            size=size,
            settings=dict(settings or {}),
            train=dict(train or {}),
            split=split,
            streaming=streaming,
            reading=asdict(reading_of(reading)),
        )
        rows = Sources(data, test)
        return _fit(asked, rows, Path(out), team, resume=resume, overwrite=overwrite, say=say)


@dataclass(frozen=True)
class Sources:
    """What was given to learn from and to be measured on: paths, or rows in memory, of which only a name is written
    down."""

    data: Any
    test: Any

    def of(self, part: str, asked: list[str]) -> Any:
        """The rows in memory, else the paths that were asked for, perhaps by the command that began the run."""
        given = getattr(self, part)
        if not objects.is_nothing(given) and not objects.is_paths(given):
            return given
        if held := next((name for name in asked if name.startswith(objects.IN_MEMORY)), None):
            raise ConfigError(
                f"The run was begun with rows that were in memory ({held.removeprefix(objects.IN_MEMORY)}), which "
                "cannot be read again. Give them in Python: counterpoint.fit(rows, out=..., resume=True)"
            )
        return asked


def _fit(asked: Asked, rows: Sources, folder: Path, team: Team, *, resume: bool, overwrite: bool, say: Say) -> Fitted:
    with ExitStack() as stack:
        team.first(lambda: stack.enter_context(locked(folder)))
        return _alone(asked, rows, folder, team, resume=resume, overwrite=overwrite, say=say)


def _alone(asked: Asked, rows: Sources, folder: Path, team: Team, *, resume: bool, overwrite: bool, say: Say) -> Fitted:
    """`fit` in a folder in which no other process is at work."""
    clock = Clock()
    opened = team.first(lambda: asdict(open_folder(asked, folder, resume=resume, overwrite=overwrite)))
    begin = Opened(**{**opened, "asked": Asked(**opened["asked"])})
    asked = begin.asked
    if begin.resume and not begin.begun:
        say(f"The run in {folder} was stopped before its first checkpoint; it begins again.")

    with clock("read"):
        given = team.in_turn(
            lambda: set_aside(
                gather(
                    rows.of("data", asked.data),
                    columns=asked.columns,
                    test=rows.of("test", asked.test),
                    split=asked.split,
                    streaming=asked.streaming,
                    reading=asked.reading,
                    mix=asked.train.get("mix") is not None,
                )
            )
        )
    with clock("set-up"):
        plan, trainer = set_up(begin, given, folder, team, overwrite=overwrite)
    told = [*given.log.lines(), plan.why]
    for sentence in told:
        say(sentence)

    result = trainer.fit()
    clock.seconds["train"] = round(result.seconds, 2)
    notes = [line for line in given.log.lines() if line not in told]

    def lead() -> dict[str, Any]:
        gone = not place.holds_run(folder)
        save_towers(plan.learner.towers(), folder / "model")
        metrics = finish(plan, asked, given, folder, result, notes=notes, clock=clock, say=say)
        if gone:
            raise ModelError(
                f"The folder {folder} was deleted while the run went on: its settings, curves and checkpoints are gone "
                f"and it cannot be resumed. The model itself was written again: {folder / 'model'}"
            )
        return metrics

    return Fitted(plan.learner, folder, team.first(lead), result, notes)


@dataclass(frozen=True)
class Opened:
    """asked: what to do, in a resumed run with what it was asked for then. begun: it goes on from a checkpoint."""

    asked: Asked
    resume: bool
    begun: bool


def open_folder(asked: Asked, folder: Path, *, resume: bool, overwrite: bool) -> Opened:
    """What the folder allows. A launcher that restarts its processes gives the same command each time, so a resume then
    begins where there is no run yet."""
    if restarts():
        resume = resume and place.holds_run(folder)
    place.refuse(folder, resume=resume, overwrite=overwrite)
    asked = replace(asked, train=typed(TrainConfig, asked.train, of="the training run", option="--{} VALUE"))
    find_device(str(asked.train.get("device", "auto")))  # before rows are read for nothing
    begun = resume and place.has_checkpoint(folder)
    return Opened(place.continued(folder, asked) if resume else asked, resume, begun)


def set_up(begin: Opened, given: Given, folder: Path, team: Team, *, overwrite: bool) -> tuple[Plan, Trainer]:
    """The leader plans and writes the encoders that the run begins with; the others begin with those."""
    planned: list[tuple[Plan, Trainer]] = []

    def lead() -> Beginning:
        start = (folder / "start", place.began(folder)) if begin.begun else None
        plan = make_plan(begin.asked, given, start, begun=begin.begun)
        planned.append((plan, prepare(plan, begin, given, folder, overwrite=overwrite)))
        return plan.begins

    begins = team.first(lead)
    with team.copied(folder / "start") as start:
        if planned:
            return planned[0]
        plan = make_plan(begin.asked, given, (start, begins), begun=begin.begun)
    return plan, make_trainer(plan, begin, given, folder, overwrite=overwrite)


def prepare(plan: Plan, begin: Opened, given: Given, folder: Path, *, overwrite: bool) -> Trainer:
    """Everything is checked before the first file is written: a slip does not cost the run that is there."""
    if given.held and plan.train.metric:
        _check_metric(plan.train.metric, _watch(given, plan.train.metric)(plan.learner))
    trainer = make_trainer(plan, begin, given, folder, overwrite=overwrite)
    if overwrite:
        place.clear(folder)
    if not plan.begun:
        # A resumed run needs the same vocabulary, whatever became of the files it was learned from.
        save_towers(plan.towers, folder / "start")
    return trainer


def make_trainer(plan: Plan, begin: Opened, given: Given, folder: Path, *, overwrite: bool) -> Trainer:
    renewal = Remining(given.rows, plan.train, plan.learner) if plan.train.remine else None
    learned = replace(given, rows=renewal.rows) if renewal else given
    watch = _watch(given, plan.train.metric)
    return Trainer(
        plan.learner,
        make_loader(learned, plan.train, plan.learner),
        plan.train,
        folder=folder,
        evaluate=watch if given.held and (plan.train.eval_every or plan.train.metric) else None,
        resume=begin.resume,
        overwrite=overwrite,
        extra=describe(plan, begin.asked, given),
        renewal=renewal,
    )


def finish(
    plan: Plan,
    asked: Asked,
    given: Given,
    folder: Path,
    result: Result,
    *,
    notes: list[str],
    clock: Clock,
    say: Say,
) -> dict[str, Any]:
    """Measure the model, write ``metrics.json`` and the page, and say what can be typed next. Adds to the notes.

    An interrupted run is not measured: whoever pressed Ctrl-C wants to get away.
    """
    towers, interrupted = dict(plan.learner.towers()), result.stopped == "interrupted"
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
    found, advice = None, list[str]()
    if result.still > STILL:
        notes.insert(0, taught_nothing(result.still))
        say(notes[0])  # before any figure
    if not interrupted:
        with clock("evaluate"):
            found, more = measured(towers, given, start=begun_with(folder, towers))
        notes += more
        if share := of_run(towers, given, folder / "model"):
            notes.append(told(share))
            metrics["hybrid"] = share.to_json()
    if found:
        rows = {"data": asked.data, "schema": given.schema, "columns": asked.columns}
        advice = to_try(found.below, folder, steps=result.steps, **rows)
        metrics |= as_metrics(found) | ({"try": advice} if advice else {})
    metrics |= {"notes": notes, "seconds": clock.seconds}
    write_json(folder / "metrics.json", metrics)
    if found:
        for line in (*verdict(found, advice), found.table()):
            say(line)
    for note in notes[result.still > STILL :]:
        say(note)
    if interrupted:
        say(f"Interrupted. The model so far: {folder / 'model'}. Continue: counterpoint fit --out {folder} --resume")
    else:
        report(folder, towers, given, say)
        say(f"Model: {folder / 'model'}")
        say("\n  ".join(["Next:", *next_commands(folder, given, towers)]))
    return metrics


STILL = 0.5
"""Share of steps without a gradient above which a run is said to have taught nothing."""


def taught_nothing(still: float) -> str:
    """The sentence for a run in which this share of the steps had no gradient."""
    what = "nothing" if still == 1 else "little"
    return (
        f"Training taught {what}: in {still:.0%} of the steps no gradient came. Either a batch holds nothing to "
        "contrast with (give a larger --batch), or positives and negatives are the same (see counterpoint data "
        "inspect)."
    )


def _watch(given: Given, metric: str) -> Callable[[Method], dict[str, float]]:
    """What measures the model while it is trained. metric: that which decides; without one, rows on which nothing can
    be measured are no reason to stop."""

    def watch(trained: Method) -> dict[str, float]:
        try:
            return {f.metric: f.value.value for f in measure(trained.towers(), given, beside=False).figures}
        except CounterpointError as error:
            if metric:
                raise
            warnings.warn(f"The model is not measured while it is trained. {error}", stacklevel=2)
            return {}

    return watch


def _check_metric(name: str, figures: Mapping[str, float]) -> None:
    if name not in figures:
        raise ConfigError(f"The evaluation gives no figure {name!r}. Type --metric with one of: {', '.join(figures)}.")


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(time.perf_counter() - start, 2)


def _silent(what: Any) -> None:
    """What the processes say that do not lead."""
