"""The tasks: what is to be embedded, and what metrics the embeddings have, of the model and of baselines alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy import sparse
from sklearn.preprocessing import normalize

from counterpoint.data.schema import Row
from counterpoint.data.sets.beir import Retrieval
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate import clustering, knn, pair_classification, probe, similarity
from counterpoint.evaluate.baselines import majority
from counterpoint.evaluate.intervals import Sample, mean
from counterpoint.evaluate.knn import Matrix
from counterpoint.evaluate.retrieval import METRICS, Judgements, measure
from counterpoint.objectives.geometry import alignment, effective_rank, mean_pair_cosine, uniformity

Samples: TypeAlias = dict[str, Sample]
"""Metric -> what it is computed from."""

KNN, PROBE = "kNN accuracy", "probe accuracy"
MOST_CLUSTERED = 5_000
"""Test rows up to which the features of baselines are clustered too."""
_GEOMETRY_ROWS = 2_000


@dataclass(frozen=True)
class Ranking:
    """A retrieval problem by position. own: (Q,) the document that *is* the query and is left out of its ranking, -1
    where there is none; None: there are none at all.

    queries: Q items. documents: M items. judgements: which ones answer which. notes: sentences for the reader.
    """

    queries: list[Any]
    documents: list[Any]
    judgements: Judgements
    own: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_retrieval(cls, data: Retrieval, *, exclude_self: bool) -> Ranking:
        """From a data set with a corpus. data: queries, corpus and judgements. exclude_self: a query that is a document
        too does not find itself."""
        number = {document: i for i, document in enumerate(data.corpus)}
        relevant = [
            {number[d]: gain for d, gain in data.qrels.get(q, {}).items() if not (exclude_self and d == q)}
            for q in data.queries
        ]
        own = np.array([number.get(q, -1) for q in data.queries]) if exclude_self else None
        texts = list(data.queries.values()), list(data.corpus.values())
        return cls(*texts, Judgements(relevant), own, list(data.notes))

    @classmethod
    def of_pairs(cls, rows: Iterable[Row], query: str, document: str) -> Ranking:
        """Each row's ``query`` must find its ``document`` among all of them; equal texts are one item.

        rows: that have both. query, document: names of the parts.
        """
        queries, documents = _Distinct(), _Distinct()
        relevant: dict[int, dict[int, float]] = {}
        for row in rows:
            relevant.setdefault(queries.number(row[query]), {})[documents.number(row[document])] = 1.0
        return cls(queries.items, documents.items, Judgements([relevant[i] for i in range(len(queries.items))]))

    def rank(self, queries: Matrix, documents: Matrix, *, depth: int) -> np.ndarray:
        """Document numbers ``(Q, K)`` by cosine of embeddings ``(Q, D)`` and ``(M, D)``.

        queries, documents: embeddings. depth: K, at most.
        """
        return knn.nearest(queries, documents, depth + (self.own is not None))[1]

    def samples(self, ids: np.ndarray) -> Samples:
        """Metrics of rankings ``(Q, K)``.

        ids: numbers of documents, best first, -1 where a ranking has ended.
        """
        if self.own is not None:
            itself = ids == self.own[:, None]
            order = np.argsort(itself, axis=1, kind="stable")  # the query itself goes to the end, and out
            ids = np.take_along_axis(np.where(itself, -1, ids), order, 1)
        return {name: mean(x) for name, x in measure(ids, self.judgements, metrics=METRICS).values.items()}

    def geometry(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, float]:
        """Shape of the documents, and how far a query is from its (first) relevant document.

        queries, documents: embeddings ``(Q, D)`` and ``(M, D)``.
        """
        judged, first = np.unique(self.judgements.query, return_index=True)
        partners = documents[self.judgements.document[first]]
        return {**geometry(documents), "alignment": alignment(*map(_tensor, (queries[judged], partners))).item()}

    def remarks(self) -> list[str]:
        """What flatters any system: queries that are their own answer, fewer documents than a metric looks at."""
        out = []
        query, document = self.judgements.query, self.judgements.document
        same = {q for q, d in zip(query.tolist(), document.tolist()) if _same(self.queries[q], self.documents[d])}
        if same:
            out.append(
                f"{len(same):,} of {len(self.queries):,} queries are word for word a document that answers them: they "
                "flatter every system."
            )
        if len(self.documents) <= 10:
            out.append(f"Any ranking of so few documents ({len(self.documents)}) has a recall@10 of 1.")
        return out

    def counts(self) -> dict[str, int]:
        """How many queries are judged, and among how many documents."""
        judged = int((self.judgements.relevant > 0).sum())
        return {"queries": judged, "documents": len(self.documents)}


def _same(query: Any, document: Any) -> bool:
    return isinstance(query, str) and isinstance(document, str) and query == document


class _Distinct:
    """Numbers items in order; equal texts share a number, other items (images) never do."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._seen: dict[str, int] = {}

    def number(self, item: Any) -> int:
        if isinstance(item, str):
            if item in self._seen:
                return self._seen[item]
            self._seen[item] = len(self.items)
        self.items.append(item)
        return len(self.items) - 1


