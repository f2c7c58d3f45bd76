"""`evaluate`: an encoder and data in, figures beside named baselines out; the shape of the data chooses the task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import Ridge

from counterpoint.data.schema import Row
from counterpoint.data.sets.beir import Retrieval
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.pairs import PairEncoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.baselines import bm25, fresh, random_ranking
from counterpoint.evaluate.probe import WIDE
from counterpoint.evaluate.result import Evaluation, compare, fallen_below
from counterpoint.evaluate.systems import (
    BASELINES,
    BEFORE,
    MAPPED,
    MODEL,
    Beside,
    alike,
    beside,
    beside_towers,
)
from counterpoint.evaluate.tasks import KNN, PROBE, Labelled, Ranking, Samples, Scored, geometry, only, split, streams
from counterpoint.views.features import features_of, narrow

if TYPE_CHECKING:
    from counterpoint.data.rows import Rows

__all__ = ["BASELINES", "evaluate", "kind_of"]

DECIDING = {
    "retrieval": (("ndcg@10",),),
    "similarity": (("spearman",),),
    "pair classification": (("average precision",),),
    "classification": ((KNN, PROBE),),
}
"""Task -> the groups of metrics that say whether the model is below a baseline (see `fallen_below`)."""

MOST_KNOWN = 5_000
"""Training rows that probes, neighbours and baselines learn from, at most."""


@dataclass(frozen=True)
class _Found:
    task: str
    model: Samples
    baselines: dict[str, Samples]
    counts: dict[str, int]
    geometry: dict[str, float]
    notes: list[str] = field(default_factory=list)
    deciding: tuple[tuple[str, ...], ...] = ()


def evaluate(
    encoder: Encoder | Mapping[str, Encoder],
    data: Retrieval | Rows | Sequence[Row],
    *,
    train: Rows | Sequence[Row] | None = None,
    start: Encoder | Mapping[str, Encoder] | None = None,
    baselines: Sequence[str] | None = None,
    tokenizer: str = "words",
    exclude_self: bool = False,
    depth: int = 1_000,
    k: int = 20,
    most: int = MOST_KNOWN,
    draws: int = 1_000,
    seed: int = 0,
) -> Evaluation:
    """Measure an encoder on data it has not seen, beside baselines on the same examples.

    data: a `Retrieval` set: nDCG, MRR, recall, MAP. Rows (a, b, score): Spearman and Pearson, or, where every score is
    0 or 1, average precision, best F1, best accuracy. Rows (text or image, label): kNN, linear probe, clustering. Rows
    (anchor, positive): retrieval of the positive among all positives. Rows of two modalities: retrieval both ways.
    encoder: of two modalities, a mapping with one encoder per stream.
    train: rows to learn from, labelled (None: 70 % of the data, by class) or of two modalities. start: the encoder, or
    the mapping, as it was before its training, for the baseline of that name. baselines: names out of `BASELINES` and
    of `counterpoint.views.features.cheap` (None: those usual for the task). tokenizer: BM25's, ``words`` or ``code``.
    exclude_self: a query's own id is no answer (sets whose queries are documents). depth: how deep rankings are judged.
    k: neighbours of kNN. most: training rows that are used, spread evenly; the same for the model and its baselines.
    draws: resamples behind the intervals. seed: of everything random here.

    Raises DataError for rows that fit no task, ConfigError for a baseline that the task cannot have, NotFiniteError for
    an encoder that gives NaN.

    >>> from counterpoint.encoders.static import StaticText
    >>> rows = [{"a": f"text {i}", "b": f"text {i % 3}", "score": i / 10} for i in range(10)]
    >>> found = evaluate(StaticText.example(), rows, baselines=(), draws=20)
    >>> found.task, [figure.metric for figure in found.figures]
    ('similarity', ['spearman', 'pearson'])
    """
    began = time.perf_counter()
    kind = kind_of(data)
    if kind == "towers" and not isinstance(data, Retrieval):
        found = _towers(encoder, start, list(data), train, baselines, most=most, depth=depth, seed=seed)
    else:
        one, first = only(encoder), None if start is None else only(start)
        if isinstance(data, Retrieval) or kind == "pairs":
            ranking = (
                Ranking.of_retrieval(data, exclude_self=exclude_self)
                if isinstance(data, Retrieval)
                else Ranking.of_pairs(data, "anchor", "positive")
            )
            items = len(ranking.queries) + len(ranking.documents)
            others = beside(kind, baselines, one, first, items=items, seed=seed)
            found = _retrieval(ranking, one, others, tokenizer=tokenizer, depth=depth, seed=seed)
        else:
            others = beside(kind, baselines, one, first, seed=seed)
            if kind == "scored":
                found = _scored(Scored.of_rows(data), one, others)
            else:
                found = _labelled(data, train, one, others, most=most, k=k, seed=seed)
    figures = compare(found.model, found.baselines, draws=draws, seed=seed)
    below = fallen_below(found.model, found.baselines, found.deciding or DECIDING[found.task], draws=draws, seed=seed)
    notes = tuple(dict.fromkeys(found.notes))
    return Evaluation(found.task, figures, found.counts, found.geometry, notes, time.perf_counter() - began, below)


def kind_of(data: Retrieval | Rows | Sequence[Row]) -> str:
    """Which task data are for: a key of `BASELINES`. Raises DataError where they fit none.

    data: as of `evaluate`.

    >>> kind_of([{"anchor": "a question", "positive": "its answer"}])
    'pairs'
    """
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


def _retrieval(ranking: Ranking, encoder: Encoder, others: Beside, *, tokenizer: str, depth: int, seed: int) -> _Found:
    queries = encoder.encode(ranking.queries, role="query")
    documents = encoder.encode(ranking.documents, role="document")

    def measured(name: str) -> Samples:
        if name == "bm25":
            deep = depth + (ranking.own is not None)
            return ranking.samples(bm25(ranking.documents, ranking.queries, k=deep, tokenizer=tokenizer)[1])
        if name == "random ranking":
            return ranking.samples(_random(ranking, depth, seed))
        found, asked = others.vectors(name, ranking.documents, ranking.queries, roles=("document", "query"))
        return ranking.samples(ranking.rank(asked, found, depth=depth))

    model, rest = ranking.samples(ranking.rank(queries, documents, depth=depth)), others.measured(measured)
    notes = [*ranking.notes, *ranking.remarks(), *alike(documents, ranking.documents), *others.notes]
    return _Found("retrieval", model, rest, ranking.counts(), ranking.geometry(queries, documents), notes)


def _scored(pairs: Scored, encoder: Encoder, others: Beside) -> _Found:
    both, n = pairs.a + pairs.b, len(pairs.a)
    z = encoder.encode(both)
    model = pairs.samples(z[:n], z[n:])
    notes = ["Best F1 and best accuracy use the threshold that suits these pairs best."] if pairs.binary else []
    if isinstance(encoder, PairEncoder) and encoder.head.out == 1:
        model = pairs.of_scores(encoder.score_embeddings(z[:n], z[n:]))
        notes.append("The model's pairs are scored by its head, those of the others by the cosine.")

    def measured(name: str) -> Samples:
        # A vocabulary is learned from the very pairs; their scores are not looked at.
        found = others.vectors(name, both, both)[1] if name in others.cheap else others.embedding[name](both, None)
        return pairs.samples(found[:n], found[n:])

    rest = others.measured(measured)
    task = "pair classification" if pairs.binary else "similarity"
    return _Found(task, model, rest, {"pairs": n}, geometry(z), [*notes, *alike(z, both), *others.notes])


def _labelled(
    rows: Rows | Sequence[Row],
    train: Rows | Sequence[Row] | None,
    encoder: Encoder,
    others: Beside,
    *,
    most: int,
    k: int,
    seed: int,
) -> _Found:
    notes = []
    if train is None:
        train, rows = split(rows, seed=seed)
        notes.append("No training rows were given: 70 % of the rows, drawn by class, train; the rest is tested on.")
    if len(train) > most:
        notes.append(f"Of {len(train):,} training rows {most:,}, spread evenly, are learned from, by all systems.")
    task = Labelled.of_rows(thinned(train, most), rows)
    notes += task.remarks()
    known, unseen = encoder.encode(task.train), encoder.encode(task.test)
    model, note = task.samples(known, unseen, k=k, seed=seed)

    def measured(name: str) -> Samples:
        if name == "majority":
            return task.majority()
        by = others.cheap[name].by if name in others.cheap else "logistic"
        return task.samples(*others.vectors(name, task.train, task.test), k=k, seed=seed, by=by)[0]

    rest = others.measured(measured)
    notes += [note, *alike(unseen, task.test), *others.notes]
    if set(rest) & set(others.cheap):
        notes.append(
            f"The probe is a logistic regression; on sparse or more than {WIDE:,} features a ridge regression."
        )
    counts = {"training rows": len(task.train), "test rows": len(task.test), "classes": task.classes}
    return _Found("classification", model, rest, counts, geometry(unseen), notes)


def _towers(
    encoders: Encoder | Mapping[str, Encoder],
    start: Encoder | Mapping[str, Encoder] | None,
    rows: list[Row],
    train: Rows | Sequence[Row] | None,
    asked: Sequence[str] | None,
    *,
    most: int,
    depth: int,
    seed: int,
) -> _Found:
    if not isinstance(encoders, Mapping):
        raise ConfigError("Rows of two modalities need a mapping with one encoder for each stream.")
    left, right = streams(rows, encoders)
    whole, known = _whole(rows, left, right), _whole(thinned(train or [], most), left, right)
    if not whole:
        raise DataError(f"No row has both its {left} and its {right}; there is nothing to retrieve.")
    before = start if isinstance(start, Mapping) and {left, right} <= set(start) else None
    if before is not None and before[left].dim != before[right].dim:  # the heads that make them comparable came later
        before = None
    others = beside_towers(asked, kept=before is not None, items=2 * len(whole), learned=bool(known))
    found = _Found("two-way retrieval", {}, {}, {"rows": len(whole)}, {})
    if missing := len(rows) - len(whole):
        found.notes.append(f"{missing:,} of {len(rows):,} rows lack one of their sides and are left out.")
    both_ways = ((left, right), (right, left))
    for ways in both_ways:
        ranking, prefix = Ranking.of_pairs(whole, *ways), f"{ways[0]} → {ways[1]}: "

        def measured(name: str, ranking: Ranking = ranking, ways: tuple[str, str] = ways) -> Samples:
            if name == "random ranking":
                return ranking.samples(_random(ranking, depth, seed))
            if name == MAPPED:
                return ranking.samples(ranking.rank(*_mapped(known, ranking, ways, encoders), depth=depth))
            by = before if name == BEFORE else {s: fresh(encoders[s], seed=seed) for s in ways}
            assert by is not None
            return ranking.samples(ranking.rank(*_encoded(ranking, ways, by), depth=depth))

        queries, documents = _encoded(ranking, ways, encoders)
        own = ranking.samples(ranking.rank(queries, documents, depth=depth))
        for name, samples in ((MODEL, own), *others.measured(measured).items()):
            held = found.model if name == MODEL else found.baselines.setdefault(name, {})
            held |= {prefix + metric: sample for metric, sample in samples.items()}
        found.geometry.update({f"{ways[1]}: {n}": x for n, x in ranking.geometry(queries, documents).items()})
        found.counts[f"distinct {ways[0]}"] = len(ranking.queries)
        found.notes.extend([*ranking.remarks(), *alike(documents, ranking.documents)])
    found.notes.extend(others.notes)
    return replace(found, deciding=tuple((f"{a} → {b}: ndcg@10",) for a, b in both_ways))


def _encoded(ranking: Ranking, ways: tuple[str, str], encoders: Mapping[str, Encoder]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the queries by the encoder of their stream, and of the documents by that of theirs."""
    query, document = (encoders[stream] for stream in ways)
    return query.encode(ranking.queries, role="query"), document.encode(ranking.documents, role="document")


def _whole(rows: Sequence[Row], left: str, right: str) -> list[Row]:
    return [r for r in rows if r[left] is not None and r[right] is not None]


def _mapped(
    known: Sequence[Row], ranking: Ranking, ways: tuple[str, str], encoders: Mapping[str, Encoder]
) -> tuple[np.ndarray, np.ndarray]:
    """Queries, mapped by a ridge regression that learned on training rows, from their cheap features to those of the
    documents; and the documents' features."""
    sides = []
    for stream, items in zip(ways, (ranking.queries, ranking.documents)):
        cheap = features_of(encoders[stream].modality)
        if not cheap:
            raise DataError(f"no cheap features are known of {stream}.")
        sides.append(narrow(cheap[0].features([r[stream] for r in known], items)))
    (x, queries), (y, documents) = sides
    return Ridge(alpha=1.0).fit(x, y).predict(queries), documents


def thinned(rows: Rows | Sequence[Row], most: int) -> list[Row]:
    """At most so many rows, spread evenly."""
    numbers = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)
    return [rows[int(i)] for i in numbers]


def _random(ranking: Ranking, depth: int, seed: int) -> np.ndarray:
    return random_ranking(len(ranking.queries), len(ranking.documents), k=depth, seed=seed)
