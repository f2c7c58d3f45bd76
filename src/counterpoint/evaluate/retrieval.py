"""Metrics of rankings, per query: nDCG, MRR, recall, MAP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.errors import ConfigError, DataError

METRICS = ("ndcg@10", "mrr@10", "recall@10", "recall@100", "map")


class Judgements:
    """Which documents are relevant to which of Q queries, and how much.

    by_query: for each query, document number -> gain. A gain of 0 or less says: looked at, not relevant.

    >>> judged = Judgements([{0: 1.0}, {2: 3.0}])  # document 0 answers query 0, document 2 query 1
    >>> judged.gains(np.array([[0, 1], [1, 2]])).tolist()
    [[1.0, 0.0], [0.0, 3.0]]
    """

    def __init__(self, by_query: Sequence[Mapping[int, float]]) -> None:
        held = sorted((q, d, g) for q, row in enumerate(by_query) for d, g in row.items() if g > 0)
        self.query, self.document = (np.array([h[i] for h in held], dtype=np.int64) for i in (0, 1))
        self.gain = np.array([h[2] for h in held], dtype=np.float64)
        self.relevant = np.bincount(self.query, minlength=len(by_query))  # (Q,) relevant documents of each query

    def __len__(self) -> int:
        return len(self.relevant)

    def gains(self, ids: np.ndarray) -> np.ndarray:
        """Gain of each ranked document ``(Q, K)``; 0 for what is not relevant and for id -1.

        ids: numbers of documents, best first.
        """
        width = 1 + max(ids.max(initial=0), self.document.max(initial=0))
        keys, wanted = self.query * width + self.document, np.arange(len(ids))[:, None] * width + ids
        at = np.searchsorted(keys, wanted).clip(max=max(0, len(keys) - 1))
        if not len(keys):
            return np.zeros(ids.shape)
        return np.where((keys[at] == wanted) & (ids >= 0), self.gain[at], 0.0)

    def ideal(self, k: int) -> np.ndarray:
        """Gains of the best ranking there could be, ``(Q, k)``."""
        out = np.zeros((len(self), k))
        order = np.lexsort((-self.gain, self.query))
        place = np.arange(len(order)) - np.repeat(np.cumsum(self.relevant) - self.relevant, self.relevant)
        kept = place < k
        out[self.query[order][kept], place[kept]] = self.gain[order][kept]
        return out


def dcg(gains: np.ndarray, k: int) -> np.ndarray:
    """``Σ_{r=1..k} gain_r / log2(r + 1)`` per query, ``(Q, K) -> (Q,)``: linear gain, as trec_eval's ndcg_cut.

    gains: in the order of the ranking. k: depth.

    >>> dcg(np.array([[1.0, 0.0, 1.0]]), 3).tolist()  # 1 / log2(2) + 1 / log2(4)
    [1.5]
    """
    gains = gains[:, :k]
    return (gains / np.log2(np.arange(2, gains.shape[1] + 2))).sum(axis=1)


def ndcg(gains: np.ndarray, ideal: np.ndarray, k: int) -> np.ndarray:
    """DCG as a share of the ideal ranking's (Järvelin & Kekäläinen, 2002), ``(Q,)``; 0 where nothing is relevant.

    gains: ``(Q, K)`` in the order of the ranking. ideal: ``(Q, K')`` in the best order. k: depth.

    >>> ndcg(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]), 2).round(4).tolist()
    [0.6309]
    """
    best = dcg(ideal, k)
    return np.divide(dcg(gains, k), best, out=np.zeros(len(gains)), where=best > 0)


def reciprocal_rank(gains: np.ndarray, k: int) -> np.ndarray:
    """1 / place of the first relevant document among the first k, else 0, ``(Q,)``.

    gains: ``(Q, K)`` in the order of the ranking.

    >>> reciprocal_rank(np.array([[0.0, 1.0], [0.0, 0.0]]), 10).tolist()
    [0.5, 0.0]
    """
    hit = gains[:, :k] > 0
    return np.where(hit.any(axis=1), 1.0 / (1 + hit.argmax(axis=1)), 0.0) if hit.shape[1] else np.zeros(len(gains))


def recall(gains: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of the relevant documents that are among the first k, ``(Q,)``. relevant: (Q,) how many there are.

    gains: ``(Q, K)`` in the order of the ranking.

    >>> recall(np.array([[1.0, 0.0, 1.0]]), np.array([4]), 3).tolist()
    [0.5]
    """
    return (gains[:, :k] > 0).sum(axis=1) / np.maximum(1, relevant)


def average_precision(gains: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Mean over the relevant documents of the precision at their places; those not ranked count 0. ``(Q,)``.

    gains: ``(Q, K)`` in the order of the ranking. relevant: ``(Q,)`` how many there are.

    >>> average_precision(np.array([[1.0, 0.0, 1.0]]), np.array([2])).round(4).tolist()  # (1/1 + 2/3) / 2
    [0.8333]
    """
    hit = gains > 0
    precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
    return (precision * hit).sum(axis=1) / np.maximum(1, relevant)


@dataclass(frozen=True)
class Measured:
    """Metrics of a ranking. values: metric -> ``(Q',)`` over the queries that can be judged. kept: ``(Q',)`` their
    numbers. skipped: how many queries have no relevant document and are in no metric."""

    values: dict[str, np.ndarray]
    kept: np.ndarray
    skipped: int


def measure(
    ids: np.ndarray, judgements: Judgements | Sequence[Mapping[int, float]], *, metrics: Sequence[str] = METRICS
) -> Measured:
    """Metrics of rankings ``ids (Q, K)``, best first, -1 where a ranking has ended.

    metrics: ``ndcg@k``, ``mrr@k``, ``recall@k``, ``map``. A ranking that is shorter than k counts as complete, so rank
    at least as deep as the largest k (and as deep as the corpus, or the usual 1000, for ``map``). Raises DataError
    where no query has a relevant document. judgements: of the Q queries; or, for each, document number -> gain.

    >>> ids = np.array([[0, 1, 2], [1, 0, 2]])
    >>> found = measure(ids, [{0: 1.0}, {0: 1.0}], metrics=("mrr@10", "recall@1"))
    >>> {metric: values.tolist() for metric, values in found.values.items()}
    {'mrr@10': [1.0, 0.5], 'recall@1': [1.0, 0.0]}
    """
    judged = judgements if isinstance(judgements, Judgements) else Judgements(judgements)
    if ids.ndim != 2 or len(ids) != len(judged):
        raise DataError(
            f"The rankings have shape {ids.shape} for {len(judged)} judged queries; expected ({len(judged)}, K)."
        )
    kept = np.flatnonzero(judged.relevant > 0)
    if not len(kept):
        raise DataError(f"None of the {len(judged):,} queries has a relevant document; there is nothing to measure.")
    gains = judged.gains(ids)[kept]
    relevant = judged.relevant[kept]
    values = {}
    for name in metrics:
        kind, _, cut = name.partition("@")
        if not (kind == "map" and not cut) and not (kind in ("ndcg", "mrr", "recall") and cut.isdigit() and int(cut)):
            raise ConfigError(f"There is no metric {name!r}. Use ndcg@K, mrr@K, recall@K with a number K, or map.")
        if kind == "ndcg":
            values[name] = ndcg(gains, judged.ideal(int(cut))[kept], int(cut))
        elif kind == "mrr":
            values[name] = reciprocal_rank(gains, int(cut))
        elif kind == "recall":
            values[name] = recall(gains, relevant, int(cut))
        else:
            values[name] = average_precision(gains, relevant)
    return Measured(values, kept, len(judged) - len(kept))
