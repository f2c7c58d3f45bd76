"""Exact nearest neighbours by brute force, block by block: the default index, and the truth others are measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from counterpoint.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Run: TypeAlias = tuple[np.ndarray, np.ndarray]
"""A ranking per query: scores ``(Q, K)`` float32, descending, and ids ``(Q, K)`` int64.

Where a query has fewer than K results, the rest has id -1 and score -inf.
"""

FEW = 32
"""Queries up to which arrays are searched by numpy: as quick, and a shell's question need not wait for torch."""

INT8_SCALE = 127.0  # an int8 corpus holds round(127 · x) of unit vectors: its scores are divided by this


def top_k(
    queries: np.ndarray | Tensor,
    corpus: np.ndarray | Tensor,
    k: int,
    *,
    block: int = 16_384,
    query_block: int = 1_024,
    metric: Literal["dot", "cosine"] = "dot",
    device: torch.device | str | None = None,
) -> Run:
    """The ``min(k, M)`` rows of ``corpus`` that score highest for each query.

    queries: (Q, D). corpus: (M, D) float32, float16, or int8 (see `INT8_SCALE`); an array, a memory-mapped file or a
    tensor. block, query_block: rows handled at once, so working memory is about ``4·block·(query_block + D)`` bytes
    whatever M and Q are. device: where the products are computed (None: where the corpus is).

    Equal scores are ordered by id. (Two equal rows in different blocks may differ in the last bit of their product
    where the matrix library picks another kernel for another shape.)

    Raises ConfigError for k < 1 and DataError for shapes that do not fit or embeddings that are not finite.

    k: results wanted. metric: ``dot``, or ``cosine``, for which both sides are scaled to unit length first.

    >>> scores, ids = top_k(np.eye(3)[:1], np.array([[0.0, 1, 0], [0.5, 0, 0], [1, 0, 0]]), 2)
    >>> scores.tolist(), ids.tolist()
    ([[1.0, 0.5]], [[2, 1]])
    """
    if k < 1:
        raise ConfigError(f"k is {k}; the number of results wanted must be at least 1.")
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise DataError(
            f"Queries have shape {tuple(queries.shape)} and the corpus {tuple(corpus.shape)}; expected (Q, D) and "
            "(M, D) with the same D. Encode both with the same model."
        )
    if device is None and len(queries) <= FEW and isinstance(queries, np.ndarray) and isinstance(corpus, np.ndarray):
        return _few(queries, corpus, k, block=block, metric=metric)
    import torch
    from torch import Tensor

    if device is None:
        device = corpus.device if isinstance(corpus, Tensor) else "cpu"
    q_all = _floats(queries, device)
    if not torch.isfinite(q_all).all():
        raise DataError(_not_finite(q_all.cpu().numpy(), "query embeddings"))
    if metric == "cosine":
        q_all = torch.nn.functional.normalize(q_all, dim=-1)

    size, (n, m) = min(k, len(corpus)), (len(queries), len(corpus))
    scores = torch.full((n, size), -torch.inf)
    ids = torch.full((n, size), -1, dtype=torch.long)
    best: list[tuple[Tensor, Tensor] | None] = [None] * -(-n // query_block)
    for start in range(0, m, block):  # the corpus outside: a memory-mapped file is read once
        rows = _floats(corpus[start : start + block], device)
        if metric == "cosine":
            rows = torch.nn.functional.normalize(rows, dim=-1)
        for part, so_far in enumerate(best):
            new_scores, new_ids = select(q_all[part * query_block : (part + 1) * query_block] @ rows.T, size)
            # torch's selection puts NaN first, so looking at the winners is looking at all of them.
            if not torch.isfinite(new_scores).all():
                what = f"of the corpus embeddings {start:,} to {start + len(rows):,}"
                raise DataError(_not_finite(rows.cpu().numpy(), what))
            new_ids += start
            if so_far is not None:
                new_scores = torch.cat([so_far[0], new_scores], 1)
                pool = torch.cat([so_far[1], new_ids], 1)
                # Earlier blocks hold smaller ids, so order by position is order by id within equal scores.
                new_scores, position = select(new_scores, size)
                new_ids = pool.gather(1, position)
            best[part] = new_scores, new_ids
    for part, found in enumerate(best):
        if found is not None:
            at = slice(part * query_block, (part + 1) * query_block)
            scores[at], ids[at] = found[0].cpu(), found[1].cpu()
    if corpus.dtype in (np.int8, torch.int8) and metric == "dot":
        scores /= INT8_SCALE
    return scores.numpy(), ids.numpy()


def _few(queries: np.ndarray, corpus: np.ndarray, k: int, *, block: int, metric: str) -> Run:
    """`top_k` of a few queries, by numpy."""
    q = _lengthened(np.asarray(queries, dtype=np.float32), metric)
    if not np.isfinite(q).all():
        raise DataError(_not_finite(q, "query embeddings"))
    scores, ids = np.empty((len(q), 0), np.float32), np.empty((len(q), 0), np.int64)
    for start in range(0, len(corpus), block):
        rows = _lengthened(np.asarray(corpus[start : start + block], dtype=np.float32), metric)
        found = q @ rows.T
        if not np.isfinite(found).all():
            raise DataError(_not_finite(rows, f"of the corpus embeddings {start:,} to {start + len(rows):,}"))
        best, place = largest(found, k)
        scores, ids = np.concatenate([scores, best], axis=1), np.concatenate([ids, place + start], axis=1)
        scores, place = largest(scores, k)  # earlier blocks hold smaller ids: by position is by id
        ids = np.take_along_axis(ids, place, axis=1)
    return (scores / np.float32(INT8_SCALE) if corpus.dtype == np.int8 and metric == "dot" else scores), ids


def largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `select`, of an array: the ``min(k, M)`` largest of each row of ``(Q, M)``, descending, ties by column.

    scores: of every row against M things. k: results wanted.

    >>> largest(np.array([[1.0, 3.0, 3.0]]), 2)[1].tolist()
    [[1, 2]]
    """
    m = scores.shape[1]
    size = min(k, m)
    out = np.empty((len(scores), size), np.int64)
    for row, values in enumerate(scores):
        columns = np.arange(m)
        if size < m:
            edge = np.partition(values, m - size)[m - size]
            above = np.flatnonzero(values > edge)
            columns = np.sort(np.concatenate([above, np.flatnonzero(values == edge)[: size - len(above)]]))
        out[row] = columns[np.argsort(-values[columns], kind="stable")]
    return np.take_along_axis(scores, out, axis=1), out


def select(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``min(k, M)`` largest of each row of ``(Q, M)``, descending, equal values ordered by column.

    scores: of every row against M things. k: results wanted.

    >>> import torch
    >>> select(torch.tensor([[1.0, 3.0, 3.0]]), 2)[1].tolist()
    [[1, 2]]
    """
    import torch

    m = scores.shape[1]
    if k >= m:
        values, columns = torch.sort(scores, dim=1, descending=True, stable=True)
        return values, columns
    values, columns = torch.topk(scores, k + 1, dim=1)
    # A tie across the border: topk kept an arbitrary one of the equal values; keep the leftmost instead.
    for row in torch.nonzero(values[:, k] == values[:, k - 1]).flatten().tolist():
        edge = values[row, k]
        above = columns[row, :k][values[row, :k] > edge]
        level = torch.nonzero(scores[row] == edge).flatten()[: k - len(above)]
        columns[row, :k] = torch.cat([above, level])
    columns = columns[:, :k].sort(dim=1).values
    values, order = torch.sort(scores.gather(1, columns), dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _lengthened(x: np.ndarray, metric: str) -> np.ndarray:
    """Unit rows where cosines are asked for."""
    return x if metric == "dot" else x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _floats(x: np.ndarray | Tensor, device: torch.device | str) -> Tensor:
    import torch

    if isinstance(x, np.ndarray):
        # A read-only memory map would make torch warn about writing, which nobody does here.
        x = torch.from_numpy(np.array(x) if not x.flags.writeable else x)
    return x.detach().to(device).float()


def _not_finite(x: np.ndarray, what: str) -> str:
    return f"{int((~np.isfinite(x).all(axis=1)).sum()):,} {what} are not finite (NaN or infinity)."
