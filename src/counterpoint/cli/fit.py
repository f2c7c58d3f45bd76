"""`counterpoint fit`: from raw rows to a trained, measured, reported encoder."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from counterpoint.cli.pairs import columns as column_parts
from counterpoint.cli.pairs import key_values
from counterpoint.train import config as train_config
from counterpoint.train.config import TrainConfig


def field_docs(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass, which is where this library documents settings."""
    body = ast.parse(inspect.getsource(cls)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: ast.unparse(doc.value)[1:-1].replace("\\n", " ")
        for field, doc in zip(body, body[1:])
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(field.target, ast.Name)
    }


def overrides() -> type:
    """TrainConfig with every field optional: what is left out comes from the recipe."""
    hints, docs = typing.get_type_hints(TrainConfig, vars(train_config)), field_docs(TrainConfig)
    fields: list[Any] = []
    for f in dataclasses.fields(TrainConfig):
        kind = Annotated[hints[f.name] | None, arg(help=f"{docs.get(f.name, '')} (None: the recipe's)")]
        fields.append((f.name, kind, dataclasses.field(default=None)))
    return dataclasses.make_dataclass("Train", fields, frozen=True, kw_only=True)


Train = overrides()


def fit(
    data: Positional[tuple[str, ...]],
    /,
    *,
    out: Path,
    method: str = "auto",
    columns: tuple[str, ...] = (),
    encoder: str = "auto",
    test: tuple[str, ...] = (),
    size: Literal["small", "published", "smoke"] = "small",
    set: tuple[str, ...] = (),
    config: Path | None = None,
    split: str | None = None,
    streaming: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    train: OmitArgPrefixes[Train] = Train(),  # type: ignore[valid-type]
) -> None:
    """Train an encoder on your rows, measure it beside a baseline, write its model folder and its report.

    When no method is named, the columns decide, and it says which and why: one text -> unsupervised text contrast;
    anchor and positive -> in-batch ranking; a, b and score -> graded similarity; text or image and label -> supervised
    contrast; images -> image self-supervision; image and text -> two towers.

    Example: counterpoint fit pairs.jsonl --out runs/mine --columns anchor=question,positive=answer --epochs 3

    Args:
        data: files (jsonl, csv, tsv, parquet, arrow, txt, webdataset .tar), globs, a folder of images, a folder that
            `datasets` saved, the name of a registered set, or a hub id.
        out: the run folder to write.
        method: which method (auto: the columns decide). `counterpoint methods` lists them.
        columns: which column plays which part, e.g. anchor=question,positive=answer.
        encoder: auto (the recipe's), static, transformer (from scratch), or a model folder or hub id to start from.
        test: rows to measure on (none: a part of the data is held out).
        size: which recipe of the method to start from: small (a laptop), published (the paper's) or smoke.
        set: settings of the method, KEY=VALUE (`counterpoint methods NAME` lists them).
        config: a YAML or JSON file with settings of the training run (or the config.json of an earlier run).
        split: which split of the data (none: train where there are several).
        streaming: read row by row, for data that does not fit on the disk or in memory.
        resume: continue the run in this folder.
        overwrite: delete the run in this folder and start again.
        train: settings of the training run.
    """
    from counterpoint.workflow.fit import fit as run

    given = read_config(config) if config else {}
    given |= {k: v for k, v in dataclasses.asdict(train).items() if v is not None}  # type: ignore[call-overload]
    run(
        list(data),
        out=out,
        method=method,
        columns=column_parts(columns),
        encoder=encoder,
        test=list(test),
        size=size,
        settings=key_values(set, "--set"),
        train=given,
        split=split,
        streaming=streaming or None,
        resume=resume,
        overwrite=overwrite,
    )


def read_config(path: Path) -> dict[str, Any]:
    """Settings of the training run from a YAML or JSON file; a run's config.json holds them under ``train``."""
    import yaml

    from counterpoint.errors import ConfigError

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"The settings in {path} cannot be read: {error}") from error
    values = values.get("train", values) if isinstance(values, dict) else values
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    if not isinstance(values, dict) or not set(values) <= known:
        wrong = sorted(set(values) - known) if isinstance(values, dict) else type(values).__name__
        raise ConfigError(
            f"{path} should hold settings of the training run; {wrong} is none. Known: {', '.join(sorted(known))}."
        )
    return values
