"""A run's folder: its settings, its figures, its checkpoints; never two runs in one."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from counterpoint.errors import ConfigError, ModelError
from counterpoint.files import write_json
from counterpoint.train import checkpoint
from counterpoint.train.checkpoint import Checkpoint
from counterpoint.train.config import TrainConfig

_HARMLESS = {
    "save_every", "keep", "log_every", "device", "progress", "tensorboard", "log_to", "prefetch", "stop_on_collapse",
}  # fmt: skip
"""Settings that may change at a resume without changing what is computed (on one kind of device)."""


class Run:
    """The folder of one run: ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/{step,best}-N``.

    Raises `ConfigError` where the folder already holds a run and neither resume nor overwrite was asked for.
    """

    def __init__(self, folder: Path, *, resume: bool, overwrite: bool) -> None:
        if resume and overwrite:
            raise ConfigError(
                "resume and overwrite contradict each other: one continues the run, the other deletes it."
            )
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self._own = (
            folder / "config.json",
            folder / "metrics.jsonl",
            self.checkpoints,
            folder / "tensorboard",
        )
        exists = any(path.exists() for path in self._own[:3])
        self.resumes, self._overwrite = resume and exists, overwrite
        if exists and not resume and not overwrite:
            raise ConfigError(
                f"The folder {folder} already holds a run. Add --resume (resume=True) to continue it, "
                "--overwrite (overwrite=True) to delete it and start again, or choose another folder."
            )

    def begin(self, config: TrainConfig, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder, delete the run it holds where asked; returns the settings as `write_settings` takes them.

        config: of the training. extra: what is written beside it.
        """
        settings = json.loads(json.dumps({"train": asdict(config), **extra}, default=str))
        path = self.folder / "config.json"
        try:
            if self._overwrite:
                for old in self._own:
                    shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            elif path.exists():
                _warn_of_changes(json.loads(path.read_text("utf-8")).get("train", {}), settings["train"])
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        return settings

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write ``config.json``; at a resume only once it has succeeded, so that a failed one loses nothing.

        settings: as JSON can hold them.
        """
        try:
            write_json(self.folder / "config.json", settings)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ModelError:
        return ModelError(f"The run folder {self.folder} cannot be written: {error}. Choose another one.")

    def newest(self) -> Checkpoint | None:
        """The last checkpoint that is whole, if there is one."""
        return checkpoint.newest(self.checkpoints)

    def save(
        self, step: int, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], *, keep: int
    ) -> None:
        """Write the checkpoint of a step, then drop all but the last ``keep`` and the best weights these refer to.

        groups, state: as of `counterpoint.train.checkpoint.save`.
        """
        checkpoint.save(self.checkpoints / f"step-{step:08d}", groups, state)
        steps = checkpoint.numbered(self.checkpoints, "step")
        # A checkpoint beyond this step was passed over as damaged: the run has gone back and is now making it anew.
        kept = [p for p in steps if checkpoint.number(p) <= step][-keep:]
        checkpoint.remove(p for p in steps if p not in kept)
        self._drop_best(step=None)

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Write the best weights so far. Those an older checkpoint refers to stay: a kill may lead back to it."""
        checkpoint.save(self.checkpoints / f"best-{step:08d}", {"model": weights}, {"step": step})
        self._drop_best(step=step)

    def has_best(self, step: int) -> bool:
        """Whether the best weights are there, those of this step."""
        return (self.checkpoints / f"best-{step:08d}").exists()

    def best(self, step: int) -> dict[str, Tensor]:
        """The best weights by name, those of this step."""
        return checkpoint.load(self.checkpoints / f"best-{step:08d}").groups["model"]

    def _drop_best(self, *, step: int | None) -> None:
        wanted = {step}
        for path in checkpoint.numbered(self.checkpoints, "step"):
            try:
                best = json.loads((path / "state.json").read_text("utf-8"))["best"]
                wanted.add(best["step"] if best else None)
            except (OSError, ValueError, KeyError):
                continue  # damaged: nothing will go back to it
        checkpoint.remove(
            p for p in checkpoint.numbered(self.checkpoints, "best") if checkpoint.number(p) not in wanted
        )


def _warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changes = [
        f"{name} {before[name]!r} -> {now[name]!r}"
        for name in sorted(before.keys() & now.keys() - _HARMLESS)
        if before[name] != now[name]
    ]
    if changes:
        warnings.warn(
            f"Resuming with other settings: {', '.join(changes)}. The run goes on from its checkpoint, but the result "
            "will not be that of a run that had these settings from the start.",
            stacklevel=4,
        )
