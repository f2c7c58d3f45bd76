"""Embeddings of texts by their spelling: character n-grams, hashed; nothing is learned, and texts need no corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer


def hashed_ngrams(texts: Sequence[str], *, dim: int = 1024) -> np.ndarray:
    """Unit vectors ``(N, dim)`` of the texts' character 3- and 4-grams within words, hashed with random signs.

    A random projection of the n-gram counts (Weinberger et al., 2009): similar spelling, similar vector. No text at all
    gives ``(0, dim)``.

    texts: N. dim: width.

    >>> z = hashed_ngrams(["running", "runner", "stocks"])
    >>> bool(z[0] @ z[1] > z[0] @ z[2])
    True
    """
    if not len(texts):
        return np.zeros((0, dim), dtype=np.float32)
    counts = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=dim, norm="l2", dtype=np.float32)
    return counts.transform(texts).toarray()
