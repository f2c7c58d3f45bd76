"""`diagnose`: a model folder and data in; what ails the embeddings, and what to change, out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from counterpoint.data import objects
from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source, read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.schema import Row, Schema
from counterpoint.data.sets import registry
from counterpoint.data.sets.beir import Retrieval
from counterpoint.encoders.base import Encoder
from counterpoint.errors import DataError, ModelError
from counterpoint.evaluate import diagnose as evaluation
from counterpoint.evaluate.findings import Diagnosis
from counterpoint.modalities.text import TEXT
from counterpoint.workflow.gather import one_graph, rows_like, spread
from counterpoint.workflow.measure import found_again
from counterpoint.workflow.models import load_towers
from counterpoint.workflow.sources import retrieval_set
from counterpoint.workflow.words import KINDS

READ = ("pairs", "scored", "labelled", "texts", "items", "towers")
"""Kinds of rows that can be diagnosed."""


def diagnose(
    model: Path | str,
    data: Source,
    *,
    columns: Mapping[str, str | list[str]] | None = None,
    split: str | None = None,
    temperature: float | None = None,
    limit: int = 5_000,
    reading: Said = None,
) -> Diagnosis:
    """Look at the embeddings that a model gives to rows: their shape, their pairs, the temperature of the loss.

    model: a run folder, a model folder, or any sentence-transformers or transformers folder. data: files, a registered
    set, a retrieval set. columns: part -> column, where names do not tell. split: None: test where there are several.
    reading: what is said of files rather than found.
    temperature: that of the training (None: what the run folder says, if it is one). limit: most rows looked at, spread
    evenly. Raises `DataError` for rows of a kind that has no embeddings of its own to look at, or too few.

        found = counterpoint.diagnose("runs/mine", "test.jsonl")
        print([f.says for f in found.findings if f.act])
    """
    if not limit >= 3:
        raise DataError(f"limit={limit}: a neighbourhood needs at least 3 rows.")
    towers, log = load_towers(model), Log()
    schema, rows = to_look_at(data, columns=columns or {}, split=split, limit=limit, log=log, reading=reading)
    held = sorted(set(schema.modalities.values()))
    if missing := sorted({*held} - towers.keys()):
        raise ModelError(
            f"{model} encodes {' and '.join(towers)}; these rows hold {' and '.join(held)}, so "
            f"there is nothing for {missing[0]}. Name another model, or other columns."
        )
    one = towers[next(iter(schema.modalities.values()))]
    views, said = two_views(one, schema, rows)
    found = evaluation.diagnose(
        towers if schema.kind == "towers" else one,
        rows,
        views=views,
        temperature=trained_at(Path(model)) if temperature is None else temperature,
    )
    return replace(found, notes=(f"Looked at as {schema.why}", *log.lines(), *said, *found.notes))


def to_look_at(
    data: Source,
    *,
    columns: Mapping[str, str | list[str]],
    split: str | None,
    limit: int,
    log: Log,
    reading: Said = None,
) -> tuple[Schema, list[Row]]:
    """The rows, at most ``limit``, and the parts of their columns."""
    sources = objects.sources(data)
    if (judged := retrieval_set(data, split)) is not None:
        schema = Schema(
            kind="pairs",
            columns={},
            modalities={"anchor": TEXT, "positive": TEXT},
            why="pairs: judged queries, each with a relevant document.",
        )
        return schema, answers(judged, limit)
    if one_graph(sources) is not None:
        raise refused("a graph")
    whole = read(sources, split=split or "all", streaming=False, reading=reading)
    schema = infer(whole, columns=registry.parts(sources, columns))
    if schema.kind not in READ:
        raise refused(KINDS[schema.kind])
    return schema, spread(rows_like(schema, sources, split=split, log=log, reading=reading), limit)


def refused(what: str) -> DataError:
    return DataError(
        f"These rows are {what}, whose embeddings `diagnose` cannot look at one by one. Give pairs, scored pairs, "
        "items with labels or without, or rows of two modalities."
    )


def answers(judged: Retrieval, limit: int) -> list[Row]:
    """Queries with their most relevant document."""
    best = {q: max(found, key=lambda d: found[d]) for q, found in judged.qrels.items() if found and q in judged.queries}
    some = list(best.items())
    chosen = [some[i] for i in np.linspace(0, len(some) - 1, min(limit, len(some))).astype(int)]
    pairs = ((judged.queries[q], judged.corpus[d]) for q, d in chosen)
    return [{"anchor": q, "positive": d, "row": i} for i, (q, d) in enumerate(pairs)]


def two_views(encoder: Encoder, schema: Schema, rows: Sequence[Row]) -> tuple[list[Row] | None, list[str]]:
    """Two parts of each item, where rows are no pairs and items of this modality have two; and the sentence that says
    so. Of texts there are none: two passes with dropout are their views."""
    if schema.kind not in ("labelled", "items") or encoder.modality == TEXT:
        return None, []
    found = found_again(rows[: evaluation.SHAPE_ROWS], encoder)
    return (None, []) if found is None else (found[0], [found[1]])


def trained_at(model: Path) -> float | None:
    """The temperature at the end of the training whose folder this is; None where it is none, or says nothing."""
    records, config = model / "metrics.jsonl", model / "config.json"
    if records.exists():
        logged = [json.loads(line) for line in records.read_text().splitlines() if line.strip()]
        if known := [r["temperature"] for r in logged if isinstance(r.get("temperature"), int | float)]:
            return float(known[-1])
    if config.exists():
        settings = json.loads(config.read_text()).get("settings")
        given = settings.get("temperature") if isinstance(settings, dict) else None
        return float(given) if isinstance(given, int | float) and given > 0 else None
    return None
