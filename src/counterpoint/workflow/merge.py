"""Runs of one encoder that began alike, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, ModelError
from counterpoint.train.merge import Part, Weighing
from counterpoint.train.merge import merge as merged
from counterpoint.workflow.models import load_towers, save_towers


def merge(
    runs: Sequence[Path | str],
    *,
    out: Path | str,
    by: Weighing = "delta",
    each: Part = "tensor",
    overwrite: bool = False,
) -> dict[str, Encoder]:
    """One model of those of several run folders, written to ``out``; returns its encoders, by modality.

    The function behind ``counterpoint merge``. runs: folders that `fit` wrote. by, each: how they are weighed, see
    `counterpoint.train.merge`. overwrite: replace what is there. Raises `ModelError` where the runs did not begin
    with the same weights (``uniform`` needs only that they have the same ones), `ConfigError` for fewer than two.
    """
    out = Path(out)
    if len(runs) < 2:
        raise ConfigError("One run is no mixture. Give the folders of two or more runs.")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists. Name another folder, or add --overwrite to replace it.")
    found = [load_towers(run) for run in runs]
    for run in runs:
        if not (Path(run) / "start").is_dir():
            raise ModelError(f"{run} is no run of `counterpoint fit`: it does not hold what the run began with.")
    starts = [load_towers(Path(run) / "start") for run in runs]
    for stream, encoder in found[0].items():
        if any(set(towers) != set(found[0]) for towers in found):
            raise ModelError(f"The runs encode unlike things: {', '.join('+'.join(towers) for towers in found)}.")
        states = [towers[stream].state_dict() for towers in found]
        begun = [towers[stream].state_dict() for towers in starts]
        for run, other in zip(runs[1:], begun[1:]):
            alike = begun[0].keys() == other.keys() and all(torch.equal(begun[0][k], v) for k, v in other.items())
            if not alike and by != "uniform":
                raise ModelError(
                    f"{runs[0]} and {run} did not begin with the same weights, so how far each went says nothing of "
                    "the other. Begin the runs with one model (--encoder FOLDER), or with one --seed on the same rows."
                )
        encoder.load_state_dict(merged(begun[0], states, by=by, each=each))
    save_towers(found[0], out)
    return found[0]
