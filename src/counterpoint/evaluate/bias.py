"""What a cosine follows beside meaning: how it depends on words in common and on lengths, at equal gold similarity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from counterpoint.data.surface import Surface
from counterpoint.errors import DataError
from counterpoint.evaluate.intervals import Sample
from counterpoint.evaluate.similarity import pearson
from counterpoint.search.terms import Tokenizer, words


def partial_spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Correlation of the ranks of x and y that is left when both are predicted from the ranks of ``given``.

    ``(r_xy - r_xg r_yg) / sqrt((1 - r_xg²) (1 - r_yg²))``, r being Spearman's. All ``(N,)``. NaN where x or y is
    constant, or says what ``given`` says.

    >>> x = np.arange(6.0)
    >>> round(partial_spearman(x, x, given=np.array([1.0, 0, 1, 0, 1, 0])), 3)
    1.0
    """
    x, y, g = rankdata(x), rankdata(y), rankdata(given)
    xy, xg, yg = pearson(x, y), pearson(x, g), pearson(y, g)
    if np.isnan(xg) and not np.isnan(xy):  # nothing to hold fixed
        return xy
    rest = (1 - xg**2) * (1 - yg**2)
    return float((xy - xg * yg) / rest**0.5) if rest > 1e-12 else float("nan")


def biases(
    cosines: np.ndarray, a: Sequence[str], b: Sequence[str], gold: np.ndarray, *, tokenizer: Tokenizer = words
) -> dict[str, Sample]:
    """How the cosines of pairs depend on surface at equal gold similarity: partial rank correlations, 0 being none.

    cosines, gold: ``(N,)``. a, b: the N texts of each side. ``overlap bias``: with the Jaccard similarity of the words
    (positive: pairs with words in common are scored too high). ``length bias``: with the difference of the numbers of
    words (negative: pairs of unlike length are scored too low). tokenizer: text -> words.

    Source of the question: Miao et al. 2023 (DebCSE), arXiv 2309.07396.

    >>> cosines, gold = np.array([0.9, 0.2, 0.4, 0.7]), np.array([1.0, 0.0, 0.5, 0.6])
    >>> found = biases(cosines, ["a cat", "a b", "c d", "e f g"], ["a cat", "x", "c z", "e"], gold)
    >>> sorted(found)
    ['length bias', 'overlap bias']
    """
    cosines, gold = np.asarray(cosines, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if not len(cosines) == len(a) == len(b) == len(gold):
        raise DataError(f"{len(cosines)} cosines, {len(a)} and {len(b)} texts, {len(gold)} scores; expected the same.")
    surface = Surface([tokenizer(text) for text in [*a, *b]])
    left, right = np.arange(len(a)), np.arange(len(a), 2 * len(a))
    overlap = surface.jaccard(left, right)
    difference = np.abs(surface.lengths[left] - surface.lengths[right]).astype(np.float64)
    return {
        "overlap bias": Sample((cosines, overlap, gold), partial_spearman, (-1, 1)),
        "length bias": Sample((cosines, difference, gold), partial_spearman, (-1, 1)),
    }
