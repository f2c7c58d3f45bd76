"""The share of the dense score in a hybrid search: learned by `fit` and by `index`, kept in model folder and index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.data.arrange import arranged
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.roles import ANCHORS, POSITIVES
from counterpoint.data.schema import Schema
from counterpoint.data.sets import registry
from counterpoint.data.stream import Stream
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.border import read_json
from counterpoint.errors import CounterpointError, DataError, ModelError
from counterpoint.evaluate.hybrid_share import DEPTH, FEWEST, learn_from_pairs, learn_share
from counterpoint.evaluate.retrieval import Judgements
from counterpoint.files import write_json
from counterpoint.modalities.text import TEXT
from counterpoint.search.hybrid import DEFAULT, Share
from counterpoint.search.index import Index
from counterpoint.workflow.gather import Given, spread
from counterpoint.workflow.measure import found_again
from counterpoint.workflow.models import model_path
from counterpoint.workflow.run_folder import learned_from

if TYPE_CHECKING:
    import datasets

FILE = "hybrid.json"
"""In a model folder; folders of former versions, and of other libraries, have none."""
MOST = 500
"""Pairs that a share is learned from, at most."""
ROWS = 200
"""Training rows from which on some are set aside for it."""


def set_aside(given: Given) -> Given:
    """The rows of a run without those that the share is learned from: a twentieth of the training rows, of texts alone.

    They are neither trained on nor among those that the model is measured on.
    """
    rows = given.rows
    texts = set(given.schema.modalities.values()) == {TEXT}
    if given.schema.kind not in ("pairs", "texts") or not texts or isinstance(rows, Stream):
        return given
    if not rows.table or len(rows) < ROWS:
        return given
    try:
        kept, aside = rows.split(min(MOST, max(FEWEST, len(rows) // 20)))
    except DataError:  # all rows have one text
        return given
    if len(aside) * 8 > len(rows):  # a group of rows with one anchor stays together, however large
        return given
    given.log.note(f"{len(aside):,} more are set aside to learn from how search mixes embeddings and words.")
    return replace(given, rows=kept, paired=spread(aside, MOST))


def of_run(towers: Mapping[str, Encoder], given: Given, model: Path) -> Share | None:
    """Learn the share from the rows set aside, and write it into the model folder where they tell.

    None where no rows are set aside. What keeps it from being learned is told in the default's place.
    """
    if not given.paired:
        return None
    texts = given.schema.kind == "texts"
    parts = found_again(given.paired, towers[TEXT]) if texts else None
    pairs = parts[0] if parts else given.paired
    what = "texts, of which one half had to find the other" if texts else "pairs"
    try:
        share = learn_from_pairs(towers[TEXT], pairs, source="learned by fit on {n} held-out " + what)
    except CounterpointError as error:  # texts without a word, no bm25s: a run that is trained does not fail for it
        return Share(DEFAULT.alpha, f"the default, as it could not be learned ({str(error).rstrip('.')})")
    if share.figures:
        write_json(model / FILE, share.to_json())
    return share


def of_model(folder: Path) -> Share | None:
    """What `of_run` wrote into the model folder of a run, or into this one. Raises ModelError for anything else in the
    file."""
    path = model_path(folder) / FILE
    if not path.is_file():
        return None
    try:
        return Share.from_json(read_json(path), where=str(path))
    except ValueError as error:
        raise ModelError(f"{error} Fit the model again, or delete the file to have the default.") from error


def pairs_in(rows: datasets.Dataset, sources: Sequence[str]) -> Schema | None:
    """How rows are pairs of texts, where the names of their columns say so (or those of a registered set)."""
    named = registry.parts(list(sources), {})
    try:
        schema = infer(rows, columns=named)
    except DataError:
        return None
    if schema.kind != "pairs" or set(schema.modalities.values()) != {TEXT} or schema.changes:
        return None  # where rows are changed before they are pairs, they are not those of the index
    sides = [str(schema.columns[side]).lower() for side in ("anchor", "positive")]
    return schema if named or (sides[0] in ANCHORS and sides[1] in POSITIVES) else None


def pairs_to_learn_from(
    rows: datasets.Dataset,
    text: str,
    *,
    own: Schema | None,
    queries: Sequence[str],
    data: Sequence[str],
    model: Path,
    log: Log,
) -> list[tuple[str, str]]:
    """Pairs of a question and the text of a row that answers it, for an index of the column ``text``.

    own: how the rows themselves are pairs. queries: files of other pairs. data: where the rows are from. What is left
    out is told in the log. Raises DataError for files that hold no pairs, and where no positive is a text of the rows.
    """
    run = model.parent if model.name == "model" else model
    if not queries:
        if own is None or own.columns["positive"] != text:
            return []
        if seen := learned_from(run, data):
            log.note(f"The model was trained on {', '.join(seen)}: how search mixes is not learned from these rows.")
            return []
        return [(a, p) for a, p in _columns(rows, own) if a and p]
    raw = read(list(queries), split="all", streaming=False, log=log)
    schema = infer(raw, columns=registry.parts(list(queries), {}))
    if schema.kind != "pairs" or set(schema.modalities.values()) != {TEXT}:
        raise DataError(
            f"--queries {' '.join(queries)} holds {schema.why} Give pairs of texts, in columns with the names anchor "
            "(the question) and positive (the indexed text that answers it)."
        )
    if seen := learned_from(run, queries):
        log.note(f"The model was trained on {', '.join(seen)}: learned from them, a hybrid trusts it too much.")
    known = set(rows.with_format("arrow")[:][text].to_pylist())
    asked = _columns(arranged(raw, schema.changes, log), schema)
    pairs = [(a, p) for a, p in asked if a and p and p in known]
    if not pairs:
        raise DataError(
            f"None of the {len(asked):,} pairs of {' '.join(queries)} has a positive that is, word for word, a text in "
            f"the column {text!r} that is indexed. Name the column of those texts with --column, or give other pairs."
        )
    if strange := len(asked) - len(pairs):
        log.note(f"{strange:,} of {len(asked):,} pairs of --queries have no text of the index as their positive.")
    return pairs


def learn_for_index(index: Index, encoder: Encoder, pairs: Sequence[tuple[str, str]]) -> None:
    """Learn the share by searching the index for the answers of questions, and write it there, where the pairs tell."""
    if index.bm25 is None or not pairs:
        return
    numbers: dict[str, list[int]] = {}
    for number, text in enumerate(index.rows[index.settings["text"]].to_pylist()):
        numbers.setdefault(text, []).append(number)
    relevant: dict[str, dict[int, float]] = {}
    for anchor, positive in pairs:
        relevant.setdefault(anchor, {}).update(dict.fromkeys(numbers[positive], 1.0))
    anchors = list(relevant)
    anchors = [anchors[i] for i in np.linspace(0, len(anchors) - 1, min(MOST, len(anchors))).astype(int)]
    dense, lexical, average = index.lists(anchors, encoder.encode(anchors, role="query", normalize=True), DEPTH)
    judged = Judgements([relevant[anchor] for anchor in anchors])
    share = learn_share(dense, lexical, judged, average=average, source="learned by index on {n} pairs")
    if share.figures or "hybrid" not in index.settings:
        index.keep_share(share)


def _columns(rows: datasets.Dataset, schema: Schema) -> list[tuple[str | None, str | None]]:
    table = rows.with_format("arrow")[:]
    return list(zip(*(table[str(schema.columns[side])].to_pylist() for side in ("anchor", "positive"))))
