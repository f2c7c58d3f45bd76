"""What a run tells: its settings for ``config.json``, its page, what can be typed next."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from counterpoint._version import __version__
from counterpoint.data.objects import IN_MEMORY
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM
from counterpoint.errors import MissingExtra, ModelError, NotFiniteError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.base import of
from counterpoint.report import page
from counterpoint.report.collect import collect
from counterpoint.workflow.gather import Given
from counterpoint.workflow.plan import Plan
from counterpoint.workflow.run_folder import Asked, as_json


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
        "asked": as_json(asked),
    }


def report(folder: Path, towers: Mapping[str, Encoder], given: Given, say: Callable[[str], None]) -> None:
    """The page of the run; a missing extra is told, not raised: the model is there."""
    read = [stream for stream, encoder in towers.items() if modalities.of(encoder.modality).written]
    stream = next(iter(read or towers))  # points that can be read, where there are any
    keys = [k for k, m in given.schema.modalities.items() if m in stream.split(modalities.JOINED)]
    key = keys[0] if keys else None
    shown = [r for r in given.held if keys and all(r.get(k) is not None for k in keys)]
    if key and shown:
        items = shown if modalities.JOINED in stream else [r[key] for r in shown]
        bags = isinstance(items[0], list)  # of which no one item is shown
        show = None if bags else of(towers[stream].modality).shown
        try:
            vectors = towers[stream].encode(items, normalize=True)
        except NotFiniteError as error:  # told where the model was measured; the page has the curves
            say(f"The report shows no neighbours and no map. {error}")
        else:
            names = [r[key] if isinstance(r[key], str) else f"row {r['row']}" for r in shown]
            groups = [given.schema.labels[r["label"]] for r in shown] if given.schema.labels else None
            collect(folder, vectors, names, groups=groups, show=(lambda i: show(items[i])) if show else None)
    try:
        say(f"Report: {page.write(folder)}")
    except MissingExtra as error:
        say(f"No report was written. {error}")


def next_commands(folder: Path, given: Given, towers: Mapping[str, Encoder]) -> list[str]:
    """What can be typed now."""
    then = [line.replace("{run}", str(folder)) for e in towers.values() for line in modalities.of(e.modality).then]
    if all(modalities.of(e.modality).shape == "whole" for e in towers.values()):
        return then
    if given.schema.kind == "bags":
        load = f"from counterpoint.encoders.folder import load; load('{folder}/model').classify(bags)"
        return [
            f"counterpoint eval {folder} TEST_ROWS",
            f"python: {load}  # or encode, attend; bags: lists of items",
        ]
    stream = f" --stream {next(iter(towers))}" if len(towers) > 1 else ""
    lines = [f"counterpoint encode {folder} ROWS --out vectors.npy{stream}"]
    if given.schema.kind not in ("texts", "items"):  # rows like these hold something to measure against
        lines.insert(0, f"counterpoint eval {folder} TEST_ROWS")
    if any(isinstance(encoder, CausalLM) for encoder in towers.values()):
        lines.insert(0, f'counterpoint generate {folder} "The beginning of a text"')
    lines += then
    if is_exportable(next(iter(towers.values()))):
        lines.append(f"counterpoint export {folder} --to onnx --out model.onnx{stream}")
    return lines


def is_exportable(encoder: Encoder) -> bool:
    """Whether an ONNX file can be made of it."""
    try:
        encoder.traced()
    except ModelError:
        return False
    return True


def title(data: list[str]) -> str:
    """The source in a title: its name, or how many there are."""
    return Path(data[0]).name.removeprefix(IN_MEMORY) if len(data) == 1 else f"{len(data)} sources"


def versions() -> dict[str, str]:
    named = ("torch", "transformers", "tokenizers", "datasets", "numpy")
    return {"counterpoint": __version__, "python": platform.python_version()} | {n: version(n) for n in named}
