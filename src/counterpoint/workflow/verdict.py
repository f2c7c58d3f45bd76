"""What a model is worth beside baselines: the encoder that its training began with, and what to try where a baseline
does better."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from counterpoint.data.objects import IN_MEMORY
from counterpoint.data.schema import Schema
from counterpoint.encoders.bag_attention import BagEncoder
from counterpoint.encoders.base import Encoder, has_published_weights
from counterpoint.encoders.border import read_json
from counterpoint.errors import CounterpointError
from counterpoint.evaluate.result import Below, Evaluation
from counterpoint.evaluate.systems import BEFORE
from counterpoint.methods.base import discover
from counterpoint.modalities.text import TEXT
from counterpoint.workflow.choose import fits
from counterpoint.workflow.diagnose import READ
from counterpoint.workflow.models import load_towers
from counterpoint.workflow.run_folder import holds_run


def run_of(model: Path) -> Path | None:
    """The run folder that a path names, or whose model folder it is; None where it is of no run."""
    # A model folder may have a config.json too, that of transformers.
    return next((folder for folder in (model, model.parent) if holds_run(folder) and (folder / "model").is_dir()), None)


def begun_with(folder: Path | None, towers: Mapping[str, Encoder]) -> dict[str, Encoder] | None:
    """The encoders that the run in a folder began with, for all of these towers; None where they are not there, or
    embed other things (the instances of bags)."""
    if folder is None or not (folder / "start").is_dir():
        return None
    try:
        found = load_towers(folder / "start")
    except CounterpointError:
        return None
    same = all(
        stream in found and isinstance(found[stream], BagEncoder) == isinstance(tower, BagEncoder)
        for stream, tower in towers.items()
    )
    return {stream: found[stream] for stream in towers} if same else None


def verdict(found: Evaluation, advice: Sequence[str]) -> list[str]:
    """What is said before any figure where the model is below a baseline; nothing where it is not."""
    return [found.verdict, "\n  ".join(["What to try:", *advice])] if found.verdict else []


def to_try(
    below: Sequence[Below],
    model: Path,
    *,
    data: Sequence[str],
    schema: Schema | None,
    columns: Mapping[str, Any] | None = None,
    steps: int | None = None,
) -> list[str]:
    """Commands that may lift a model above the baselines it is below, each with what it does; none where it is above.

    model: the run folder or model folder. data, columns: the rows that it was measured on, or, while it is trained,
    learned from, and the parts of their columns where somebody named them. schema: theirs (None: judged queries).
    steps: of the training (None: what the run folder says).
    """
    if not below:
        return []
    schema = schema or Schema(kind="pairs", columns={}, modalities={"anchor": TEXT, "positive": TEXT})
    place, run = shlex.quote(str(model)), run_of(model)
    out = _trainings(run, below, schema, steps) if run else []
    if run is None:
        tuned = f"counterpoint fit TRAINING_ROWS --out {_beside(Path(model.name), 'tuned')} --encoder {place}"
        out.append(f"{tuned}  # teach it rows like these")
    if schema.kind in READ:
        out.append(f"counterpoint diagnose {place} {_rows(data, columns)}  # what ails the embeddings")
    if any(b.baseline == "bm25" for b in below):
        out.append(
            f'counterpoint index {place} ROWS && counterpoint search {place} "a question"  # with BM25 beside it'
        )
    return out


def _trainings(run: Path, below: Sequence[Below], schema: Schema, steps: int | None) -> list[str]:
    """Other trainings on the rows of a run: begun elsewhere, slower or longer, by other methods."""
    config = read_json(run / "config.json")
    if "asked" not in config:  # no run of `fit`
        return []
    asked = config["asked"]
    rows = _rows(asked["data"], asked["columns"]) + (f" --test {_rows(asked['test'])}" if asked["test"] else "")
    method = f" --method {asked['method']}" if asked["method"] != "auto" else ""
    out = []
    held = {*schema.modalities.values()}
    if len(held) == 1 and all(map(has_published_weights, held)) and config["begins"] in ("recipe", "scratch"):
        begun = f"counterpoint fit {rows}{method} --out {_beside(run, 'pretrained')} --encoder FOLDER_OR_HUB_ID"
        out.append(f"{begun}  # go on from weights that have seen more than these rows")
    if any(b.baseline == BEFORE and b.clear for b in below):
        slower = f"counterpoint fit {rows}{method} --out {_beside(run, 'slower')} --lr {config['train']['lr'] / 10:g}"
        out.append(f"{slower}  # the training made the encoder worse: smaller steps change it less")
    elif known := steps or _steps(run):
        longer = f"counterpoint fit --out {shlex.quote(str(run))} --resume --steps {2 * known}"
        out.append(f"{longer}  # twice as long")
    if others := [name for name, cls in discover().items() if name != config["method"] and fits(cls, schema)]:
        several = " ".join((config["method"], *others[:2]))
        out.append(f"counterpoint compare {several} --data {rows} --minutes 2  # other methods on the same rows")
    return out


def _steps(run: Path) -> int:
    """Of the training, as far as the run folder says; else 0."""
    path = run / "metrics.json"
    return int(read_json(path).get("steps") or 0) if path.exists() else 0


def _rows(data: Sequence[str], columns: Mapping[str, Any] | None = None) -> str:
    """Sources as on the command line, with the parts of their columns where somebody named them."""
    out = " ".join("ROWS" if name.startswith(IN_MEMORY) else shlex.quote(name) for name in data)
    parts = [(part, c) for part, held in (columns or {}).items() for c in ([held] if isinstance(held, str) else held)]
    return out + (f" --columns {shlex.quote(','.join(f'{part}={c}' for part, c in parts))}" if parts else "")


def _beside(folder: Path, what: str) -> str:
    return shlex.quote(f"{folder}-{what}")
