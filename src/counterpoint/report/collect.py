"""What a report shows of an encoder: the neighbours of a few rows and a 2-D map, kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from counterpoint.errors import DataError, MissingExtra, need
from counterpoint.files import write_text


def neighbours(
    embeddings: np.ndarray,
    texts: Sequence[str],
    *,
    queries: int = 6,
    k: int = 5,
    show: Callable[[int], str] | None = None,
) -> list[dict[str, object]]:
    """The `k` nearest other rows of a few rows spread evenly over the data; embeddings ``(N, D)`` of unit length.

    show: row -> HTML that shows it, kept as ``shown`` beside the text; asked of these few rows alone. texts: N, as they
    are shown. queries: how many rows.
    """

    @cache
    def told(row: int) -> dict[str, str]:
        shown = show(row) if show else ""
        return {"shown": shown} if shown else {}

    n = len(embeddings)
    chosen = np.linspace(0, n - 1, min(queries, n)).astype(int)
    scores = embeddings[chosen] @ embeddings.T
    scores[np.arange(len(chosen)), chosen] = -np.inf
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, n - 1)]
    return [
        {
            "query": texts[q],
            **told(int(q)),
            "hits": [{"score": round(float(row[j]), 4), "text": texts[j], **told(int(j))} for j in near],
        }
        for q, near, row in zip(chosen, nearest, scores)
    ]


def project(embeddings: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, str]:
    """Two coordinates per row ``(N, 2)``, and the name of the projection: t-SNE, or PCA where it cannot run.

    embeddings: ``(N, D)``. seed: of the projection.
    """
    centred = embeddings - embeddings.mean(0)
    _, _, axes = np.linalg.svd(centred[:2000], full_matrices=False)
    flat = centred @ axes[:50].T
    if len(embeddings) < 30:
        padded = np.zeros((len(flat), 2), dtype=np.float32)
        padded[:, : min(2, flat.shape[1])] = flat[:, :2]
        return padded, "PCA"
    try:
        tsne = need("openTSNE", "report").TSNE
    except MissingExtra:
        return flat[:, :2], "PCA"
    perplexity = min(30, (len(flat) - 1) / 3)
    points = tsne(perplexity=perplexity, n_iter=300, random_state=seed, n_jobs=-1, initialization="pca").fit(flat)
    return np.asarray(points, dtype=np.float32), "t-SNE"


def collect(
    folder: Path | str,
    embeddings: np.ndarray,
    texts: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    show: Callable[[int], str] | None = None,
    most: int = 1500,
    seed: int = 0,
) -> None:
    """Write ``neighbours.json`` and ``map.json`` of (at most `most` of) these rows into ``folder/report``.

    embeddings: (N, D) of unit length. texts: (N,) shown on hover. groups: (N,) what colours a point. show: row -> HTML
    that shows it beside its neighbours, for what no text tells (`Modality.shown`). seed: of the rows that are shown and
    of the projection.
    """
    if len(embeddings) != len(texts) or (groups is not None and len(groups) != len(texts)):
        raise DataError(
            f"{len(embeddings)} embeddings came with {len(texts)} texts; give one text (and group) per row."
        )
    rows = np.arange(len(texts))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    z, shown = embeddings[rows], [" ".join(texts[i].split())[:240] for i in rows]
    out = Path(folder) / "report"
    out.mkdir(parents=True, exist_ok=True)
    if len(rows) > 1:
        near = neighbours(z, shown, show=(lambda i: show(int(rows[i]))) if show else None)
        write_text(out / "neighbours.json", json.dumps(near, ensure_ascii=False))
        points, name = project(z, seed=seed)
        data = {
            "projection": name,
            "rows": len(texts),
            "x": [round(float(v), 3) for v in points[:, 0]],
            "y": [round(float(v), 3) for v in points[:, 1]],
            "text": shown,
            "group": [str(groups[i]) for i in rows] if groups is not None else None,
        }
        write_text(out / "map.json", json.dumps(data, ensure_ascii=False))
