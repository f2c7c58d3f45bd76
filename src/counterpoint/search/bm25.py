"""BM25 (Robertson et al., 1995) in Lucene's variant: the honest opponent of every dense retriever.

`bm25s` computes the weight of every term in every document when the index is built (Lù, 2024, arXiv:2407.03618); a
query is then a sum of rows of a sparse matrix. Many queries are one sparse product, which is what `search` does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix

from counterpoint.errors import ConfigError, DataError, ModelError, need
from counterpoint.search.exact import Run, select
from counterpoint.search.tokens import TOKENIZERS, Tokenizer, Vocabulary

_ARRAYS = ("data", "indices", "indptr")


class BM25:
    """score(q, d) = Σ_t idf(t) · tf / (tf + k1·(1 − b + b·|d|/mean |d|)),  idf(t) = ln(1 + (M − df + ½)/(df + ½)).

    A term that stands in the query twice counts twice.

    texts: the M documents. tokenizer: ``words``, ``code`` (identifiers split into parts), or a function from a text to
    its tokens. k1: how soon repetition of a term stops to count; b: how much long documents are discounted.
    Raises DataError where no document holds a single token.
    """

    def __init__(
        self, texts: Sequence[str], *, tokenizer: str | Tokenizer = "words", k1: float = 1.5, b: float = 0.75
    ) -> None:
        bm25s = need("bm25s", "search")
        self.tokenizer, self.k1, self.b = tokenizer, k1, b
        self._tokens = _tokenizer(tokenizer)
        self._vocabulary = Vocabulary()
        ids = [self._vocabulary.learn(self._tokens(text)) for text in texts]
        if not len(self._vocabulary):
            raise DataError(f"None of the {len(texts):,} texts holds a word; there is nothing for BM25 to index.")
        index = bm25s.BM25(k1=k1, b=b, method="lucene", csc_backend="scipy")
        built = index.build_index_from_ids(range(len(self._vocabulary)), ids, show_progress=False)
        # bm25s keeps (documents × terms) by columns; the same arrays read by rows are (terms × documents).
        self._weights = csr_matrix(
            (built["data"], built["indices"], built["indptr"]), shape=(len(self._vocabulary), len(texts))
        )

    def __len__(self) -> int:
        return self._weights.shape[1]

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """Score of every document for every query, ``(Q, M)`` float32; 0 where they share no term."""
        return (self._counts(queries) @ self._weights).toarray()

    def search(self, queries: Sequence[str], k: int, *, block: int = 256) -> Run:
        """The ``min(k, M)`` best documents of each query; equal scores are ordered by id.

        A document that shares no term with the query is no result: its place has id -1 and score -inf.
        block: queries handled at once (working memory: 4·block·M bytes).
        """
        if k < 1:
            raise ConfigError(f"k is {k}; the number of results wanted must be at least 1.")
        size = min(k, len(self))
        scores, ids = np.empty((len(queries), size), np.float32), np.empty((len(queries), size), np.int64)
        for start in range(0, len(queries), block):
            at = slice(start, start + block)
            best = select(torch.from_numpy(self.scores(queries[at])), size)
            scores[at], ids[at] = best[0].numpy(), best[1].numpy()
        nothing = scores <= 0
        scores[nothing], ids[nothing] = -np.inf, -1
        return scores, ids

    def _counts(self, queries: Sequence[str]) -> csr_matrix:
        ids = [self._vocabulary.known(self._tokens(query)) for query in queries]
        indptr = np.concatenate([[0], np.cumsum([len(i) for i in ids])])
        columns = np.array([t for i in ids for t in i], dtype=np.int32)
        shape = (len(queries), len(self._vocabulary))
        return csr_matrix((np.ones(len(columns), np.float32), columns, indptr), shape=shape)

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Three arrays, the vocabulary and the settings, as .npy and JSON; the folder is made."""
        if not isinstance(self.tokenizer, str):
            raise ConfigError(
                "A BM25 index with a tokenizer of your own cannot be saved, for a function cannot be written to a "
                f"file safely. Use one of {', '.join(TOKENIZERS)}, or build the index anew each time."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self._weights, name), allow_pickle=False)
        settings = {"tokenizer": self.tokenizer, "k1": self.k1, "b": self.b, "documents": len(self)}
        (folder / "bm25.json").write_text(
            json.dumps({**settings, "vocabulary": list(self._vocabulary.number)}, ensure_ascii=False),
            encoding="utf-8",
        )

    @classmethod
    def load(cls, folder: str | Path) -> BM25:
        """An index that `save` wrote; its arrays stay on disk and are mapped into memory."""
        folder = Path(folder)
        try:
            held = json.loads((folder / "bm25.json").read_text(encoding="utf-8"))
            # Mode "c" (copy on write): nothing is ever written, but scipy and torch want arrays that could be.
            arrays = [np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _ARRAYS]
            index = cls.__new__(cls)
            index.tokenizer, index.k1, index.b = held["tokenizer"], held["k1"], held["b"]
            index._tokens = _tokenizer(index.tokenizer)
            index._vocabulary = Vocabulary(held["vocabulary"])
            index._weights = csr_matrix(tuple(arrays), shape=(len(index._vocabulary), held["documents"]))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} is not a complete BM25 index ({error}). Build the index again.") from error
        return index


def _tokenizer(given: str | Tokenizer) -> Tokenizer:
    if callable(given):
        return given
    if given not in TOKENIZERS:
        raise ConfigError(f"There is no tokenizer {given!r}. Use one of {', '.join(TOKENIZERS)}, or a function.")
    return TOKENIZERS[given]
