"""Embeddings to begin with that are alike where the subwords are spelled alike: ``play`` lies near ``played``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK = 64  # columns drawn at once: the vectors of all n-grams at full width would take a hundred times the table


def ngrams(tokens: Sequence[str], *, sizes: tuple[int, int] = (3, 5)) -> csr_matrix:
    """Unit rows ``(V, G)``: which character n-grams a subword holds, the rarer among the subwords the heavier.

    A subword at the beginning of a word is read as ``<subword>``, one within a word (``##ing`` of WordPiece, one
    without the mark of a space in byte-level BPE) as ``subword>``.

    tokens: V subwords. sizes: least and largest n.

    >>> rows = ngrams(["running", "runner", "stocks"])
    >>> alike = (rows @ rows.T).toarray()
    >>> bool(alike[0, 1] > alike[0, 2])
    True
    """
    from sklearn.feature_extraction.text import CountVectorizer  # here: models that are only read never need it

    spaced = any(t.startswith("Ġ") for t in tokens)
    names = [_bounded(t, spaced) for t in tokens]
    held = CountVectorizer(analyzer="char", ngram_range=sizes, lowercase=False, binary=True, dtype=np.float32)
    counts = held.fit_transform(names)
    rarity = np.log(len(names) / np.asarray(counts.sum(axis=0)).ravel())
    weighted = counts.multiply(rarity).tocsr()
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return weighted.multiply(1 / np.maximum(length, 1e-9)[:, None]).tocsr().astype(np.float32)


def spelled(tokens: Sequence[str], dim: int) -> Tensor:
    """``(V, dim)`` random embeddings, of length 1 on average, whose cosines are on average those of `ngrams`.

    An embedding is the sum of its n-grams' normal vectors (Bojanowski et al. 2017, arXiv 1607.04606, where they are
    learned). A subword too short to hold an n-gram is zero.

    tokens: V subwords. dim: width.

    >>> z = spelled(["running", "runner", "stocks"], 256)
    >>> z.shape, bool(z[0] @ z[1] > z[0] @ z[2])
    (torch.Size([3, 256]), True)
    """
    held, columns = ngrams(tokens), []
    for start in range(0, dim, _BLOCK):
        drawn = torch.randn(held.shape[1], min(_BLOCK, dim - start)).numpy()
        columns.append(torch.from_numpy(np.asarray(held @ drawn)))
    return torch.cat(columns, dim=1) / math.sqrt(dim)


def _bounded(token: str, spaced: bool) -> str:
    if token.startswith("##"):
        return f"{token[2:]}>"
    if spaced and not token.startswith("Ġ"):
        return f"{token}>"
    return f"<{token.removeprefix('Ġ')}>"
