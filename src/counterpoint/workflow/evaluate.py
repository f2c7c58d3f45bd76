"""`evaluate`: a model folder and data in; its figures beside baselines, or the costs of smaller vectors, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from counterpoint.data import objects
from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source, read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.schema import Row, Schema
from counterpoint.data.sets import registry
from counterpoint.data.sets.beir import Retrieval
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ModelError
from counterpoint.evaluate.cheap import Costs, costs
from counterpoint.evaluate.evaluate import evaluate as measure
from counterpoint.evaluate.result import Evaluation
from counterpoint.modalities.text import TEXT
from counterpoint.search.quantise import Dtype
from counterpoint.workflow.gather import rows_like, spread
from counterpoint.workflow.models import load_towers
from counterpoint.workflow.run_folder import learned_from
from counterpoint.workflow.sources import retrieval_set
from counterpoint.workflow.verdict import begun_with, run_of, to_try


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `evaluate` found.

    figures: an `Evaluation`, or `Costs` where smaller vectors were measured. notes: what is to be known of the rows, a
    sentence each. advice: what to try, as it is typed, where the model is below a baseline.
    """

    figures: Evaluation | Costs
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures, and the advice under ``try``."""
        return self.figures.to_json() | ({"try": list(self.advice)} if self.advice else {})


def evaluate(
    model: Path | str,
    data: Source | Any,
    *,
    columns: Mapping[str, str | list[str]] | None = None,
    split: str | None = None,
    train: Source | Any = (),
    baselines: Sequence[str] = (),
    tokenizer: Literal["words", "code"] = "words",
    limit: int = 20_000,
    train_limit: int = 5_000,
    dim: Sequence[int] = (),
    dtype: Sequence[Dtype] = (),
    reading: Said = None,
) -> Measured:
    """Measure a model on rows it has not seen; the function behind ``counterpoint eval``, whose options it has.

    The data decide the task: a retrieval set, scored pairs, labelled items, pairs, two modalities of one thing. For an
    encoder that is no folder see `counterpoint.evaluate.evaluate`.

    model: a run folder, a model folder, or any sentence-transformers or transformers folder. data: a folder in BEIR's
    layout, a registered set, files of rows, or rows that are in memory. columns: part -> column, where names do not
    tell. split: None: test where there are several. train: labelled rows to learn the probe from (none: a part of the
    data). baselines: names of those to measure beside (none: the usual ones). tokenizer: what a word is for BM25.
    limit: most rows measured on, train_limit: most training rows, both spread evenly. dim, dtype: measure vectors cut
    to so many dimensions and kept so, each with each, instead. reading: what is said of files rather than found.

    Raises `DataError` for rows that cannot be measured on, `ModelError` for a model that does not encode them.

        found = counterpoint.evaluate("runs/mine", "test.jsonl")
        print(found.figures["spearman"].value)
    """
    towers, log, known = load_towers(model), Log(), None
    schema: Schema | None = None
    measured: Retrieval | Sequence[Row]
    named = objects.names(data)
    if (found := retrieval_set(data, split)) is not None:
        measured, modalities = found, [TEXT]
    else:
        schema, measured = rows_to_measure(
            model, data, train, columns=columns or {}, split=split, limit=limit, log=log, reading=reading
        )
        if not objects.is_nothing(train):
            known = spread(rows_like(schema, train, part="train", log=log, reading=reading), train_limit)
        modalities = sorted(set(schema.modalities.values()))
        log.notes.insert(0, f"Measured as {schema.why}")
    encoder = fitting(towers, modalities, model)
    if len(dim) or len(dtype):
        figures = costs(encoder, measured, dims=dim, dtypes=dtype or ("float32",), train=known)
        return Measured(figures=figures, notes=tuple(log.lines()))
    start = begun_with(run_of(Path(model)), towers)
    first = start if start is None or not isinstance(encoder, Encoder) else start[encoder.modality]
    result = measure(
        encoder,
        measured,
        train=known,
        start=first,
        baselines=baselines or None,
        tokenizer=tokenizer,
        most=train_limit,
    )
    advice = to_try(result.below, Path(model), data=named, schema=schema, columns=columns or {})
    return Measured(figures=result, notes=tuple(log.lines()), advice=tuple(advice))


def rows_to_measure(
    model: Path | str,
    data: Source | Any,
    train: Source | Any,
    *,
    columns: Mapping[str, str | list[str]],
    split: str | None,
    limit: int,
    log: Log,
    reading: Said,
) -> tuple[Schema, list[Row]]:
    """The rows and the parts of their columns; classes are those of the training rows, where there are some. Rows that
    the model was trained on are told."""
    taught = not objects.is_nothing(train)
    first = train if taught else data
    whole = read(first, split=None if taught else split or "all", streaming=False, reading=reading)
    schema = infer(whole, columns=registry.parts(first, columns))
    if "split" not in whole.column_names and (seen := learned_from(Path(model), objects.names(data))):
        log.note(
            f"{model} was trained on rows of {', '.join(seen)}, so these figures say what it remembers. What it can do "
            "with rows that were held out, fit has measured (metrics.json); else give rows it has not seen."
        )
    return schema, spread(rows_like(schema, data, split=split, log=log, reading=reading), limit)


def fitting(
    towers: Mapping[str, Encoder], modalities: Sequence[str], model: Path | str
) -> Encoder | Mapping[str, Encoder]:
    """The encoder of these modalities, or both; an error where the model has none."""
    if missing := [m for m in modalities if m not in towers]:
        raise ModelError(
            f"{model} encodes {' and '.join(towers)}; these rows hold {' and '.join(modalities)}, so there is nothing "
            f"for {missing[0]}. Name another model, or other columns with --columns."
        )
    return towers[modalities[0]] if len(modalities) == 1 else towers
