"""Where the figures of a run go: one protocol, ``log(values, step)``, and a small adapter for each place."""

from __future__ import annotations

import importlib.util
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from counterpoint.errors import MissingExtra, need
from counterpoint.files import write_text
from counterpoint.terminal import Console
from counterpoint.train.config import TrainConfig


class Logger(Protocol):
    """Where the figures of a run go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Figures by name (``loss``, ``loss/PART``, ``eval/METRIC``, ``lr``, ...) of one step.

        values: by name. step: the one they are of.
        """
        ...

    def close(self) -> None:
        """Write what is still held; nothing is logged afterwards."""
        ...


def loggers(
    config: TrainConfig, *, folder: Path | None, steps: int, step: int, settings: Mapping[str, Any]
) -> list[Logger]:
    """Every place this run logs to; ``step`` is where it goes on after a resume (0: from the start).

    config: of the training. folder: of the run (None: none). steps: of the run. settings: what is told beside the
    figures.
    """
    out: list[Logger] = []
    if folder is not None:
        out.append(JsonLines(folder / "metrics.jsonl", after=step))
        if config.tensorboard and importlib.util.find_spec("tensorboard") is not None:
            out.append(TensorBoard(folder / "tensorboard", after=step))
    adapters: dict[str, Callable[[Path | None, Mapping[str, Any]], Logger]] = {"wandb": WandB, "mlflow": MLflow}
    out += [adapters[name](folder, settings) for name in config.log_to]
    if config.progress:
        console = Console(stderr=True)
        out.append(Live(console, steps, step) if console.is_terminal else Lines(console, steps))
    return out


class JsonLines:
    """One JSON object per logged step. After a resume, what a killed run wrote beyond its checkpoint is dropped.

    path: of the file. after: the step up to which lines stay.
    """

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self._path = path
        if path.exists():
            kept = [line for line in path.read_text("utf-8").splitlines() if _step(line) <= after] if after else []
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Append a line. A figure that is not finite is null. values: by name. step: the one they are of."""
        # JSON has no NaN and no infinity.
        record = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            self._file.write(json.dumps(record) + "\n")
        except OSError as error:
            warnings.warn(f"{self._path} could not be written: {error}. Training goes on.", stacklevel=2)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _step(line: str) -> float:
    """The step of a line; infinite for the torn last line of a killed run."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class TensorBoard:
    """Event files for TensorBoard. folder: where they go. after: the step behind which earlier ones do not count."""

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        need("tensorboard", "logs")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger.log`: a scalar for each of the values, by name, of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandB:
    """A run at Weights & Biases. folder: for its files (None: the usual place). settings: shown beside the figures."""

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self._run = _package("wandb").init(
            dir=None if folder is None else str(folder),
            name=None if folder is None else folder.name,
            config=dict(settings),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger.log`: values by name, of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """End the run there."""
        self._run.finish()


class MLflow:
    """A run of MLflow. folder: gives it its name (None: none). settings: kept as ``config.json``."""

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self._mlflow = _package("mlflow")
        self._mlflow.start_run(run_name=None if folder is None else folder.name)
        self._mlflow.log_dict(dict(settings), "config.json")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger.log`: values by name, of a step; ``@``, which it does not take, as ``_at_``."""
        # MLflow's names know no "@", as in ndcg@10.
        self._mlflow.log_metrics({k.replace("@", "_at_"): v for k, v in values.items()}, step=step)

    def close(self) -> None:
        """End the run there."""
        self._mlflow.end_run()


def _package(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        raise MissingExtra(
            f"Logging to {name} needs the package {name!r}, which is not installed. Type: pip install {name}"
        )
    return importlib.import_module(name)


class Lines:
    """For a log file: a line at the first reading, at each evaluation, at the end, and every ten seconds.

    console: where to. steps: of the run. every: seconds between two lines.
    """

    def __init__(self, console: Console, steps: int, *, every: float = 10.0) -> None:
        self._console, self._steps, self._every = console, steps, every
        self._last = -math.inf

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger.log`: a line, where it is time for one, of the values of a step."""
        now = time.monotonic()
        evaluated = any(k.startswith("eval/") for k in values)
        if evaluated or step == self._steps or now - self._last >= self._every:
            self._last = now
            self._console.print(f"step {step}/{self._steps}  {describe(values)}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is held."""


class Live:
    """For a terminal: a line that moves with every step, and a line that stays for each evaluation.

    console: where to. steps: of the run. step: the one it goes on after.
    """

    def __init__(self, console: Console, steps: int, step: int) -> None:
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=steps, completed=step)
        self._progress.start()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Logger.log`: move the line; one that stays where values of an evaluation are among those of the step."""
        self._progress.update(self._task, completed=step, description=describe(values))
        if any(k.startswith("eval/") for k in values):
            self._progress.console.print(f"step {step}  {describe(values)}", highlight=False)

    def close(self) -> None:
        """Stop the line."""
        self._progress.stop()


def describe(values: Mapping[str, float]) -> str:
    """One line: the loss and its parts, the evaluation, the speed.

    values: by name.

    >>> describe({"loss": 1.25, "loss/rank": 1.25, "rows_per_s": 2048.0, "eval/mrr@10": 0.5, "epoch": 0.5})
    'loss 1.250  mrr@10 0.5000  epoch 0.50  2,048 rows/s'
    """
    parts = {k.removeprefix("loss/"): v for k, v in values.items() if k.startswith("loss/")}
    words: Sequence[str] = [
        *([f"loss {values['loss']:.3f}"] if "loss" in values else []),
        *([f"({', '.join(f'{k} {v:.3f}' for k, v in parts.items())})"] if len(parts) > 1 else []),
        *(f"{k.removeprefix('eval/')} {v:.4f}" for k, v in values.items() if k.startswith("eval/")),
        *([f"epoch {values['epoch']:.2f}"] if "epoch" in values else []),
        *([f"{values['rows_per_s']:,.0f} rows/s"] if "rows_per_s" in values else []),
    ]
    return "  ".join(words)
