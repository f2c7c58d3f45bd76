"""One ranking out of several: reciprocal rank fusion, and a weighted sum of normalised scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from counterpoint.errors import ConfigError, DataError
from counterpoint.search.exact import Run


def reciprocal_rank(
    runs: Sequence[Run], *, k: int, constant: float = 60.0, weights: Sequence[float] | None = None
) -> Run:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): score(d) = Σ_r w_r / (constant + rank_r(d)).

    runs: rankings of the same Q queries. k: results wanted. A run that does not list a document adds nothing to it.
    """
    points = [
        np.broadcast_to(w / (constant + 1 + np.arange(ids.shape[1])), ids.shape)
        for w, (_, ids) in zip(_weights(weights, len(runs)), runs)
    ]
    return _merge([ids for _, ids in runs], points, k)


def weighted(
    dense: Run, lexical: Run, *, k: int, alpha: float = 0.5, normalize: Literal["minmax", "zscore"] = "minmax"
) -> Run:
    """score(d) = alpha · dense'(d) + (1 − alpha) · lexical'(d), both made comparable within each query.

    ``minmax`` maps a query's listed scores to 0 … 1 and ``zscore`` to mean 0 and deviation 1. A document that only one
    of the lists holds gets the other list's smallest normalised score, the most it can have there: so give long lists
    (100 and more) for a short result.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}; it is the share of the dense score, from 0 (lexical only) to 1.")
    points, ids = [], []
    for share, (scores, listed) in ((alpha, dense), (1 - alpha, lexical)):
        scaled, floor = _normalized(scores, listed >= 0, normalize)
        # Σ over lists of (score − floor), as every document has at least the floor of each list.
        points.append(share * (scaled - floor[:, None]))
        ids.append(listed)
    return _merge(ids, points, k)


def _normalized(scores: np.ndarray, held: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a common scale and the smallest of each query, ``(Q, K)`` and ``(Q,)``."""
    x = np.where(held, scores, np.nan).astype(np.float64)
    empty = ~held.any(axis=1)
    x[empty] = 0.0
    low = np.nanmin(x, axis=1)
    if how == "minmax":
        centre, spread = low, np.nanmax(x, axis=1) - low
    elif how == "zscore":
        centre, spread = np.nanmean(x, axis=1), np.nanstd(x, axis=1)
    else:
        raise ConfigError(f"There is no normalisation {how!r}. Use minmax or zscore.")
    spread = np.where(spread > 0, spread, 1.0)
    return (x - centre[:, None]) / spread[:, None], (low - centre) / spread


def _merge(lists: Sequence[np.ndarray], points: Sequence[np.ndarray], k: int) -> Run:
    """Sum the points of equal ids within each query and rank; id -1 is no document."""
    if k < 1:
        raise ConfigError(f"k is {k}; the number of results wanted must be at least 1.")
    n = len(lists[0])
    if any(len(ids) != n for ids in lists):
        raise DataError(
            f"The rankings are of {', '.join(str(len(i)) for i in lists)} queries; they must be of the same."
        )
    ids = np.concatenate(lists, axis=1)
    query = np.broadcast_to(np.arange(n)[:, None], ids.shape)[ids >= 0]
    value = np.concatenate(points, axis=1)[ids >= 0]
    ids = ids[ids >= 0]
    width = int(ids.max(initial=0)) + 1
    keys, where = np.unique(query * width + ids, return_inverse=True)
    total = np.bincount(where, weights=value, minlength=len(keys))
    query, ids = keys // width, keys % width
    order = np.lexsort((ids, -total, query))
    query, ids, total = query[order], ids[order], total[order]
    starts = np.searchsorted(query, np.arange(n))
    rank = np.arange(len(query)) - starts[query]
    kept = rank < k
    size = int(rank[kept].max(initial=-1)) + 1
    out = np.full((n, size), -np.inf, np.float32), np.full((n, size), -1, np.int64)
    out[0][query[kept], rank[kept]], out[1][query[kept], rank[kept]] = total[kept], ids[kept]
    return out


def _weights(given: Sequence[float] | None, n: int) -> Sequence[float]:
    if given is not None and len(given) != n:
        raise ConfigError(f"{len(given)} weights were given for {n} rankings; give one for each.")
    return [1.0] * n if given is None else given
