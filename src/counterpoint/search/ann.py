"""Approximate nearest neighbours: a navigable small-world graph (HNSW; Malkov & Yashunin, 2018) from `usearch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from counterpoint.errors import ConfigError, DataError, ModelError, need
from counterpoint.files import whole_file
from counterpoint.search.exact import Run

SMALL = 10_000
"""Rows up to which one thread builds a graph, in a second or so."""


class Ann:
    """Cosine neighbours in sublinear time, in memory or mapped from a file.

    embeddings: (M, D), any length (the cosine is what counts). dtype: what the graph keeps of them: ``f32``, ``f16``
    or ``i8`` (a quarter of the memory; its scores are rounded, so re-score the winners where that matters).
    connectivity, expansion: edges per node and width of the search while building. More is better and slower.
    threads: that build it; 0: all. None: one up to `SMALL` rows, which gives the same graph each time; nodes added at
    once do not see each other, and in a small graph one may stay out of reach.

    >>> z = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    >>> scores, ids = Ann(z, threads=1).search(z[:3], 1)
    >>> ids.ravel().tolist()
    [0, 1, 2]
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        *,
        dtype: Literal["f32", "f16", "i8"] = "f16",
        connectivity: int = 16,
        expansion: int = 128,
        threads: int | None = None,
    ) -> None:
        if dtype not in ("f32", "f16", "i8"):
            raise ConfigError(f"An approximate index keeps f32, f16 or i8; {dtype!r} was asked.")
        if embeddings.ndim != 2 or not len(embeddings):
            raise DataError(f"Embeddings have shape {embeddings.shape}; expected (M, D) with at least one row.")
        self._index = need("usearch.index", "search").Index(
            ndim=embeddings.shape[1],
            metric="cos",
            dtype=dtype,
            connectivity=connectivity,
            expansion_add=expansion,
        )
        if threads is None:
            threads = 1 if len(embeddings) <= SMALL else 0
        for start in range(0, len(embeddings), 65_536):
            rows = np.asarray(embeddings[start : start + 65_536], dtype=np.float32)
            if not np.isfinite(rows).all():
                raise DataError(f"Some of the embeddings {start:,} to {start + len(rows):,} are NaN or infinite.")
            self._index.add(np.arange(start, start + len(rows)), rows, threads=threads)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self._index.ndim)

    def search(self, queries: np.ndarray, k: int, *, expansion: int = 64, threads: int = 0) -> Run:
        """Cosines and ids ``(Q, min(k, M))``, best first.

        queries: (Q, D). expansion: how many candidates the walk keeps; more finds more and takes longer.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise DataError(f"Queries have shape {queries.shape}; this index holds embeddings of width {self.dim}.")
        if not np.isfinite(queries).all():
            raise DataError("Some of the query embeddings are NaN or infinite.")
        size = min(k, len(self))
        self._index.expansion_search = max(expansion, size)
        # Two rows are added because a lone query would be answered in another shape.
        asked = np.concatenate([queries, np.ones((2, self.dim))]).astype(np.float32)
        found = self._index.search(asked, size, threads=threads)
        n = len(queries)
        held = np.arange(size) < np.asarray(found.counts)[:n, None]  # the graph may find fewer than it was asked for
        scores = np.where(held, 1.0 - found.distances[:n], -np.inf).astype(np.float32)
        ids = np.where(held, found.keys[:n].astype(np.int64), -1)
        return scores, ids

    def save(self, file: str | Path) -> None:
        """Write the graph; the file appears whole or not at all."""
        with whole_file(Path(file)) as aside:
            self._index.save(str(aside))

    @classmethod
    def load(cls, file: str | Path, *, view: bool = True) -> Ann:
        """An index that `save` wrote. view: map the file instead of reading it (it must stay where it is)."""
        index: Any = cls.__new__(cls)
        try:
            index._index = need("usearch.index", "search").Index.restore(str(file), view=view)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"{file} is not an approximate index ({error}). Build the index again.") from error
        if index._index is None:
            raise ModelError(f"{file} is not an approximate index (there is no such file). Build the index again.")
        return index


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours that were found: ids ``(Q, K)`` against the exact ids ``(Q, K')``, -1 being none.

    found: by the approximate search. truth: by the exact one.

    >>> recall(np.array([[0, 1, 2]]), np.array([[0, 2, 5]])) == 2 / 3
    True
    """
    if len(found) != len(truth):
        raise DataError(f"{len(found)} rankings were found and {len(truth)} are the truth; expected the same queries.")
    wanted = (truth >= 0).sum()
    hits = sum(len(np.intersect1d(f[f >= 0], t[t >= 0])) for f, t in zip(found, truth))
    return float(hits / wanted) if wanted else float("nan")
