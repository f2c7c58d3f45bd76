"""What ails an embedding space: figures of its shape, of its pairs and of the loss's temperature, each with advice."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import move
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.transforms import unit
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate import findings
from counterpoint.evaluate.findings import Diagnosis, Measured
from counterpoint.evaluate.tasks import only, streams
from counterpoint.objectives.geometry import effective_rank, isotropy, mean_pair_cosine, uniformity
from counterpoint.search.exact import top_k

TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)
NEIGHBOURS = 10
SHAPE_ROWS, BLOCK, SHOWN = 2_000, 512, 8
"""Rows that quadratic figures are taken of, at most; rows at once; examples of each sort."""
SURE = 0.75
"""Scored pairs count as positives from this share of the range of the scores."""


# --- figures -----------------------------------------------------------------------------------------------------


def tolerance(z: np.ndarray, labels: np.ndarray) -> float:
    """Mean cosine of two different rows of one class, over all such pairs; a class of one row has none.

    z: ``(N, D)``. labels: ``(N,)``, -1 where the class is not known. NaN where no class has two rows.
    Source: Wang & Liu 2021, arXiv 2012.09740 (who divide by the number of all pairs).

    >>> z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    >>> tolerance(z, np.array([0, 0, 1]))
    1.0
    """
    known = labels >= 0
    z, numbers = unit(z[known]).astype(np.float64), np.unique(labels[known], return_inverse=True)[1]
    count = np.bincount(numbers).astype(np.float64)
    sums = np.zeros((len(count), z.shape[1]))
    np.add.at(sums, numbers, z)
    pairs = (count * (count - 1)).sum()
    # Of a class of one the two terms are the same, and cancel.
    return float(((sums**2).sum() - (z**2).sum()) / pairs) if pairs else float("nan")


def effective_negatives(scores: Tensor, temperatures: Sequence[float] = TEMPERATURES) -> np.ndarray:
    """``exp(entropy)`` of ``r_ik = exp(s_ik / T) / Σ_k exp(s_ik / T)``, the share of the loss's push that each negative
    of a row gets: how many negatives the loss pushes, ``(N, temperatures)``.

    scores: ``(N, M)`` cosines, -inf where there is no negative. 1: only the nearest is pushed; the number of negatives:
    all alike. Source: Wang & Liu 2021, arXiv 2012.09740, eq. 5.

    >>> scores = torch.tensor([[0.9, 0.1, 0.1, 0.1]])
    >>> [round(float(n), 1) for n in effective_negatives(scores, temperatures=(0.01, 100.0))[0]]
    [1.0, 4.0]
    """
    found = []
    for temperature in temperatures:
        log_r = (scores.double() / temperature).log_softmax(1)
        found.append(torch.special.entr(log_r.exp()).sum(1).exp())
    return torch.stack(found, 1).numpy()


def skewness(counts: np.ndarray) -> float:
    """Third standardised moment, ``E (x - mean)³ / std³``; 0 for constants.

    Of how often each row is among the nearest of others it says how uneven that is: 0 even, above 1 there are hubs.
    Source: Radovanović et al. 2010, "Hubs in Space".

    counts: ``(N,)``.

    >>> skewness(np.array([1, 1, 1])), round(skewness(np.array([0, 0, 0, 9])), 3)
    (0.0, 1.155)
    """
    x = counts - counts.mean()
    spread = np.sqrt((x**2).mean())
    return float((x**3).mean() / spread**3) if spread > 0 else 0.0


def examine(
    z: np.ndarray,
    *,
    pairs: tuple[np.ndarray, np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    temperature: float | None = None,
    names: Sequence[str] | None = None,
    pair_names: tuple[Sequence[str], Sequence[str]] | None = None,
    judged: bool = True,
    towers: bool = False,
) -> Diagnosis:
    """Diagnose embeddings. z: ``(N, D)``, the things among which neighbours are looked for. labels: ``(N,)``, -1 not
    known. pairs: embeddings ``(P, D)`` of anchors and of their positives. temperature: that of the training.

    names, pair_names: what to call rows in examples. judged: pairs are what data say belongs together (not two views of
    one item), so that the positives of others may be false negatives. towers: the sides of a pair are of two
    modalities. Vectors are scaled to unit length here. Raises `DataError` for fewer than three rows, NaN, a vector of
    zeros, other widths, `ConfigError` for a temperature that is not positive.

    >>> z = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    >>> found = examine(z, temperature=0.1)
    >>> found.counts, any(f.name == "isotropy" for f in found.findings)
    ({'rows': 50, 'dimensions': 8}, True)
    """
    began = time.perf_counter()
    z = checked(z, "z")
    if len(z) < 3:
        raise DataError(f"{len(z)} rows were given: a neighbourhood needs at least 3. Give more rows.")
    if temperature is not None and not temperature > 0:
        raise ConfigError(
            f"temperature={temperature}: a temperature is positive. Give that of the training, e.g. 0.05."
        )
    if labels is not None and labels.shape != (len(z),):
        raise DataError(f"labels have shape {labels.shape}, expected ({len(z)},): one class for each row of z.")
    names = [f"row {i}" for i in range(len(z))] if names is None else names
    some = torch.from_numpy(z[np.linspace(0, len(z) - 1, min(len(z), SHAPE_ROWS)).astype(int)])
    near_scores, near = nearest_others(z, min(NEIGHBOURS, len(z) - 1))
    m = Measured(
        rows=len(z),
        dim=z.shape[1],
        random_cosine=mean_pair_cosine(some).item(),
        uniformity=uniformity(some).item(),
        isotropy=isotropy(some).item(),
        effective_rank=effective_rank(some).item(),
        rank_of=min(len(some), z.shape[1]),
        occurrences=np.bincount(near.ravel(), minlength=len(z)),
        duplicates=float((near_scores[:, 0] > findings.DUPLICATE).mean()),
        temperature=temperature,
        temperatures=TEMPERATURES,
    )
    m.histograms["random pairs"] = histogram((some[:-1:2] @ some[1::2].T).flatten().numpy())
    m.histograms["nearest other row"] = histogram(near_scores[:, 0])
    m.examples["hubs"] = [{"item": names[i], "neighbour of": int(m.occurrences[i])} for i in top(m.occurrences)]
    m.examples["duplicates"] = duplicates(near_scores[:, 0], near[:, 0], names)
    m.skewness, m.anti_hubs = skewness(m.occurrences), float((m.occurrences == 0).mean())
    if labels is not None and (labels >= 0).any():
        m = with_labels(m, z, labels, near)
    if pairs is not None:
        m = with_pairs(m, *pairs, names=pair_names, judged=judged, towers=towers)
    if pairs is None or not judged:
        rows = min(len(z), SHAPE_ROWS)
        m.negatives, m.effective = len(z) - 1, over_blocks(z[:rows], z, own=np.arange(rows))
    return findings.diagnosis(m, seconds=time.perf_counter() - began)


def with_labels(m: Measured, z: np.ndarray, labels: np.ndarray, near: np.ndarray) -> Measured:
    """The figures with those that labels allow. m: so far. z: ``(N, D)`` unit vectors. labels: ``(N,)``, below 0 where
    a row has none. near: ``(N, k)`` numbers of the nearest others."""
    known = labels >= 0
    same = (labels[near] == labels[:, None])[known]
    share = np.unique(labels[known], return_counts=True)[1] / known.sum()
    return replace(
        m,
        tolerance=tolerance(z, labels),
        same_class=float(same.mean()),
        same_class_by_chance=float((share**2).sum()),
        classes=len(share),
    )


def with_pairs(
    m: Measured,
    left: np.ndarray,
    right: np.ndarray,
    *,
    names: tuple[Sequence[str], Sequence[str]] | None,
    judged: bool,
    towers: bool,
) -> Measured:
    """The figures with those that pairs allow.

    m: so far. left, right: anchors and positives ``(P, D)``. names: what to call them in examples. judged: whether the
    pairs come with scores. towers: whether the sides are of two modalities.
    """
    left, right = checked(left, "anchors"), checked(right, "positives")
    if left.shape != right.shape or left.shape[1] != m.dim:
        raise DataError(
            f"Anchors have shape {left.shape} and positives {right.shape}; expected (P, {m.dim}) of both: row i of "
            "each is pair i."
        )
    own = (left * right).sum(1)
    apart = left @ right.mean(0) - own / len(left)  # of an anchor with the positives of others, on average
    m = replace(
        m,
        pairs=len(left),
        judged=judged,
        alignment=float((2 - 2 * own).mean()),
        other_cosine=float(apart.mean() * len(left) / max(1, len(left) - 1)),
        gap=float(np.linalg.norm(left.mean(0) - right.mean(0))) if towers else None,
    )
    m.histograms["positives"] = histogram(own)
    if not judged or len(left) < 2:
        return m
    rows = min(len(left), SHAPE_ROWS)
    m.negatives, m.effective = len(right) - 1, over_blocks(left[:rows], right, own=np.arange(rows))
    above, best, which = nearer_than_own(left, right, own)
    m.nearer, m.nearer_each = float((above > 0).mean()), float(above.mean())
    if names is not None:
        order = np.argsort(own - best, kind="stable")[:SHOWN]
        m.examples["nearer than the positive"] = [
            {
                "anchor": names[0][i], "positive": names[1][i], "cosine": float(own[i]),
                "nearer": names[1][which[i]], "its cosine": float(best[i]),
            }
            for i in order if above[i]
        ]  # fmt: skip
    return m


def nearer_than_own(left: np.ndarray, right: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each anchor: how many positives of others are nearer than its own, the nearest one's cosine, and which.

    left, right: unit vectors ``(P, D)``. own: ``(P,)`` cosines of the pairs.
    """
    above, best, which = np.zeros(len(left), dtype=np.int64), np.zeros(len(left)), np.zeros(len(left), dtype=np.int64)
    for r in range(0, len(left), BLOCK):
        s = left[r : r + BLOCK] @ right.T
        s[np.arange(len(s)), np.arange(r, r + len(s))] = -np.inf
        s[s > 1 - 1e-5] = -np.inf  # the anchor itself, which is the positive of another
        mine = own[r : r + BLOCK, None]
        above[r : r + BLOCK] = (s > mine + 1e-5).sum(1)  # an equal text is no other
        best[r : r + BLOCK], which[r : r + BLOCK] = s.max(1), s.argmax(1)
    return above, best, which


