"""BM25 (Robertson et al., 1995) in Lucene's variant: the honest opponent of every dense retriever.

`bm25s` computes the weight of every term in every document when the index is built (Lù, 2024, arXiv:2407.03618); a
query is then a sum of rows of a sparse matrix. Many queries are one sparse product, which is what `search` does.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from counterpoint.errors import ConfigError, DataError, ModelError, need
from counterpoint.files import whole_folder, write_json
from counterpoint.search.exact import Run, largest
from counterpoint.search.intact import again
from counterpoint.search.terms import TOKENIZERS, Tokenizer, Vocabulary

_ARRAYS = ("data", "indices", "indptr")
_SETTINGS = "bm25.json"
_FILES = {_SETTINGS, *(f"{name}.npy" for name in _ARRAYS)}


class BM25:
    """score(q, d) = Σ_t idf(t) · tf / (tf + k1·(1 − b + b·|d|/mean |d|)),  idf(t) = ln(1 + (M − df + ½)/(df + ½)).

    A term that stands in the query twice counts twice.

    texts: the M documents. tokenizer: ``words``, ``code`` (identifiers split into parts), or a function from a text to
    its tokens. k1: how soon repetition of a term stops to count; b: how much long documents are discounted.
    Raises DataError where no document holds a single token.

    >>> index = BM25(["a cat sat on a mat", "the dog ran", "cats and dogs"])
    >>> scores, ids = index.search(["dog"], 1)
    >>> ids.tolist()
    [[1]]
    """

    def __init__(
        self, texts: Sequence[str], *, tokenizer: str | Tokenizer = "words", k1: float = 1.5, b: float = 0.75
    ) -> None:
        bm25s = need("bm25s", "search")
        self.tokenizer, self.k1, self.b = tokenizer, k1, b
        self._folder = Path()
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
        """Score of every document for every query, ``(Q, M)`` float32; 0 where they share no term.

        Raises ModelError where the files of an index that was loaded are damaged at these terms.

        queries: Q texts.
        """
        queries = [queries] if isinstance(queries, str) else queries
        counts = self._counts(queries)
        asked, at = np.unique(counts.indices, return_inverse=True)
        some = self._weights[asked]  # of the files, what is asked for is read and no more
        # A product with numbers of documents that there are not would write beyond its memory.
        if ((some.indices < 0) | (some.indices >= len(self))).any() or not np.isfinite(some.data).all():
            raise _damaged(self._folder, "numbers of documents, or weights, that there cannot be")
        return (csr_matrix((counts.data, at, counts.indptr), shape=(len(queries), len(asked))) @ some).toarray()

    def search(self, queries: Sequence[str], k: int, *, block: int = 256) -> Run:
        """The ``min(k, M)`` best documents of each query; equal scores are ordered by id.

        A document that shares no term with the query is no result: its place has id -1 and score -inf.
        block: queries handled at once (working memory: 4·block·M bytes).
        """
        if k < 1:
            raise ConfigError(f"k is {k}; the number of results wanted must be at least 1.")
        queries = [queries] if isinstance(queries, str) else queries  # one query, not one for each of its letters
        size = min(k, len(self))
        scores, ids = np.empty((len(queries), size), np.float32), np.empty((len(queries), size), np.int64)
        for start in range(0, len(queries), block):
            at = slice(start, start + block)
            scores[at], ids[at] = largest(self.scores(queries[at]), size)
        nothing = scores <= 0
        scores[nothing], ids[nothing] = -np.inf, -1
        return scores, ids

    def scores_at(self, queries: Sequence[str], ids: np.ndarray, *, block: int = 256) -> np.ndarray:
        """Scores of the documents ``ids (Q, K)``, ``(Q, K)`` float32; 0 for id -1. block: as of `search`.

        queries: Q texts.
        """
        out = np.zeros(ids.shape, np.float32)
        for start in range(0, len(queries), block):
            at = slice(start, start + block)
            out[at] = np.take_along_axis(self.scores(queries[at]), np.maximum(ids[at], 0), axis=1)
        return np.where(ids >= 0, out, 0.0)

    def _counts(self, queries: Sequence[str]) -> csr_matrix:
        ids = [self._vocabulary.known(self._tokens(query)) for query in queries]
        indptr = np.concatenate([[0], np.cumsum([len(i) for i in ids])])
        columns = np.array([t for i in ids for t in i], dtype=np.int32)
        shape = (len(queries), len(self._vocabulary))
        return csr_matrix((np.ones(len(columns), np.float32), columns, indptr), shape=shape)

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Three arrays, the vocabulary and the settings, as .npy and JSON, in a folder of their own.

        It appears whole or not at all. Raises ModelError where a folder there holds anything else.
        """
        if not isinstance(self.tokenizer, str):
            raise ConfigError(
                "A BM25 index with a tokenizer of your own cannot be saved, for a function cannot be written to a "
                f"file safely. Use one of {', '.join(TOKENIZERS)}, or build the index anew each time."
            )
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - _FILES):
            raise ModelError(f"{folder} holds other things than a BM25 index and is left alone. Name another folder.")
        aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
        aside.mkdir(parents=True)
        try:
            for name in _ARRAYS:
                np.save(aside / f"{name}.npy", getattr(self._weights, name), allow_pickle=False)
            settings = {"tokenizer": self.tokenizer, "k1": self.k1, "b": self.b, "documents": len(self)}
            write_json(aside / _SETTINGS, {**settings, "vocabulary": list(self._vocabulary.number)})
            whole_folder(folder, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> BM25:
        """An index that `save` wrote; its arrays stay on disk and are mapped into memory. Raises ModelError where they
        do not fit together.

        folder: the one it wrote.
        """
        index, folder, name = cls.__new__(cls), Path(folder), _SETTINGS
        try:
            held = json.loads((folder / name).read_text(encoding="utf-8"))
            index.tokenizer, index.k1, index.b = held["tokenizer"], float(held["k1"]), float(held["b"])
            words, documents = held["vocabulary"], held["documents"]
            fit = isinstance(words, list) and all(isinstance(w, str) for w in words) and isinstance(documents, int)
            if not fit or index.tokenizer not in TOKENIZERS or documents < 1:
                raise ValueError("its tokenizer, vocabulary or number of documents is none")
            arrays = []
            for name in (f"{array}.npy" for array in _ARRAYS):
                # Mode "c" (copy on write): nothing is ever written, but scipy and torch want arrays that could be.
                arrays.append(np.load(folder / name, mmap_mode="c", allow_pickle=False))
        except Exception as error:  # a damaged file raises all sorts of errors
            raise _damaged(folder / name, f"what cannot be read ({type(error).__name__}: {str(error)[:99]})") from error
        if not _consistent(*arrays, terms=len(set(words)), named=len(words)):
            raise _damaged(folder, "arrays and a vocabulary that do not fit together")
        index._folder, index._tokens, index._vocabulary = folder, TOKENIZERS[index.tokenizer], Vocabulary(words)
        index._weights = csr_matrix(tuple(arrays), shape=(len(words), documents))
        return index


def _consistent(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, *, terms: int, named: int) -> bool:
    """Whether the arrays are rows of so many terms; where each begins is looked at, what it holds when it is used."""
    flat = all(isinstance(a, np.ndarray) and a.ndim == 1 for a in (data, indices, indptr))
    if not flat or terms != named or len(indptr) != terms + 1 or len(data) != len(indices):
        return False
    kinds = data.dtype.kind == "f" and indices.dtype.kind == indptr.dtype.kind == "i"
    return bool(kinds and indptr[0] == 0 and indptr[-1] == len(data) and (np.diff(indptr) >= 0).all())


def _damaged(place: Path, holds: str) -> ModelError:
    """The index is that around the folder ``bm25``, where there is one."""
    folder = place if place.suffix == "" else place.parent
    owner = folder.parent if (folder.parent / "index.json").is_file() else folder
    return ModelError(f"{place} is not a complete BM25 index: it holds {holds}. {again(owner)}")


def _tokenizer(given: str | Tokenizer) -> Tokenizer:
    if callable(given):
        return given
    if given not in TOKENIZERS:
        raise ConfigError(f"There is no tokenizer {given!r}. Use one of {', '.join(TOKENIZERS)}, or a function.")
    return TOKENIZERS[given]
