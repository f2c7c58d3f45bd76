"""`counterpoint fit`: from raw rows to a trained, measured, reported encoder."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, arg

from counterpoint.cli.options import AS_FOUND, Data, File, Name, Pairs, Read, Sources, key_values
from counterpoint.cli.options import columns as column_parts
from counterpoint.errors import ConfigError
from counterpoint.train import config as train_config
from counterpoint.train.config import TrainConfig


def field_docs(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass, which is where this library documents settings."""
    body = ast.parse(inspect.getsource(cls)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: " ".join(ast.literal_eval(doc.value).split())
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(field.target, ast.Name)
    }


def metavar(hint: Any) -> str:
    """What stands for a value in the help."""
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if origin is tuple:
        return metavar(arguments[0]) + ("..." if arguments[-1] is ... else f" {metavar(arguments[-1])}")
    if origin is dict:
        return "NAME ROWS..." if arguments[-1] is int else "PATTERN FACTOR..."
    if origin is not None:  # a value or None
        return metavar(arguments[0])
    return {bool: "{True,False}", str: "NAME"}.get(hint, hint.__name__.upper())


def overrides() -> type:
    """TrainConfig with every field optional: what is left out comes from the recipe."""
    hints, docs = typing.get_type_hints(TrainConfig, vars(train_config)), field_docs(TrainConfig)
    fields: list[Any] = []
    for f in dataclasses.fields(TrainConfig):
        hint: Any = hints[f.name]
        shown = arg(help=docs.get(f.name, ""), help_behavior_hint="", metavar=metavar(hint))
        fields.append((f.name, Annotated[hint | None, shown], dataclasses.field(default=None)))
    return dataclasses.make_dataclass("Train", fields, frozen=True, kw_only=True)


Train = overrides()
NONE_GIVEN = Train()


def fit(
    data: Data = (),
    /,
    *,
    out: Annotated[Path, arg(metavar="RUN")],
    method: Annotated[str, arg(metavar="NAME")] = "auto",
    columns: Pairs = (),
    encoder: Annotated[str, arg(metavar="NAME")] = "auto",
    lora: Annotated[int, arg(metavar="RANK")] = 0,
    test: Sources = (),
    size: Literal["small", "published", "smoke"] = "small",
    set: Pairs = (),
    config: File = None,
    split: Name = None,
    streaming: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    files: Read = AS_FOUND,
    train: OmitArgPrefixes[Train] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Train an encoder on your rows, measure it beside cheap baselines, write its model folder and its report.

    When no method is named, the columns decide, and it says which and why: one text -> unsupervised text contrast;
    anchor and positive -> in-batch ranking; a, b and score -> graded similarity; text or image and label -> supervised
    contrast; images -> image self-supervision; image and text -> two towers.

    Example: counterpoint fit pairs.jsonl --out runs/mine --columns anchor=question,positive=answer --epochs 3

    Args:
        data: files (jsonl, csv, tsv, parquet, arrow, txt, webdataset .tar), globs, such files in a store (s3://, gs://,
            https://), a folder of images, a folder that `datasets` saved, the name of a registered set (`counterpoint
            data` lists them), or a hub id.
        out: the run folder to write.
        method: which method (auto: the columns decide). `counterpoint methods` lists them.
        columns: which column plays which part, e.g. anchor=question,positive=answer (none: names and types decide).
            With range=0..5, scores outside of it are refused.
        encoder: auto (the recipe's), static, transformer (from scratch; a word that does not suit the rows is answered
            with those that do), or a model folder or hub id to start from; for rows of two modalities also one for
            each: text=FOLDER,image=auto.
        lora: with a model to start from: keep its weights, and learn low-rank adapters of this rank beside them (e.g.
            16; 0: learn the weights themselves). The model folder holds the sum of both.
        test: rows to measure on (none: a part of the data is held out).
        size: which recipe of the method to start from: small (a laptop), published (the paper's) or smoke (a trial).
        set: settings of the method (`counterpoint methods NAME` lists them).
        config: a YAML or JSON file with settings of the training run, or the config.json of an earlier run.
        split: which split of the data (none: train where there are several).
        streaming: read piece by piece, for data that fits neither the disk nor memory (docs: At scale).
        resume: continue the run in this folder; whatever is left out is as it was.
        overwrite: replace the run in this folder.
        files: how files are read, where that is not found by looking at them.
        train: settings of the training run; those left out are the recipe's.
    """
    from counterpoint.workflow.fit import fit as run

    given = read_config(config) if config else {}
    given |= {k: v for k, v in dataclasses.asdict(train).items() if v is not None}  # type: ignore[call-overload]
    found = run(
        data,
        out=out,
        method=method,
        columns=column_parts(columns),
        encoder=encoder,
        lora=lora,
        test=test,
        size=size,
        settings=key_values(set, "--set"),
        train=given,
        split=split,
        streaming=streaming or None,
        reading=files.reading(),
        resume=resume,
        overwrite=overwrite,
    )
    return 130 if found.result.stopped == "interrupted" else 0


def read_config(path: Path) -> dict[str, Any]:
    """Settings of the training run from a YAML or JSON file; a run's config.json holds them under ``train``."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        # Not one parser for both: YAML 1.1 takes the 2e-05 that JSON writes for a word.
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"The settings in {path} cannot be read: {error}") from error
    values = values.get("train", values) if isinstance(values, dict) else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path} should hold settings of the training run as NAME: VALUE, for example: epochs: 3")
    return values
