"""`counterpoint eval`: an encoder's figures on data, beside named baselines, with intervals."""

from __future__ import annotations

import json as writer
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tyro.conf import arg

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Names, Pairs, Read, Sources
from counterpoint.cli.options import columns as column_parts
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterpoint.data.files.options import Reading
    from counterpoint.data.log import Log
    from counterpoint.data.schema import Row, Schema
    from counterpoint.data.sets.beir import Retrieval
    from counterpoint.encoders.base import Encoder
    from counterpoint.terminal import Console

Dtype: TypeAlias = Literal["float32", "float16", "int8", "binary", "ubinary"]


def evaluate(
    model: Model,
    data: Data,
    /,
    *,
    columns: Pairs = (),
    split: Name = None,
    train: Sources = (),
    baselines: Names = (),
    tokenizer: Literal["words", "code"] = "words",
    limit: int = 20_000,
    train_limit: int = 5_000,
    dim: Annotated[tuple[int, ...], arg(metavar="N...", help_behavior_hint="")] = (),
    dtype: Annotated[tuple[Dtype, ...], arg(metavar="TYPE...", help_behavior_hint="", aliases=["--precision"])] = (),
    json: File = None,
    files: Read = AS_FOUND,
) -> None:
    """Measure an encoder. The data decide the task: retrieval, similarity, classification and clustering, pairs.

    A folder with corpus, queries and qrels (BEIR's layout): nDCG@10, MRR@10, recall, MAP. Columns a, b, score: Spearman
    and Pearson; where every score is 0 or 1: average precision, F1. Text or image and label: kNN, linear probe,
    clustering. Anchor and positive: retrieval of the positive. Image and text: retrieval both ways.

    Example: counterpoint eval runs/mine test.jsonl

    Example: counterpoint eval runs/mine test.jsonl --dtype int8 binary --dim 384 128

    With --dim or --dtype it prints one table instead: quality, quality lost, bytes per vector, bytes saved.

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: a BEIR folder, a registered set (`counterpoint data` lists them), or files of rows as for `fit`.
        columns: which column plays which part, e.g. anchor=question,positive=answer (none: names and types decide).
            With range=0..5, scores outside of it are refused.
        split: which split of the data (none: test where there are several).
        train: labelled rows to learn the probe from (none: 70 % of the data).
        baselines: names of baselines to measure beside (none: those usual for the task).
        tokenizer: what a word is for BM25: words, or code (identifiers split into parts).
        limit: most rows measured on, spread evenly.
        train_limit: most training rows, spread evenly; the model's probe and the baselines learn from the same.
        dim: measure vectors cut to so many dimensions (several: each).
        dtype: measure vectors kept as float32, float16, int8, binary or ubinary (several: each; with every --dim).
        json: also write the figures to this file.
        files: how files are read, where that is not found by looking at them.
    """
    from counterpoint.data.log import Log
    from counterpoint.encoders.base import Encoder
    from counterpoint.evaluate.cheap import costs
    from counterpoint.evaluate.evaluate import evaluate as run
    from counterpoint.terminal import sentences
    from counterpoint.workflow.gather import rows_like, spread
    from counterpoint.workflow.models import load_towers
    from counterpoint.workflow.verdict import begun_with, run_of, to_try, verdict

    towers, log, reading = load_towers(model), Log(), files.reading()
    console = sentences()
    found = retrieval(data, split)
    known: Sequence[Row] | None = None
    schema: Schema | None = None
    measured: Retrieval | Sequence[Row]
    if found is not None:
        measured = found
        encoder: Encoder | Mapping[str, Encoder] = fitting(towers, [TEXT], model)
    else:
        schema, measured = rows_to_measure(
            model, data, train, columns=column_parts(columns), split=split, limit=limit, log=log, reading=reading
        )
        if train:
            known = spread(rows_like(schema, train, part="train", log=log, reading=reading), train_limit)
        encoder = fitting(towers, sorted(set(schema.modalities.values())), model)
        console.print(f"Measured as {schema.why}")
    for line in log.lines():
        console.print(line)
    if dim or dtype:
        costly = costs(encoder, measured, dims=dim, dtypes=dtype or ("float32",), train=known)
        console.print(costly.table(name=model.name))
        for note in costly.notes:
            console.print(note)
        return _write(costly.to_json(), json, console)
    start = begun_with(run_of(model), towers)
    first = start if start is None or not isinstance(encoder, Encoder) else start[encoder.modality]
    result = run(
        encoder,
        measured,
        train=known,
        start=first,
        baselines=baselines or None,
        tokenizer=tokenizer,
        most=train_limit,
    )
    advice = to_try(result.below, model, data=data, schema=schema, columns=column_parts(columns))
    for line in (*verdict(result, advice), result.table(name=model.name), *result.notes):
        console.print(line)
    _write(result.to_json() | ({"try": advice} if advice else {}), json, console)


def _write(figures: dict[str, Any], path: Path | None, console: Console) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(writer.dumps(figures, indent=2), encoding="utf-8")
        console.print(f"Written to {path}")


def retrieval(data: Sequence[str], split: str | None) -> Retrieval | None:
    """The retrieval set that the data are, if they are one."""
    from counterpoint.data.sets import registry
    from counterpoint.data.sets.beir import read_beir

    if len(data) != 1:
        return None
    if data[0] in registry.ENTRIES and registry.ENTRIES[data[0]].task == "retrieval":
        return registry.load(data[0], split)  # type: ignore[return-value]  # of this task it is one
    folder = Path(data[0])
    return read_beir(folder, split=split or "test") if any(folder.glob("corpus.jsonl*")) else None


def rows_to_measure(
    model: Path,
    data: Sequence[str],
    train: Sequence[str],
    *,
    columns: dict[str, str | list[str]],
    split: str | None,
    limit: int,
    log: Log,
    reading: Reading,
) -> tuple[Schema, list[Row]]:
    """The rows and the parts of their columns; classes are those of the training rows, where there are some. Rows that
    the model was trained on are told."""
    from counterpoint.data.files.read import read
    from counterpoint.data.infer import infer
    from counterpoint.data.sets import registry
    from counterpoint.workflow.gather import rows_like, spread
    from counterpoint.workflow.run_folder import learned_from

    first = list(train or data)
    whole = read(first, split=None if train else split or "all", streaming=False, reading=reading)
    schema = infer(whole, columns=registry.parts(first, columns))
    if "split" not in whole.column_names and (seen := learned_from(model, data)):
        log.note(
            f"{model} was trained on rows of {', '.join(seen)}, so these figures say what it remembers. What it can do "
            "with rows that were held out, fit has measured (metrics.json); else give rows it has not seen."
        )
    return schema, spread(rows_like(schema, list(data), split=split, log=log, reading=reading), limit)


def fitting(towers: Mapping[str, Encoder], modalities: Sequence[str], model: Path) -> Encoder | Mapping[str, Encoder]:
    """The encoder of these modalities, or both; an error where the model has none."""
    from counterpoint.errors import ModelError

    if missing := [m for m in modalities if m not in towers]:
        raise ModelError(
            f"{model} encodes {' and '.join(towers)}; these rows hold {' and '.join(modalities)}, so there is nothing "
            f"for {missing[0]}. Name another model, or other columns with --columns."
        )
    return towers[modalities[0]] if len(modalities) == 1 else towers
