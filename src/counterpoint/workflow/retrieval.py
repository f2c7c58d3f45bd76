"""Retrieval sets among what verbs are given: a corpus, queries, and judgements of which documents answer which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from counterpoint.data import objects
from counterpoint.data.files.read import Source
from counterpoint.data.sets import registry
from counterpoint.data.sets.beir import Retrieval, read_beir


def retrieval_set(data: Source | Any, split: str | None = None, *, to_learn: bool = False) -> Retrieval | None:
    """The retrieval set that a source is: a folder in BEIR's layout, or a registered set; None where it is none.

    data: as of the verbs. split: of the judgements (None: test). to_learn: train, where there are judgements for it.
    Raises `DataError` for a set that is damaged.
    """
    sources = objects.sources(data)
    if len(sources) != 1 or not isinstance(source := sources[0], str | Path):
        return None
    known = registry.ENTRIES.get(str(source))
    if known is not None and known.task == "retrieval":
        return registry.load(known.name, split)  # type: ignore[return-value]  # of this task it is one
    folder = Path(source)
    if not any(folder.glob("corpus.jsonl*")):
        return None
    usual = "train" if to_learn and any(folder.glob("qrels/train.*")) else "test"
    return read_beir(folder, split=split or usual)
