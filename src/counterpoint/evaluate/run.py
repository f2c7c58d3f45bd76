"""`evaluate`: an encoder and data in, figures beside named baselines out; the shape of the data chooses the task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from counterpoint.data.schema import Row
from counterpoint.data.sets.beir import Retrieval
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.pairs import PairEncoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.baselines import bm25, fresh, hashed_ngrams, random_ranking
from counterpoint.evaluate.result import Evaluation, compare
from counterpoint.evaluate.tasks import Labelled, Ranking, Samples, Scored, geometry, only, split, streams

if TYPE_CHECKING:
    from counterpoint.data.rows import Rows

BASELINES = {
    "retrieval": ("bm25", "hashed n-grams", "random encoder", "random ranking"),
    "pairs": ("bm25", "hashed n-grams", "random encoder", "random ranking"),
    "scored": ("hashed n-grams", "random encoder"),
    "labelled": ("majority", "random encoder", "hashed n-grams"),
    "towers": ("random ranking",),
}
"""The baselines that each kind of data can have."""

_USUAL = {
    "retrieval": ("bm25",),
    "pairs": ("bm25",),
    "scored": ("hashed n-grams", "random encoder"),
    "labelled": ("majority", "random encoder"),
    "towers": ("random ranking",),
}
_NEEDS_TEXT = {"bm25", "hashed n-grams"}
_MODEL = "model"

Embed: TypeAlias = Callable[[Sequence[Any], str | None], np.ndarray]
"""Items and their role (query, document, None) to embeddings ``(N, D)``."""


@dataclass(frozen=True)
class _Found:
    task: str
    model: Samples
    baselines: dict[str, Samples]
    counts: dict[str, int]
    geometry: dict[str, float]
    notes: list[str] = field(default_factory=list)


def evaluate(
    encoder: Encoder | Mapping[str, Encoder],
    data: Retrieval | Rows | Sequence[Row],
    *,
    train: Rows | Sequence[Row] | None = None,
    baselines: Sequence[str] | None = None,
    tokenizer: str = "words",
    exclude_self: bool = False,
    depth: int = 1_000,
    k: int = 20,
    draws: int = 1_000,
    seed: int = 0,
) -> Evaluation:
    """Measure an encoder on data it has not seen, beside baselines on the same examples.

    data: a `Retrieval` set: nDCG, MRR, recall, MAP. Rows (a, b, score): Spearman and Pearson, or, where every score is
    0 or 1, average precision, best F1, best accuracy. Rows (text or image, label): kNN, linear probe, clustering. Rows
    (anchor, positive): retrieval of the positive among all positives. Rows of two modalities: retrieval both ways.
    encoder: of two modalities, a mapping with one encoder per stream.
    train: labelled rows to learn from (None: 70 % of the data, by class). baselines: names out of `BASELINES` (None:
    those usual for the task). tokenizer: BM25's, ``words`` or ``code``. exclude_self: a query's own id is no answer
    (sets whose queries are documents). depth: how deep rankings are judged. k: neighbours of kNN. draws: resamples
    behind the intervals. seed: of everything random here.

    Raises DataError for rows that fit no task, ConfigError for a baseline that the task cannot have.
    """
    start = time.perf_counter()
    kind = kind_of(data)
    if kind == "towers" and not isinstance(data, Retrieval):
        found = _towers(encoder, list(data), _names(kind, baselines, text=False), depth=depth, seed=seed)
    else:
        one = only(encoder)
        names = _names(kind, baselines, text=one.modality == "text")
        systems = _systems(one, names, seed=seed)
        if isinstance(data, Retrieval) or kind == "pairs":
            ranking = (
                Ranking.of_retrieval(data, exclude_self=exclude_self)
                if isinstance(data, Retrieval)
                else Ranking.of_pairs(data, "anchor", "positive")
            )
            found = _retrieval(ranking, systems, names, tokenizer=tokenizer, depth=depth, seed=seed)
        elif kind == "scored":
            found = _scored(Scored.of_rows(data), systems, one)
        else:
            found = _labelled(data, train, systems, names, k=k, seed=seed)
    figures = compare(found.model, found.baselines, draws=draws, seed=seed)
    seconds = time.perf_counter() - start
    return Evaluation(found.task, figures, found.counts, found.geometry, tuple(found.notes), seconds)


def kind_of(data: Retrieval | Rows | Sequence[Row]) -> str:
    """Which task data are for: a key of `BASELINES`. Raises DataError where they fit none."""
    if isinstance(data, Retrieval):
        return "retrieval"
    first = next(iter(data), None)
    if first is None:
        raise DataError("There are no rows to evaluate on.")
    keys = {key for key in first if key not in ("row", "source")}
    for kind, needed in (("scored", {"a", "b", "score"}), ("pairs", {"anchor", "positive"}), ("labelled", {"label"})):
        if needed <= keys:
            return kind
    if getattr(getattr(data, "schema", None), "kind", None) == "towers" or len(keys) == 2:
        return "towers"
    raise DataError(
        f"Rows of {', '.join(sorted(keys))} hold nothing to measure against. Give pairs (anchor, positive), scored "
        "pairs (a, b, score), labelled rows (text or image, label), rows of two modalities, or a retrieval set."
    )


# --- the tasks -------------------------------------------------------------------------------------------------


def _retrieval(
    ranking: Ranking, systems: dict[str, Embed], names: Sequence[str], *, tokenizer: str, depth: int, seed: int
) -> _Found:
    out, shape = {}, {}
    for name, embed in systems.items():
        queries, documents = embed(ranking.queries, "query"), embed(ranking.documents, "document")
        out[name] = ranking.samples(ranking.rank(queries, documents, depth=depth))
        if name == _MODEL:
            shape = ranking.geometry(queries, documents)
    if "bm25" in names:
        deep = depth + (ranking.own is not None)
        ids = bm25(ranking.documents, ranking.queries, k=deep, tokenizer=tokenizer)[1]
        out["bm25"] = ranking.samples(ids)
    if "random ranking" in names:
        out["random ranking"] = ranking.samples(_random(ranking, depth, seed))
    return _Found("retrieval", out.pop(_MODEL), _ordered(out, names), ranking.counts(), shape, ranking.notes)


def _scored(pairs: Scored, systems: dict[str, Embed], encoder: Encoder) -> _Found:
    both = {name: embed(pairs.a + pairs.b, None) for name, embed in systems.items()}
    out = {name: pairs.samples(z[: len(pairs.a)], z[len(pairs.a) :]) for name, z in both.items()}
    notes = ["Best F1 and best accuracy use the threshold that suits these pairs best."] if pairs.binary else []
    if isinstance(encoder, PairEncoder) and encoder.head.out == 1:
        z = both[_MODEL]
        out[_MODEL] = pairs.of_scores(encoder.score_embeddings(z[: len(pairs.a)], z[len(pairs.a) :]))
        notes.append("The model's pairs are scored by its head, those of the others by the cosine.")
    task = "pair classification" if pairs.binary else "similarity"
    return _Found(task, out.pop(_MODEL), out, {"pairs": len(pairs.a)}, geometry(both[_MODEL]), notes)


def _labelled(
    rows: Rows | Sequence[Row],
    train: Rows | Sequence[Row] | None,
    systems: dict[str, Embed],
    names: Sequence[str],
    *,
    k: int,
    seed: int,
) -> _Found:
    notes = []
    if train is None:
        train, rows = split(rows, seed=seed)
        notes.append("No training rows were given: 70 % of the rows, drawn by class, train; the rest is tested on.")
    task = Labelled.of_rows(train, rows)
    if leaked := task.leaked():
        notes.append(f"{leaked:,} of {len(task.test):,} test texts are training texts too; accuracies flatter.")
    out, shape = {}, {}
    for name, embed in systems.items():
        known, unseen = embed(task.train, None), embed(task.test, None)
        out[name], note = task.samples(known, unseen, k=k, seed=seed)
        if name == _MODEL:
            shape = geometry(unseen)
            notes.append(note)
    if "majority" in names:
        out["majority"] = task.majority()
    counts = {"training rows": len(task.train), "test rows": len(task.test), "classes": task.classes}
    return _Found("classification", out.pop(_MODEL), _ordered(out, names), counts, shape, notes)


def _towers(
    encoders: Encoder | Mapping[str, Encoder], rows: list[Row], names: Sequence[str], *, depth: int, seed: int
) -> _Found:
    if not isinstance(encoders, Mapping):
        raise ConfigError("Rows of two modalities need a mapping with one encoder for each stream.")
    left, right = streams(rows, encoders)
    whole = [r for r in rows if r[left] is not None and r[right] is not None]
    if not whole:
        raise DataError(f"No row has both its {left} and its {right}; there is nothing to retrieve.")
    model: Samples = {}
    chance: Samples = {}
    shape: dict[str, float] = {}
    counts: dict[str, int] = {"rows": len(whole)}
    for query, document in ((left, right), (right, left)):
        ranking, prefix = Ranking.of_pairs(whole, query, document), f"{query} → {document}: "
        queries = encoders[query].encode(ranking.queries, role="query")
        documents = encoders[document].encode(ranking.documents, role="document")
        ids = ranking.rank(queries, documents, depth=depth)
        model |= {prefix + name: sample for name, sample in ranking.samples(ids).items()}
        if "random ranking" in names:
            guess = ranking.samples(_random(ranking, depth, seed))
            chance |= {prefix + name: sample for name, sample in guess.items()}
        shape |= {f"{document}: {name}": x for name, x in ranking.geometry(queries, documents).items()}
        counts[f"distinct {query}"] = len(ranking.queries)
    missing = len(rows) - len(whole)
    notes = [f"{missing:,} of {len(rows):,} rows lack one of their sides and are left out."] if missing else []
    return _Found("two-way retrieval", model, {"random ranking": chance} if chance else {}, counts, shape, notes)


# --- systems ---------------------------------------------------------------------------------------------------


def _systems(encoder: Encoder, names: Sequence[str], *, seed: int) -> dict[str, Embed]:
    """The model and those of the baselines that embed."""
    out: dict[str, Embed] = {_MODEL: _embed_with(encoder)}
    if "random encoder" in names:
        out["random encoder"] = _embed_with(fresh(encoder, seed=seed))
    if "hashed n-grams" in names:
        out["hashed n-grams"] = lambda items, role: hashed_ngrams(items)
    return out


def _embed_with(encoder: Encoder) -> Embed:
    return lambda items, role: encoder.encode(items, role=role)


def _random(ranking: Ranking, depth: int, seed: int) -> np.ndarray:
    return random_ranking(len(ranking.queries), len(ranking.documents), k=depth, seed=seed)


def _names(kind: str, asked: Sequence[str] | None, *, text: bool) -> tuple[str, ...]:
    """The baselines to run: those asked for, else the usual ones that these items allow."""
    if asked is None:
        usual = tuple(name for name in _USUAL[kind] if text or name not in _NEEDS_TEXT)
        return usual or ("random encoder",)
    for name in asked:
        if name not in BASELINES[kind]:
            raise ConfigError(f"There is no baseline {name!r} for {kind} data. Use: {', '.join(BASELINES[kind])}.")
        if name in _NEEDS_TEXT and not text:
            raise ConfigError(f"The baseline {name!r} reads text, which these items are not.")
    return tuple(asked)


def _ordered(found: dict[str, Samples], names: Sequence[str]) -> dict[str, Samples]:
    return {name: found[name] for name in names}
