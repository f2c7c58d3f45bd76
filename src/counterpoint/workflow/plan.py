"""What is going to be trained: the method, its encoders, its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from counterpoint.data.log import Log
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.lora import adapt
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe
from counterpoint.modalities.series import SERIES
from counterpoint.modalities.text import TEXT
from counterpoint.train.config import TrainConfig
from counterpoint.train.setup import find_device
from counterpoint.workflow.advice import Start, start_for
from counterpoint.workflow.batching import fitting
from counterpoint.workflow.choose import choose, configured
from counterpoint.workflow.gather import MOST_HELD, Given, spread
from counterpoint.workflow.models import SETTINGS, Beginning, choice_for, make_encoder
from counterpoint.workflow.run_folder import Asked
from counterpoint.workflow.series import sized

SIZES = ("small", "published", "smoke")
FOR_PRETRAINED = 1e-4
"""A learning rate below this is one for an encoder that was trained before."""


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


def make_plan(asked: Asked, given: Given, start: tuple[Path, Beginning] | None, *, begun: bool) -> Plan:
    """The method the rows call for, its encoders and its settings.

    start: the folder of the encoders that the run began with, and how they had begun; None: encoders are made.
    """
    if asked.size not in SIZES:
        raise ConfigError(f"There is no recipe of the size {asked.size!r}. Type one of: {', '.join(SIZES)}.")
    cls, why = choose(given.schema, given.rows, asked.method)
    recipe = cls.recipe(asked.size)
    config = configured(cls, knowing(recipe.config, given), asked.settings)
    advice = _advice(asked, given, recipe)
    torch.manual_seed(asked.train.get("seed", recipe.train.seed))  # encoders and heads are drawn here
    towers: dict[str, Encoder] = {}
    begins: Beginning = "recipe"
    for stream in given.modalities:
        base = recipe.encoder_of(stream)
        choice = str(start[0]) if start else choice_for(stream, asked.encoder, given.modalities)
        choice, base = (advice.choice, advice.of(base)) if choice == "auto" else (choice, base)
        towers[stream], how = make_encoder(stream, choice, base, given.rows, smoke=asked.size == "smoke")
        if stream not in cls.kept(config):
            begins = how
        elif how != "pretrained":
            given.log.note(
                f"The method {cls.spec.name} keeps the {stream} tower as it is, and this one was never trained: what "
                f"it lends is worth little. Name one that was: --encoder {stream}=FOLDER, or {stream}= and a hub id."
            )
    begins = start[1] if start else begins
    if asked.lora:
        begins = with_adapters(towers, asked.lora, begins, keeps=cls.kept(config), log=given.log)
    model: Any = towers if "towers" in cls.spec.needs else next(iter(towers.values()))
    learner = cls(model, config)
    if given.schema.kind == SERIES:  # the method has said by now how long its windows are
        given.rows, held = sized(given.rows, learner.encoder)
        given.held = spread(held, MOST_HELD)
    train = dataclasses.replace(recipe.train, **{**SETTINGS[begins], **advice.train, **asked.train})
    if "batch" not in asked.train:
        train = fitting(train, given.rows, given.log)
    if asked.size == "published" and begins == "recipe" and train.lr < FOR_PRETRAINED and TEXT in towers:
        given.log.note(
            "The published recipe goes on from a pretrained encoder; this one starts from random weights, for which "
            f"its learning rate of {train.lr:g} is small. Name one: --encoder FOLDER, or a hub id."
        )
    return Plan(cls.spec.name, f"{why} {advice.why}".strip(), learner, towers, train, begins, begun)


def _advice(asked: Asked, given: Given, recipe: Recipe) -> Start:
    """Also in a resumed run, and the same there: its settings follow from the same rows."""
    if asked.encoder != "auto" or asked.size != "small" or list(given.modalities) != [TEXT]:
        return Start()
    rows = None if isinstance(given.rows, Stream) else len(given.rows)
    device = find_device(str(asked.train.get("device", recipe.train.device))).type
    return start_for(rows, recipe.encoder_of(TEXT), device=device)


def with_adapters(
    towers: Mapping[str, Encoder], rank: int, begins: Beginning, *, keeps: Collection[str], log: Log
) -> Beginning:
    """Adapters of this rank in every tower that learns; raises `ConfigError` where the towers were never trained."""
    if begins not in ("pretrained", "adapted"):
        raise ConfigError(
            f"--lora {rank} keeps the weights that an encoder has, and this one would begin with random ones. Name one "
            "that was trained: --encoder FOLDER, or a hub id."
        )
    for stream, encoder in towers.items():
        if stream not in keeps:
            learns = adapt(encoder, rank)
            log.note(f"Adapters of rank {rank} in the {stream} encoder: {learns:,} of its weights learn.")
    return "adapted"


def knowing(config: Any, given: Given) -> Any:
    """The method's settings with what only the rows know, where it asks for that: the names of their classes, those of
    their sources, what each source holds."""
    asked = {f.name for f in dataclasses.fields(config)}
    if "labels" in asked:
        config = dataclasses.replace(config, labels=given.schema.labels)
    if "sources" in asked:
        config = dataclasses.replace(config, sources=given.schema.sources)
    if "parts" in asked:
        config = dataclasses.replace(config, parts=dict(zip(given.schema.sources, given.schema.parts)))
    return config
