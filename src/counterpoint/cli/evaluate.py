"""`counterpoint eval`: an encoder's figures on data, beside named baselines, with intervals."""

from __future__ import annotations

import json as writer
from pathlib import Path

from tyro.conf import Positional


def evaluate(
    model: Positional[Path],
    data: Positional[tuple[str, ...]],
    /,
    *,
    columns: tuple[str, ...] = (),
    split: str | None = None,
    train: tuple[str, ...] = (),
    baselines: tuple[str, ...] = (),
    tokenizer: str = "words",
    limit: int = 20_000,
    json: Path | None = None,
) -> None:
    """Measure an encoder. The data decide the task: retrieval, similarity, classification and clustering, pairs.

    A folder with corpus, queries and qrels (BEIR's layout): nDCG@10, MRR@10, recall, MAP. Columns a, b, score: Spearman
    and Pearson; where every score is 0 or 1: average precision, F1. Text or image and label: kNN, linear probe,
    clustering. Anchor and positive: retrieval of the positive. Image and text: retrieval both ways.

    Example: counterpoint eval runs/mine test.jsonl

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: a BEIR folder, a registered set, or files of rows as for `fit`.
        columns: which column plays which part, e.g. anchor=question,positive=answer.
        split: which split of the data.
        train: labelled rows to learn the probe from (none: 70 % of the data).
        baselines: names of baselines to measure beside (none: those usual for the task).
        tokenizer: what a word is for BM25: words or code.
        limit: most rows measured on (the first ones).
        json: also write the figures to this file.
    """
    from rich.console import Console

    from counterpoint.cli.pairs import columns as column_parts
    from counterpoint.data import registry
    from counterpoint.data.beir import read_beir
    from counterpoint.data.infer import infer
    from counterpoint.data.log import Log
    from counterpoint.data.read import read
    from counterpoint.data.rows import Rows
    from counterpoint.evaluate.run import evaluate as run
    from counterpoint.workflow.models import load_towers

    towers = load_towers(model)
    console, log = Console(), Log()
    source = Path(data[0])
    if len(data) == 1 and data[0] in registry.ENTRIES and registry.ENTRIES[data[0]].task == "retrieval":
        rows = registry.load(data[0])
        known = None
    elif len(data) == 1 and source.is_dir() and any(source.glob("corpus.jsonl*")):
        rows, known = read_beir(source, split=split or "test"), None
    else:
        raw = read(list(data), split=split, log=log)
        schema = infer(raw, columns=registry.parts(data, column_parts(columns)))
        console.print(f"Measured as {schema.kind}: {schema.why}.")
        rows = Rows(raw, schema, log=log)
        rows = rows[: min(limit, len(rows))]
        known = None
        if train:
            taught = Rows(read(list(train), split=split), schema)
            known = taught[: min(limit, len(taught))]
    for line in log.lines():
        console.print(line)
    found = run(
        towers if len(towers) > 1 else next(iter(towers.values())),
        rows,
        train=known,
        baselines=baselines or None,
        tokenizer=tokenizer,
    )
    console.print(found.table(name=model.name))
    for note in found.notes:
        console.print(note)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(writer.dumps(found.to_json(), indent=2), encoding="utf-8")
        console.print(f"Written to {json}")
