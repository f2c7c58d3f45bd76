"""`counterpoint eval`: an encoder's figures on data, beside named baselines, with intervals."""

from __future__ import annotations

import json as writer
from typing import Annotated, Literal, TypeAlias

from tyro.conf import arg

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Names, Pairs, Read, Sources
from counterpoint.cli.options import columns as column_parts

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
    from counterpoint.evaluate.result import Evaluation
    from counterpoint.terminal import sentences
    from counterpoint.workflow.evaluate import evaluate as run
    from counterpoint.workflow.verdict import verdict

    console = sentences()
    found = run(
        model,
        list(data),
        columns=column_parts(columns),
        split=split,
        train=list(train),
        baselines=baselines,
        tokenizer=tokenizer,
        limit=limit,
        train_limit=train_limit,
        dim=dim,
        dtype=dtype,
        reading=files.reading(),
    )
    said = verdict(found.figures, found.advice) if isinstance(found.figures, Evaluation) else []
    for line in (*found.notes, *said, found.figures.table(name=model.name), *found.figures.notes):
        console.print(line)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(writer.dumps(found.to_json(), indent=2), encoding="utf-8")
        console.print(f"Written to {json}")
