"""The folder of a `fit`: what may be replaced in it, and what was asked for, so that a resume asks for the same."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from counterpoint.data.files.options import AS_FOUND
from counterpoint.encoders.border import read_json
from counterpoint.errors import ConfigError
from counterpoint.train import checkpoint
from counterpoint.train.run import Run
from counterpoint.train.team import restarts
from counterpoint.workflow.models import Beginning

DERIVED = ("model", "start", "report", "index", "metrics.json", "report.html")
"""What `fit`, and the verbs after it, write beside the files of the training run."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `fit` was asked for; see there."""

    data: list[str]
    method: str = "auto"
    columns: dict[str, Any] = field(default_factory=dict)
    encoder: str = "auto"
    lora: int = 0
    test: list[str] = field(default_factory=list)
    size: str = "small"
    settings: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    streaming: bool | None = None
    reading: dict[str, Any] = field(default_factory=lambda: asdict(AS_FOUND))


def refuse(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse, before anything is read, what the folder does not allow: a second run, a resume of nothing."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file; --out names the folder to write.")
    if overwrite and restarts():
        raise ConfigError(
            "With --overwrite, every restart of the launcher (torchrun --max-restarts) would delete the run and begin "
            "again. Delete the folder yourself and give --resume instead, which begins where there is no run yet."
        )
    run = Run(folder, resume=resume, overwrite=overwrite)
    if resume and not run.resumes:
        raise ConfigError(f"There is no run in {folder} to resume. Leave --resume out to begin one.")
    if not resume and not overwrite and (folder / "model").exists():
        raise ConfigError(
            f"The folder {folder} already holds a model. Choose another folder, or add --overwrite to replace it."
        )


def continued(folder: Path, asked: Asked) -> Asked:
    """What the run in the folder was asked for, with the training settings that are new.

    Raises `ConfigError` where something else was asked for then, and where the run is over.
    """
    config = read_json(folder / "config.json")
    if "asked" not in config:
        raise ConfigError(f"The run in {folder} was not made by `counterpoint fit`, which therefore cannot resume it.")
    before = Asked(**config["asked"])
    nothing = Asked(data=[])
    for f in fields(Asked):
        then, now, none = getattr(before, f.name), getattr(asked, f.name), getattr(nothing, f.name)
        # Files may have moved; that they hold the same rows is checked when the position among them is restored.
        if f.name not in ("data", "train") and now not in (then, none):
            raise ConfigError(
                f"The run in {folder} was begun with {f.name} {then!r}, which --resume cannot change to {now!r}. Leave "
                f"that out to continue the run, or add --overwrite instead of --resume to begin another."
            )
    if _finished(folder) and not asked.train:
        raise ConfigError(
            f"The run in {folder} is finished: there is nothing to resume. To train longer, give more --epochs or "
            "--steps; to begin again, add --overwrite instead of --resume."
        )
    return replace(before, data=asked.data or before.data, train={**before.train, **asked.train})


def _finished(folder: Path) -> bool:
    """Whether the run ended by itself, and was not begun again to train longer."""
    if not (folder / "metrics.json").exists() or not _has_page(folder):
        return False
    metrics = read_json(folder / "metrics.json")
    newest = max(map(checkpoint.number, checkpoint.numbered(folder / "checkpoints", "step")), default=0)
    return metrics.get("stopped") != "interrupted" and newest <= metrics.get("steps", 0)


def _has_page(folder: Path) -> bool:
    """Whether the page of the run was written, or cannot be; a run that was killed while it was is measured again."""
    return (folder / "report.html").exists() or importlib.util.find_spec("plotly") is None


def holds_run(folder: Path) -> bool:
    """Whether a run was begun there."""
    return (folder / "config.json").exists()


def began(folder: Path) -> Beginning:
    """How the encoders of the run in the folder began."""
    return read_json(folder / "config.json")["begins"]  # type: ignore[no-any-return]


def learned_from(folder: Path, data: Sequence[str]) -> list[str]:
    """Those of the sources that the run in the folder learned from; none where the folder is of no run of `fit`."""
    asked = read_json(folder / "config.json").get("asked", {}) if holds_run(folder) else {}
    known = {str(Path(source).resolve()) for source in asked.get("data", ())}
    return [source for source in data if str(Path(source).resolve()) in known]


def has_checkpoint(folder: Path) -> bool:
    """Whether a run got as far as to save something that can be continued."""
    return bool(checkpoint.numbered(folder / "checkpoints", "step"))


def clear(folder: Path) -> None:
    """Take away the run that is there and all that came of it."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # first: without them nothing can be half a run
    for path in (folder / name for name in DERIVED):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def as_json(asked: Asked) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(asked)))  # type: ignore[no-any-return]  # tuples as the lists they come back as