@dataclass(frozen=True)
class Scored:
    """Pairs (a, b) with a score, or with 0 and 1 for different and same.

    a, b: N items each. scores: ``(N,)``.
    """

    a: list[Any]
    b: list[Any]
    scores: np.ndarray

    @classmethod
    def of_rows(cls, rows: Iterable[Row]) -> Scored:
        """From rows with a, b and score. Raises `DataError` where all scores are one."""
        held = list(rows)
        scores = np.array([float(r["score"]) for r in held])
        if len(np.unique(scores)) < 2:
            raise DataError(
                f"All {len(held):,} scores are {scores[0]:g}: nothing can agree or disagree with them. Give pairs with "
                "different scores."
            )
        return cls([r["a"] for r in held], [r["b"] for r in held], scores)

    @property
    def binary(self) -> bool:
        """Whether the scores are 0 and 1 alone."""
        return set(np.unique(self.scores)) <= {0.0, 1.0}

    def samples(self, a: Matrix, b: Matrix) -> Samples:
        """Metrics of embeddings ``(N, D)`` of both sides."""
        if sparse.issparse(a):
            return self.of_scores(np.asarray(normalize(a).multiply(normalize(b)).sum(axis=1)).ravel())
        return self.of_scores(similarity.cosines(a, b))

    def of_scores(self, found: np.ndarray) -> Samples:
        """Metrics of what an encoder with a head of its own says of the pairs, ``(N,)``.

        found: the scores that it gives.
        """
        return (
            pair_classification.of_scores(found, self.scores)
            if self.binary
            else similarity.of_scores(found, self.scores)
        )


@dataclass(frozen=True)
class Labelled:
    """Items and their classes, for learning and for testing.

    train: N items. train_labels: ``(N,)``. test: N' items. test_labels: ``(N',)``.
    """

    train: list[Any]
    train_labels: np.ndarray
    test: list[Any]
    test_labels: np.ndarray

    @classmethod
    def of_rows(cls, train: Iterable[Row], test: Iterable[Row]) -> Labelled:
        """From rows with an item and a label; classes are numbered anew from 0. train, test: the two parts."""
        (known, known_labels), (unseen, unseen_labels) = _item_and_label(train), _item_and_label(test)
        # Numbered anew from 0: the numbers given may have gaps, and -1 is a class like any other here.
        numbers = np.unique(np.concatenate([known_labels, unseen_labels]), return_inverse=True)[1]
        return cls(known, numbers[: len(known)], unseen, numbers[len(known) :])

    def samples(
        self, train: Matrix, test: Matrix, *, k: int, seed: int, by: Literal["logistic", "linear", "trees"] = "logistic"
    ) -> tuple[Samples, str]:
        """Metrics of embeddings or other features ``(N, D)`` and ``(N', D)``, and a note on what was chosen.

        by: what the probe is: a logistic regression on standardised features; the `linear` model that suits them; or
        boosted trees, beside which neighbours and clusters are not measured. train, test: the features. k: neighbours.
        seed: of the probe and the clusters.
        """
        if by == "trees":
            return {PROBE: mean(probe.trees(train, self.train_labels, test, seed=seed) == self.test_labels)}, ""
        near = knn.predict(train, self.train_labels, test, k=k)
        if by == "linear":
            line = probe.linear(train, self.train_labels, test, seed=seed)
        else:
            folds = probe.folds_for(train, self.train_labels)
            line = probe.predict(train, self.train_labels, test, seed=seed, folds=folds)
        out = {KNN: mean(near == self.test_labels), PROBE: mean(line.predicted == self.test_labels)}
        if self.classes > 1 and (by == "logistic" or len(self.test) <= MOST_CLUSTERED):
            out |= clustering.samples(self.test_labels, clustering.kmeans(test, self.classes, seed=seed))
        k = min(k, train.shape[0])
        return out, f"kNN: k = {k}; probe: C = {line.strength:g}, chosen on the training rows."

    @property
    def classes(self) -> int:
        """Classes among the test rows: what k-means looks for."""
        return len(np.unique(self.test_labels))

    def majority(self) -> Samples:
        """What the commonest class reaches."""
        right = mean(majority(self.train_labels, len(self.test)) == self.test_labels)
        return {KNN: right, PROBE: right}

    def remarks(self) -> list[str]:
        """What is to be known of the rows before any accuracy is believed."""
        out = []
        if leaked := self.leaked():
            out.append(f"{leaked:,} of {len(self.test):,} test texts are training texts too; accuracies flatter.")
        if strange := int((~np.isin(self.test_labels, self.train_labels)).sum()):
            out.append(f"{strange:,} of {len(self.test):,} test rows are of classes that no training row has.")
        if self.classes == 1:
            out.append(
                "All test rows are of one class: there is nothing to cluster, and accuracy is that of one class."
            )
        return out

    def leaked(self) -> int:
        """Test texts that are training texts too."""
        known = {t for t in self.train if isinstance(t, str)}
        return sum(t in known for t in self.test if isinstance(t, str))