def over_blocks(left: np.ndarray, right: np.ndarray, *, own: np.ndarray) -> np.ndarray:
    """Mean `effective_negatives` over rows ``(N, D)`` and candidates ``(M, D)``, of which candidate own_i is none.

    left: the rows. right: the candidates. own: ``(N,)``.
    """
    found = []
    for r in range(0, len(left), BLOCK):
        s = torch.from_numpy(left[r : r + BLOCK] @ right.T)
        s[torch.arange(len(s)), torch.from_numpy(own[r : r + BLOCK])] = -torch.inf
        found.append(effective_negatives(s))
    return np.concatenate(found).mean(0)


def nearest_others(z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and numbers ``(N, k)`` of the nearest other rows.

    z: ``(N, D)`` unit vectors.
    """
    scores, ids = top_k(z, z, k + 1)
    itself = ids == np.arange(len(z))[:, None]
    itself[~itself.any(1), -1] = True  # among many equal rows it may not be found: the last one goes
    return scores[~itself].reshape(len(z), k), ids[~itself].reshape(len(z), k)


def duplicates(scores: np.ndarray, ids: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Examples of pairs of rows that are as good as equal. scores, ids: ``(N,)``, of each row's nearest other. names:
    what to call rows."""
    pairs = {(min(i, j), max(i, j)) for i, j in enumerate(ids.tolist()) if scores[i] > findings.DUPLICATE}
    return [{"one": names[i], "other": names[j]} for i, j in sorted(pairs)[:SHOWN]]


def top(counts: np.ndarray) -> list[int]:
    """Numbers of the rows with the largest counts ``(N,)``, the largest first."""
    found: list[int] = np.argsort(-counts, kind="stable")[:SHOWN].tolist()
    return found


def histogram(cosines: np.ndarray) -> list[float]:
    """Shares in 50 equal parts of [-1, 1].

    cosines: any number of them.
    """
    counts = np.histogram(cosines.clip(-1, 1), bins=50, range=(-1, 1))[0]
    shares: list[float] = (counts / max(1, counts.sum())).tolist()
    return shares


def checked(z: np.ndarray, name: str) -> np.ndarray:
    """Unit vectors, float32, or an error that names the first row that is none.

    z: ``(N, D)``. name: of the rows, for the message.
    """
    z = np.asarray(z, dtype=np.float32)
    if z.ndim != 2:
        raise DataError(f"{name} has shape {z.shape}; expected (N, D): one embedding for each row.")
    length = np.linalg.norm(z, axis=1)
    if len(bad := np.flatnonzero(~np.isfinite(length) | (length == 0))):
        raise DataError(
            f"{name}: row {bad[0]} is all zeros or not finite ({len(bad)} such rows), so it has no direction. Leave "
            "such rows out (an empty text?), or look at what the model does with them."
        )
    return unit(z)


# --- rows --------------------------------------------------------------------------------------------------------


def diagnose(
    encoder: Encoder | Mapping[str, Encoder],
    rows: Iterable[Row],
    *,
    views: Iterable[Row] | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose an encoder on rows: pairs, scored pairs (those with high scores as positives), labelled items, single
    items, or two modalities of one thing (with an encoder for each, by stream).

    views: two views of each item as ``anchor`` and ``positive``, for rows that are no pairs; without them two passes
    with dropout are the views of a text. temperature: that of the training (None: not known). Returns a `Diagnosis`;
    raises `DataError` for rows of another kind, or too few. encoder: one, or one for each stream. rows: of one kind.
    seed: of dropout and of the rows that are sampled.

    >>> from counterpoint.encoders.static import StaticText
    >>> rows = [{"anchor": f"question {i} of many", "positive": f"answer {i}"} for i in range(20)]
    >>> found = diagnose(StaticText.example(), rows, temperature=0.05)
    >>> sorted(found.counts)
    ['dimensions', 'pairs', 'rows']
    """
    held = [r for r in rows if not any(v is None for v in r.values())]
    if not held:
        raise DataError("There are no rows to look at.")
    keys = {k for k in held[0] if k not in ("row", "source")}
    notes: list[str] = []
    if {"anchor", "positive"} <= keys or {"a", "b", "score"} <= keys:
        return of_pairs(only(encoder), held, temperature=temperature)
    if len(keys) == 2 and "label" not in keys and isinstance(encoder, Mapping):
        return of_towers(encoder, held, temperature=temperature)
    one = only(encoder)
    key = one.modality if one.modality in keys else ""
    if not key:
        raise DataError(
            f"Rows of {', '.join(sorted(keys))} cannot be diagnosed with an encoder of {one.modality}. Give pairs, "
            f"scored pairs, or rows with a {one.modality}, with or without a label."
        )
    items = [r[key] for r in held]
    vectors, kept = encoded(one, items, notes)
    pairs: tuple[np.ndarray, np.ndarray] | None
    if views is not None:
        both = list(views)
        pairs = one.encode([r["anchor"] for r in both]), one.encode([r["positive"] for r in both])
    else:
        pairs = dropped_out(one, [items[i] for i in kept[:SHAPE_ROWS]], seed=seed)
        notes.append(
            "A row's positive is itself in another pass with dropout."
            if pairs is not None
            else "The model has no dropout and the rows are no pairs: nothing says which belong together, so alignment "
            "is left out. Give pairs to have it."
        )
    labels = np.array([held[i]["label"] for i in kept]) if "label" in keys else None
    found = examine(
        vectors, pairs=pairs, labels=labels, temperature=temperature, names=named(items, kept), judged=False
    )
    return replace(found, notes=(*notes, *found.notes))


def of_pairs(encoder: Encoder, rows: Sequence[Row], *, temperature: float | None) -> Diagnosis:
    """encoder: of both sides. rows: with anchor and positive, or a, b and score. temperature: that of the training
    (None: not known)."""
    notes: list[str] = []
    roles: tuple[str | None, str | None] = ("query", "document")
    left, right = "anchor", "positive"
    cloud = [r.get("positive") for r in rows]
    if "score" in rows[0]:
        left, right, roles = "a", "b", (None, None)
        cloud = [r[side] for side in "ab" for r in rows]
        scores = np.array([float(r["score"]) for r in rows])
        high = scores >= scores.min() + SURE * (scores.max() - scores.min())
        rows = [r for r, h in zip(rows, high) if h and scores.max() > scores.min()]
        notes.append(
            f"Positives are the {len(rows):,} of {len(high):,} pairs in the upper quarter of the scores' range."
        )
    cloud = distinct(cloud)
    vectors, kept = encoded(encoder, cloud, notes, role=roles[1])
    a, first = encoded(encoder, [r[left] for r in rows], notes, role=roles[0])
    b, second = encoded(encoder, [r[right] for r in rows], notes, role=roles[1])
    both = sorted(set(first) & set(second))
    a, b = a[np.isin(first, both)], b[np.isin(second, both)]
    rows = [rows[i] for i in both]
    found = examine(
        vectors,
        pairs=(a, b) if len(rows) > 1 else None,
        temperature=temperature,
        names=named(cloud, kept),
        pair_names=(named([r[left] for r in rows]), named([r[right] for r in rows])),
    )
    return replace(found, notes=(*notes, *found.notes))


def of_towers(encoders: Mapping[str, Encoder], rows: list[Row], *, temperature: float | None) -> Diagnosis:
    """encoders: by stream. rows: that have both streams. temperature: that of the training (None: not known)."""
    left, right = streams([{k: v for k, v in rows[0].items() if k != "source"}], encoders)
    a, b = (encoders[s].encode([r[s] for r in rows]) for s in (left, right))
    if a.shape[1] != b.shape[1]:
        raise DataError(f"The towers give {a.shape[1]} and {b.shape[1]} dimensions, which cannot be compared.")
    names = named([r[left] for r in rows]), named([r[right] for r in rows])
    found = examine(b, pairs=(a, b), temperature=temperature, names=names[1], pair_names=names, towers=True)
    return replace(found, notes=(f"Anchors are {left}s, candidates {right}s; the shape is that of the {right}s.",))


def encoded(
    encoder: Encoder, items: Sequence[Any], notes: list[str], *, role: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the items that have a direction, and their numbers.

    encoder: of the items. notes: a sentence is added where items are left out. role: whose prompt is put before them.
    """
    z = encoder.encode(items, role=role)
    kept = np.flatnonzero(np.linalg.norm(z, axis=1) > 0)
    if len(kept) < len(z):
        notes.append(f"{len(z) - len(kept):,} rows have an embedding of zeros (no known word?) and are left out.")
    return z[kept], kept


def dropped_out(encoder: Encoder, items: Sequence[Any], *, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Embeddings of two passes with dropout; None where the passes do not differ.

    encoder: in train mode for it. items: N. seed: of the two passes.
    """
    model = copy.deepcopy(encoder).train()  # a copy: statistics of batches must not move
    out: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for _ in range(2):
            z = np.zeros((len(items), encoder.dim), dtype=np.float32)
            for r in range(0, len(items), 64):
                data = move(model.collate(items[r : r + 64]), encoder.device)
                z[r : r + 64] = F.normalize(model(data).float(), dim=-1).cpu().numpy()
            out.append(z)
    whole = (np.linalg.norm(out[0], axis=1) > 0) & (np.linalg.norm(out[1], axis=1) > 0)
    return (out[0][whole], out[1][whole]) if whole.any() and not np.array_equal(out[0], out[1]) else None


def distinct(items: Sequence[Any]) -> list[Any]:
    """Equal texts once; other items as they are."""
    return list(dict.fromkeys(items)) if all(isinstance(x, str) for x in items) else list(items)


def named(items: Sequence[Any], kept: Iterable[int] | None = None) -> list[str]:
    """What to call items: a text's first words, the row's number else.

    items: all of them. kept: numbers of those that are meant (None: all).
    """
    names = [" ".join(x.split())[:160] if isinstance(x, str) else f"row {i}" for i, x in enumerate(items)]
    return names if kept is None else [names[i] for i in kept]
