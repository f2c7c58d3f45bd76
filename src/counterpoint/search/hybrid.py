"""One ranking out of several: a weighted sum of dense and lexical scores, and reciprocal rank fusion.

Both scores are put on one scale by what they mean, not by which rows happen to be listed: 1 is the best row for the
query, 0 a row that has nothing to do with it. For BM25 that is a row without a shared word, for cosines the average row
of the corpus. So a lone hit and tied hits count 1, and a list that ends early loses nothing (Bruch, Gai & Ingber 2023,
arXiv 2210.11934, compare such sums with others; they anchor cosines at -1 instead).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.exact import Run

if TYPE_CHECKING:
    from counterpoint.search.bm25 import BM25
    from counterpoint.search.quantise import Vectors

DEFAULT_ALPHA = 0.5
"""The share of the dense score where nothing is known of model and rows."""
_ROUNDING = 1e-4
"""Distance of the best from the average row, as a share of their scores, that is rounding and no scale."""


@dataclass(frozen=True)
class Share:
    """How much the dense score counts in a hybrid. alpha: from 0 (lexical alone) to 1 (dense alone). source: a clause
    that says where it comes from. figures: what the choice was made by (metric, pairs, the metric of each system).

    >>> share = Share(0.7, "learned on 200 pairs")
    >>> Share.from_json(share.to_json(), where="share.json") == share
    True
    """

    alpha: float
    source: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, held: Any, *, where: str) -> Share:
        """What `to_json` gave. where: names the file in the error. Raises ConfigError for anything else.

        held: from JSON.
        """
        fits = isinstance(held, dict) and isinstance(held.get("source"), str) and _is_share(held.get("alpha"))
        if not fits or not isinstance(held.get("figures", {}), dict):
            raise ConfigError(
                f"{where} holds {str(held)[:80]!r}; expected an object with alpha, a number from 0 to 1, and source, a "
                "text."
            )
        return cls(float(held["alpha"]), held["source"], held.get("figures", {}))


DEFAULT = Share(DEFAULT_ALPHA, "the default, as no pairs were there to learn it from")


def weighted(
    dense: Run, lexical: Run, *, k: int, alpha: float = DEFAULT_ALPHA, average: np.ndarray | None = None
) -> Run:
    """score(d) = alpha · dense'(d) + (1 − alpha) · lexical'(d), the scores made comparable within each query.

    dense, lexical: rankings of the same Q queries, best first; give long lists (100 and more) for a short result. k:
    results wanted. alpha: share of the dense score. average: (Q,) the dense score of an average row (None: 0).

        dense'(d) = 1 − (best − dense(d)) / (best − average),    lexical'(d) = lexical(d) / best

    A row that only one of the lists holds counts 0 in the other, or as its last one where that is less (`both` gives
    lists without such rows). Equal sums are ordered as in the list that counts more, then as in the other: alpha 0 and
    1 give one list's order, exactly, and what only the other holds behind it; a query without lexical results has its
    dense order.

    Raises ConfigError for an alpha outside of 0 to 1, DataError for rankings of different queries.

    >>> dense = np.array([[0.9, 0.1]]), np.array([[0, 1]])
    >>> lexical = np.array([[5.0, 1.0]]), np.array([[1, 0]])
    >>> [weighted(dense, lexical, k=1, alpha=alpha)[1].tolist() for alpha in (1.0, 0.0)]
    [[[0]], [[1]]]
    """
    if not _is_share(alpha):
        raise ConfigError(f"alpha is {alpha}; it is the share of the dense score, from 0 (lexical only) to 1.")
    zero = np.zeros(len(dense[0])) if average is None else np.asarray(average, dtype=np.float64)
    parts = [(alpha, dense, zero), (1 - alpha, lexical, np.zeros(len(lexical[0])))]
    points, floors, ids = [], [], []
    for share, (scores, listed), nothing in sorted(parts, key=lambda part: -part[0]):
        scaled, floor = _scaled(scores, listed >= 0, nothing)
        # Σ over lists of (score − floor) ranks like the sum of the scores, as every row has at least the floor of each.
        points.append(share * (scaled - floor[:, None]))
        floors.append(share * floor)
        ids.append(listed)
    total, found = _merge(ids, points, k, ties="place")
    return (total + np.sum(floors, axis=0)[:, None]).astype(np.float32), found


def both(
    dense: Run, queries: Sequence[str], embedded: np.ndarray, *, vectors: Vectors, bm25: BM25, depth: int
) -> tuple[Run, Run, np.ndarray]:
    """What `weighted` takes: the dense and the lexical ranking of Q queries, and the dense score of an average row.

    dense: the ranking by ``vectors``, ``depth`` rows deep. embedded: the queries' vectors ``(Q, D)``. A row that only
    one of the rankings holds gets its score in the other too, so the sum is that of both, however short they are.
    queries: Q texts. bm25: of the same rows as the vectors.
    """
    lexical = bm25.search(queries, depth)
    words = bm25.scores_at(queries, dense[1])
    full = extended(dense, lexical[1], vectors.scored(embedded, lexical[1]))
    return full, extended(lexical, np.where(words > 0, dense[1], -1), words), vectors.average(embedded)


def extended(run: Run, ids: np.ndarray, scores: np.ndarray) -> Run:
    """A ranking with further rows behind its own.

    ids, scores: ``(Q, K')``; those that the ranking lists already, and id -1, are passed over. What is behind the last
    listed row scores at most as it does. run: scores and ids ``(Q, K)``.

    >>> run = np.array([[0.9]]), np.array([[7]])
    >>> scores, ids = extended(run, np.array([[7, 3]]), np.array([[0.9, 0.5]]))
    >>> ids.tolist()
    [[7, -1, 3]]
    """
    n, width = len(ids), 1 + max(ids.max(initial=0), run[1].max(initial=0))
    at = np.arange(n)[:, None] * width
    new = (ids >= 0) & ~np.isin(at + ids, (at + run[1])[run[1] >= 0])
    last = np.where(run[1] >= 0, run[0], np.inf).min(axis=1, initial=np.inf)[:, None]
    more = np.where(new, np.minimum(scores, last), -np.inf), np.where(new, ids, -1)
    return np.concatenate([run[0], more[0]], axis=1), np.concatenate([run[1], more[1]], axis=1)


def reciprocal_rank(
    runs: Sequence[Run], *, k: int, constant: float = 60.0, weights: Sequence[float] | None = None
) -> Run:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): score(d) = Σ_r w_r / (constant + rank_r(d)).

    runs: rankings of the same Q queries. k: results wanted. A run that does not list a document adds nothing to it.
    constant: the larger, the less the first places count. weights: w_r, one for each ranking (None: 1).

    >>> a, b = (np.array([[2.0, 1.0]]), np.array([[0, 1]])), (np.array([[9.0, 1.0]]), np.array([[1, 2]]))
    >>> reciprocal_rank([a, b], k=3)[1].tolist()  # document 1 is in both
    [[1, 0, 2]]
    """
    points = [
        np.broadcast_to(w / (constant + 1 + np.arange(ids.shape[1])), ids.shape)
        for w, (_, ids) in zip(_weights(weights, len(runs)), runs)
    ]
    total, ids = _merge([ids for _, ids in runs], points, k, ties="id")
    return total.astype(np.float32), ids


def _is_share(alpha: Any) -> bool:
    return isinstance(alpha, int | float) and not isinstance(alpha, bool) and math.isfinite(alpha) and 0 <= alpha <= 1


def _scaled(scores: np.ndarray, held: np.ndarray, nothing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(Q, K)`` with 1 for each query's best and 0 for ``nothing (Q,)``, and the score of unlisted rows."""
    x = np.where(held, scores, -np.inf).astype(np.float64)
    best = np.where(held.any(axis=1), x.max(axis=1, initial=-np.inf), 0.0)
    spread = best - nothing
    # Rows that are all alike, or all below nothing, give no scale: their best still counts 1, and their order stays.
    spread = np.where(spread > _ROUNDING * np.maximum(abs(best), abs(nothing)), spread, 1.0)
    scaled = 1.0 - (best[:, None] - np.where(held, x, best[:, None])) / spread[:, None]
    return scaled, scaled.min(axis=1, initial=0.0)


def _merge(
    lists: Sequence[np.ndarray], points: Sequence[np.ndarray], k: int, *, ties: str
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the points of equal ids within each query and rank; id -1 is no document.

    ties: equal sums are ordered by ``id``, or by ``place``: in the first list that holds them.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; the number of results wanted must be at least 1.")
    n = len(lists[0])
    if any(len(ids) != n for ids in lists):
        raise DataError(
            f"The rankings are of {', '.join(str(len(i)) for i in lists)} queries; they must be of the same."
        )
    ids = np.concatenate(lists, axis=1)
    held = ids >= 0
    place = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)[held]
    query = np.broadcast_to(np.arange(n)[:, None], ids.shape)[held]
    value = np.concatenate(points, axis=1)[held]
    ids = ids[held]
    width = int(ids.max(initial=0)) + 1
    keys, first, where = np.unique(query * width + ids, return_index=True, return_inverse=True)
    total = np.bincount(where, weights=value, minlength=len(keys))
    query, ids = keys // width, keys % width
    order = np.lexsort((place[first] if ties == "place" else ids, -total, query))
    query, ids, total = query[order], ids[order], total[order]
    starts = np.searchsorted(query, np.arange(n))
    rank = np.arange(len(query)) - starts[query]
    kept = rank < k
    size = int(rank[kept].max(initial=-1)) + 1
    out = np.full((n, size), -np.inf), np.full((n, size), -1, np.int64)
    out[0][query[kept], rank[kept]], out[1][query[kept], rank[kept]] = total[kept], ids[kept]
    return out


def _weights(given: Sequence[float] | None, n: int) -> Sequence[float]:
    if given is not None and len(given) != n:
        raise ConfigError(f"{len(given)} weights were given for {n} rankings; give one for each.")
    return [1.0] * n if given is None else given
