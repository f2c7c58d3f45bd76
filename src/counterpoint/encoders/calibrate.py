"""Calibration of embeddings by language: what sets the languages of one encoder apart is taken out, without pairs.

Texts of a language share a direction that says which language it is, and each dimension has its own spread in it. So
each language's vectors are shifted to mean 0 and scaled to spread 1, and then, perhaps, rotated onto those of a pivot
language: mutual nearest neighbours stand for translations, and the orthogonal map between them has a closed form. The
published rotation begins from an adversarially learned map; here it begins from the shifted and scaled vectors, which
one encoder has put in one space already.

Sources: Wu et al. 2022 (contrastive context prediction), arXiv 2206.03281; Conneau et al. 2018 (MUSE), arXiv
1710.04087; Schönemann 1966 (Procrustes).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from counterpoint.encoders.transforms import unit
from counterpoint.errors import ConfigError, DataError


@dataclass(frozen=True)
class Calibration:
    """``z -> unit((z - mean) / spread) @ rotation``: ``(D,)``, ``(D,)``, and ``(D, D)`` orthogonal or None."""

    mean: np.ndarray
    spread: np.ndarray
    rotation: np.ndarray | None = None

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Vectors ``(N, D)`` of this language, at unit length."""
        out = unit((z - self.mean) / self.spread)
        return out if self.rotation is None else out @ self.rotation


def calibrate(
    languages: Mapping[str, np.ndarray], *, pivot: str = "", scale: bool = True, rounds: int = 5
) -> dict[str, Calibration]:
    """The calibration of each language from vectors ``(N, D)`` of any texts in it.

    pivot: the language onto which the others are rotated ('': none is). scale: divide by the spread of each dimension.
    rounds: of finding mutual neighbours and rotating. A language of fewer vectors than dimensions is not rotated
    (warned), as is one with fewer mutual neighbours than that. languages: name -> vectors.

    >>> rng = np.random.default_rng(0)
    >>> found = calibrate({"de": rng.normal(5, 1, (40, 3)), "en": rng.normal(-5, 1, (40, 3))})
    >>> sorted(found), bool(found["de"].mean.mean() > 4)
    (['de', 'en'], True)
    """
    if pivot and pivot not in languages:
        raise ConfigError(f"pivot={pivot!r}: the languages are {', '.join(languages)}.")
    found = {name: shifted(z, scale=scale) for name, z in languages.items()}
    if not pivot:
        return found
    target = found[pivot](languages[pivot])
    for name, z in languages.items():
        if name != pivot:
            rotation = rotated(found[name](z), target, rounds=rounds)
            if rotation is None:
                warnings.warn(
                    f"{name} has too few texts, or too few that are neighbours of texts in {pivot}, to be rotated in "
                    f"{z.shape[1]} dimensions; it is shifted{' and scaled' if scale else ''} only.",
                    stacklevel=2,
                )
            found[name] = Calibration(found[name].mean, found[name].spread, rotation)
    return found


def shifted(z: np.ndarray, *, scale: bool = True) -> Calibration:
    """Mean 0, and spread 1 in each dimension.

    Of few vectors, each spread is drawn towards the common one, ``sqrt(w var + (1 - w) mean var)`` with ``w = min(1,
    N / 10 D)``: what two texts happen to share is no small spread.

    z: ``(N, D)`` vectors of one language. scale: divide by the spreads; without it the mean alone is taken away.

    >>> shifted(np.array([[1.0, 0.0], [3.0, 0.5]])).mean.tolist()
    [2.0, 0.25]
    """
    if z.ndim != 2 or not len(z) or not np.isfinite(z).all():
        raise DataError(f"Calibration needs finite vectors (N, D) of at least one text; shape {z.shape} was given.")
    mean = z.mean(0)
    if not scale:
        return Calibration(mean, np.ones_like(mean))
    var = z.var(0)
    weight = min(1.0, len(z) / (10 * z.shape[1]))
    spread = np.sqrt(weight * var + (1 - weight) * var.mean())
    return Calibration(mean, np.where(spread > 0, spread, 1.0))


def procrustes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The orthogonal W ``(D, D)`` that makes ``|a W - b|`` least; a, b: ``(N, D)``, row i of one for row i of other.

    >>> b = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> np.allclose(procrustes(b @ turn.T, b), turn)
    True
    """
    if a.shape != b.shape:
        raise DataError(f"Procrustes needs pairs of rows; shapes {a.shape} and {b.shape} were given.")
    left, _, right = np.linalg.svd(a.T @ b)
    return left @ right  # type: ignore[no-any-return]


def mutual_neighbours(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows of a ``(N, D)`` and b ``(M, D)`` that are each other's nearest by dot product.

    a, b: unit vectors.
    """
    scores = a @ b.T
    there, back = scores.argmax(1), scores.argmax(0)
    rows = np.flatnonzero(back[there] == np.arange(len(a)))
    return rows, there[rows]


def rotated(a: np.ndarray, b: np.ndarray, *, rounds: int = 5) -> np.ndarray | None:
    """W that brings a ``(N, D)`` to b ``(M, D)`` by their mutual neighbours, found anew each round; None: too few.

    a, b: unit vectors. rounds: how often neighbours are found.
    """
    rotation = np.eye(a.shape[1])
    for _ in range(rounds):
        rows, others = mutual_neighbours(a @ rotation, b)
        if len(rows) < a.shape[1]:
            return None
        rotation = procrustes(a[rows], b[others])
    return rotation
