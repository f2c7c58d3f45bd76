"""Latent semantic analysis: embeddings of texts from nothing but their own words, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from counterpoint.search.terms import words


def lsa(texts: Sequence[str], dim: int = 128, *, seed: int = 0) -> np.ndarray:
    """Unit vectors ``(N, D)`` float32, ``D <= dim``: the leading directions of the texts' TF-IDF weights.

    A text without a word, or none that counts in these directions, is a row of zeros.
    Source: Deerwester et al. 1990, "Indexing by latent semantic analysis".

    texts: N. seed: of the randomised decomposition.

    >>> z = lsa(["a cat sat", "a cat ran", "stocks fell"], dim=2)
    >>> z.shape, bool(z[0] @ z[1] > z[0] @ z[2])
    ((3, 2), True)
    """
    held = [words(text) for text in texts]
    if not any(held):
        return np.zeros((len(texts), 1), dtype=np.float32)
    weights = TfidfVectorizer(analyzer=lambda i: held[i], sublinear_tf=True).fit_transform(range(len(held)))
    u, s, _ = randomized_svd(weights, min(dim, *weights.shape), random_state=seed)
    z = u * s
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return np.where(length > 1e-6, z / np.maximum(length, 1e-6), 0.0).astype(np.float32)