def split(rows: Iterable[Row], *, share: float = 0.3, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """(training rows, test rows) of labelled rows: the share of every class (of two rows and more) goes to test.

    rows: with a label. share: for testing, rounded. seed: of the draw.
    """
    held = list(rows)
    labels = np.array([r["label"] for r in held])
    rng, test = np.random.default_rng(seed), np.zeros(len(held), dtype=bool)
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        test[of_class[: min(len(of_class) - 1, max(1, round(share * len(of_class))))]] = True
    if not test.any():
        raise DataError(
            "Every class has one row only; there is nothing to test on. Give training rows too (--train FILE, "
            "train=...)."
        )
    return [r for r, t in zip(held, test) if not t], [r for r, t in zip(held, test) if t]


def geometry(z: np.ndarray) -> dict[str, float]:
    """The shape of the cloud of at most 2,000 embeddings ``(N, D)``, spread evenly over the rows.

    z: the embeddings.
    """
    x = _tensor(z[np.linspace(0, len(z) - 1, min(len(z), _GEOMETRY_ROWS)).astype(int)])
    return {
        "effective rank": effective_rank(x).item(),
        "uniformity": uniformity(x).item(),
        "mean cosine of random pairs": mean_pair_cosine(x).item(),
    }


def _tensor(z: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(z)).float()


def _item_and_label(rows: Iterable[Row]) -> tuple[list[Any], np.ndarray]:
    held = list(rows)
    if not held:
        raise DataError("There are no rows to evaluate on.")
    key = next((k for k in held[0] if k not in ("label", "row")), None)
    if key is None:
        raise DataError("Labelled rows need a text or an image beside the label.")
    return [r[key] for r in held], np.array([r["label"] for r in held], dtype=np.int64)


def streams(rows: Iterable[Row], encoders: Mapping[str, Any]) -> tuple[str, str]:
    """The two streams of two-tower rows, each with an encoder.

    rows: of which the first is looked at. encoders: by stream.
    """
    first = next(iter(rows), None)
    named = [] if first is None else [k for k in first if k != "row"]
    if len(named) != 2 or any(s not in encoders for s in named):
        raise DataError(
            f"Rows of two modalities have two streams, each with an encoder; the rows have "
            f"{', '.join(named) or 'none'}, there are encoders for {', '.join(encoders)}."
        )
    return named[0], named[1]


def only(encoder: Encoder | Mapping[str, Encoder]) -> Encoder:
    """The one encoder there is, however it is given."""
    if not isinstance(encoder, Mapping):
        return encoder
    if len(encoder) != 1:
        raise ConfigError(
            f"These rows need one encoder, not those of {', '.join(encoder)}. Pass the one that fits them."
        )
    return next(iter(encoder.values()))
