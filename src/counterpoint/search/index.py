"""An index in a folder: embeddings, rows, BM25, perhaps a graph; opened in milliseconds, searched three ways.

Format 2 keeps, beside the vectors that are searched, perhaps better ones that the best of those are scored again by.
Format 1 (all vectors one of float32, float16, int8 as ``round(127 x)``) is read as it was written.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from counterpoint._version import __version__
from counterpoint.encoders.transforms import unit
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.files import whole_folder, write_json
from counterpoint.modalities.text import TEXT
from counterpoint.search import intact
from counterpoint.search.ann import Ann
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import Run
from counterpoint.search.hybrid import DEFAULT, Share, both, weighted
from counterpoint.search.quantise import Dtype, Vectors, blank, truncated

Mode: TypeAlias = Literal["dense", "bm25", "hybrid"]
Rescore: TypeAlias = Literal["auto", "none", "int8", "float16", "float32"]
"""What is kept to score candidates again by. auto: int8 beside binary vectors, else none."""

ANN_ROWS = 200_000  # below, the exact search takes some ten milliseconds a query and no graph pays
_PROBE = "read a file and count its words"  # what the encoder makes of it tells one model from another
_PROBED = TEXT  # the modality of it
_FORMAT = 2
_ANN = "ann.usearch"
_GRAPH = 4
"""Candidates of a graph for each result: it proposes with rounded vectors, the stored ones decide."""


class Encodes(Protocol):
    """What an index asks of an encoder: every `counterpoint.encoders.base.Encoder` does it, and what reads one for its
    questions alone."""

    dim: int
    modality: Any

    def encode(self, items: Sequence[Any], *, role: str | None = None, normalize: bool | None = None) -> np.ndarray:
        """Embeddings ``(N, D)``.

        items: N. role: ``query`` or ``document``. normalize: to unit length.
        """
        ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A result: its score, the row that was indexed with it, its place (from 1), and the row's number.

    rank: the place. id: the row's number.
    """

    score: float
    row: dict[str, Any]
    rank: int
    id: int


class Index:
    """An opened index folder. Make one with `build`, come back to it with `open`.

    The folder holds ``index.json`` (settings, versions, checksums), ``embeddings.npy`` (memory-mapped; of int8 with
    ``ranges.npy``), ``full.npy`` and its ranges where candidates are scored again, ``rows.parquet``, ``bm25/`` and
    ``ann.usearch`` where asked, ``probe.npy``. Nothing in it is pickled.

    vectors: what is searched. full: what candidates are scored again by, of the model's whole width (None: nothing).

    >>> rows = [{"text": "a cat sat on a mat"}, {"text": "the dog ran"}]
    >>> index = Index.build("index", rows, embeddings=np.eye(2, dtype=np.float32))
    >>> [hit] = index.search("dog", mode="bm25", k=1)
    >>> hit.rank, hit.row["text"]
    (1, 'the dog ran')
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        rows, rescore = settings["rows"], settings.get("rescore")
        self.vectors = intact.vectors(folder, "embeddings", settings["dtype"], rows=rows, dim=settings["dim"])
        self.full = intact.vectors(folder, "full", rescore, rows=rows, dim=settings["width"]) if rescore else None
        self.rows: pa.Table = intact.table(folder, rows=rows, text=settings["text"])
        self.bm25 = BM25.load(folder / "bm25") if settings["bm25"] else None
        if self.bm25 is not None and len(self.bm25) != rows:
            raise intact.damaged(folder, f"bm25/bm25.json is of {len(self.bm25):,} documents; expected {rows:,}")
        self._trusted: Encodes | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def ann(self) -> Ann | None:
        """The graph, where there is one. Its file is compared with its checksum first, as a damaged one would end the
        process; then there is none, with a warning, and the search is exact."""
        if not self.settings["ann"]:
            return None
        fault = intact.changed(self.folder / _ANN, self.settings["files"].get(_ANN, {"bytes": -1}))
        if not fault:
            try:
                found = Ann.load(self.folder / _ANN)
                if (len(found), found.dim) == (len(self), self.dim):
                    return found
                fault = f"holds {len(found):,} vectors of width {found.dim}"
            except ModelError as error:
                fault = f"cannot be read ({error})"
        warnings.warn(
            f"The index {self.folder} is damaged: {_ANN} {fault}. All rows are compared instead, which is exact and "
            f"slower. {intact.again(self.folder)}",
            stacklevel=2,
        )
        return None

    @property
    def share(self) -> Share:
        """How much the dense score counts in a hybrid, and where that comes from."""
        held = self.settings.get("hybrid")
        return DEFAULT if held is None else Share.from_json(held, where="index.json")

    def keep_share(self, share: Share) -> None:
        """Write into the index how much the dense score counts in a hybrid.

        share: as `learn_share` found it.
        """
        self.settings["hybrid"] = share.to_json()
        write_json(self.folder / "index.json", self.settings)

    @property
    def dim(self) -> int:
        """Dimensions of the vectors that are searched."""
        return self.vectors.dim

    @property
    def width(self) -> int:
        """Dimensions of the model's embeddings, which queries have."""
        return int(self.settings.get("width", self.dim))

    def sizes(self) -> dict[str, int]:
        """Bytes on disk: of the vectors that are searched, of those that candidates are scored again by, of the graph,
        of the words, of the rows, and of all."""
        parts = {"embeddings": "vectors", "ranges": "vectors", "full": "full", "full-ranges": "full",
                 "ann": "graph", "bm25": "words", "rows": "rows"}  # fmt: skip
        out = dict.fromkeys([*dict.fromkeys(parts.values()), "all"], 0)
        for name, held in self.settings["files"].items():
            part = parts.get(name.replace("\\", "/").split("/")[0].split(".")[0])
            for key in (part, "all") if part else ("all",):
                out[key] += held["bytes"]
        return out

    @property
    def model(self) -> Path | None:
        """The folder of the model that made the embeddings, where it was named."""
        named = self.settings["model"]
        return None if named is None else (self.folder / named).resolve()

    # --- building ----------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        folder: str | Path,
        rows: pa.Table | Sequence[Mapping[str, Any]],
        *,
        encoder: Encodes | None = None,
        embeddings: np.ndarray | None = None,
        text: str | None = TEXT,
        dtype: Dtype = "float32",
        dim: int | None = None,
        rescore: Rescore = "auto",
        oversample: int = 4,
        bm25: bool = True,
        tokenizer: str = "words",
        ann: bool | Literal["auto"] = "auto",
        model: str | Path | None = None,
        share: Share | None = None,
        items: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Index:
        """Write an index and open it.

        rows: what a hit shows: the text and any metadata, M rows. text: the column that is encoded and that BM25 reads
        (None: rows without text, which need ``embeddings`` and have no BM25). embeddings: (M, D) where they exist
        already; scaled to unit length here. encoder: makes them otherwise (role ``document``), and lets later searches
        notice that they use another model. dtype: how they are kept. dim: only the first so many dimensions, at unit
        length (None: all). rescore: vectors of the whole width that are kept too, by which the ``oversample · k`` best
        are scored again. ann: whether to build a graph (auto: from 200,000 rows; binary vectors need none). model:
        folder of the model, remembered relative to the index. share: how much the dense score counts in a hybrid
        (None: the default, told as such). items: what the vectors are of, as JSON takes it; kept under ``items``.

        The folder appears whole or not at all; an index that it replaces stays until then.
        Raises DataError for no rows, missing columns and embeddings that do not fit, ConfigError for more dimensions
        than there are, ModelError where a folder is in the way or the disk is full.

        tokenizer: of BM25. overwrite: replace an index in the folder.
        """
        folder = Path(folder)
        intact.may_write(folder, overwrite)
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist([dict(r) for r in rows])
        if not len(table):
            raise DataError("There are no rows to index.")
        texts = _column(table, text) if text is not None else None
        if embeddings is None:
            if encoder is None or texts is None:
                raise ConfigError("Give the index an encoder and a text column, or finished embeddings.")
            embeddings = encoder.encode(texts, role="document", normalize=True)
        embeddings = _unit(embeddings, rows=len(table))
        signs = dtype in ("binary", "ubinary")
        if signs and ann is True:
            raise ConfigError(f"A graph is built of numbers, not of {dtype} signs, whose exact search is fast: no ann.")
        if rescore not in get_args(Rescore):
            raise ConfigError(f"rescore={rescore!r}: type one of {', '.join(get_args(Rescore))}.")
        if oversample < 1:
            raise ConfigError(f"oversample={oversample}: at least as many candidates as results are scored again.")
        if zeros := blank(embeddings):
            told = " As signs they look like any other vector." if signs else ""
            warnings.warn(
                f"{zeros:,} of {len(table):,} embeddings are all zero: nothing finds them.{told}", stacklevel=2
            )
        cheap = embeddings if dim is None or dim == embeddings.shape[1] else truncated(embeddings, dim)
        vectors = Vectors.of(cheap, dtype)
        kept: Rescore | None = ("int8" if signs else None) if rescore == "auto" else rescore
        full = None if kept in (None, "none") else Vectors.of(embeddings, kept)  # type: ignore[arg-type]
        settings: dict[str, Any] = {
            "format": _FORMAT,
            "counterpoint": __version__,
            "rows": len(table),
            "dim": vectors.dim,
            "width": embeddings.shape[1],
            "dtype": dtype,
            "rescore": full.dtype if full else None,
            "oversample": oversample,
            "text": text,
            "bm25": bm25 and texts is not None,
            "tokenizer": tokenizer,
            "ann": len(table) >= ANN_ROWS and not signs if ann == "auto" else ann,
            "model": None if model is None else os.path.relpath(Path(model).resolve(), folder.resolve()),
            **({} if share is None else {"hybrid": share.to_json()}),
            **({} if items is None else {"items": dict(items)}),
        }
        aside = folder.with_name(f".{folder.name}.new-{uuid.uuid4().hex[:8]}")
        try:
            aside.mkdir(parents=True)
            _save(aside, "embeddings", vectors)
            if full is not None:
                _save(aside, "full", full)
            pq.write_table(table, aside / "rows.parquet", compression="zstd")
            if settings["bm25"]:
                BM25(texts or [], tokenizer=tokenizer).save(aside / "bm25")
            if settings["ann"]:
                Ann(cheap, dtype="i8" if dtype == "int8" else "f16").save(aside / _ANN)
            if encoder is not None and encoder.modality == _PROBED:
                np.save(aside / "probe.npy", _probe(encoder), allow_pickle=False)
            settings["files"] = {
                str(f.relative_to(aside)): {"bytes": f.stat().st_size, "sha256": intact.sha256(f)}
                for f in sorted(aside.rglob("*"))
                if f.is_file()
            }
            (aside / "index.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
            whole_folder(folder, aside)
        except OSError as error:
            raise ModelError(
                f"The index {folder} could not be written: {error}. What was there before is there still."
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open an index that `build` wrote. Raises ModelError, naming the file that is damaged and what to type."""
        folder = Path(folder)
        settings = intact.settings(folder)
        intact.check_files(folder, settings["files"], spared=_ANN)
        index = cls(folder, settings)
        # Another index may have been moved here meanwhile, so that some files are of one and some of the other.
        return index if json.dumps(intact.settings(folder)) == json.dumps(settings) else cls.open(folder)

    def verify(self) -> None:
        """Compare every file with its checksum; ModelError names the first that differs. Reads the whole index."""
        for name, held in self.settings["files"].items():
            if fault := intact.changed(self.folder / name, held):
                raise intact.damaged(self.folder, f"{name} {fault}")

    # --- searching ---------------------------------------------------------------------------------------------

    @overload
    def search(self, queries: str, **settings: Any) -> list[Hit]: ...
    @overload
    def search(self, queries: Sequence[str], **settings: Any) -> list[list[Hit]]: ...

    def search(
        self,
        queries: str | Sequence[str],
        *,
        encoder: Encodes | None = None,
        k: int = 10,
        mode: Mode = "hybrid",
        alpha: float | None = None,
        oversample: int | None = None,
    ) -> list[list[Hit]] | list[Hit]:
        """Best hits of each query, best first, at most k; of one query, a string, the hits of it alone.

        `rank` tells what the settings mean.

        queries: texts. encoder: the one whose embeddings are in the index. mode, alpha, oversample: as of `rank`.
        """
        found = self.hits(self.rank(queries, encoder=encoder, k=k, mode=mode, alpha=alpha, oversample=oversample))
        return found[0] if isinstance(queries, str) else found

    def find(
        self, items: Sequence[Any], *, encoder: Encodes, k: int = 10, oversample: int | None = None
    ) -> list[list[Hit]]:
        """Best hits of items of any modality, by the cosine of their embeddings alone.

        encoder: of the items' modality, into the space of the index. k, oversample: as of `nearest`. Raises ModelError
        where its embeddings have another width.
        """
        self._check(encoder)
        return self.hits(self.nearest(encoder.encode(items, role="query", normalize=True), k, oversample=oversample))

    def hits(self, run: Run) -> list[list[Hit]]:
        """Scores and row numbers of `rank` or `nearest` with their rows.

        run: ``(Q, K)`` each, -1 for none.
        """
        scores, ids = run
        flat = ids[ids >= 0]
        shown = iter(self.rows.take(pa.array(flat)).to_pylist())
        return [
            [Hit(float(s), next(shown), rank, int(i)) for rank, (s, i) in enumerate(zip(srow, irow), 1) if i >= 0]
            for srow, irow in zip(scores, ids)
        ]

    def rank(
        self,
        queries: Sequence[str],
        *,
        encoder: Encodes | None = None,
        k: int = 10,
        mode: Mode = "hybrid",
        alpha: float | None = None,
        depth: int = 200,
        oversample: int | None = None,
    ) -> Run:
        """Scores and row numbers ``(Q, K)``, K ≤ k, id -1 where a query has fewer results.

        mode: ``dense`` (cosine of embeddings; needs the encoder), ``bm25`` (shared words), ``hybrid``: the sum of both
        (see `hybrid.weighted`) over the ``depth`` best of each. alpha: the share of the dense score in it (None: that
        of the index, `share`). oversample: see `nearest`. queries: Q texts. k: results wanted.
        """
        queries = [queries] if isinstance(queries, str) else queries  # one query, not one for each of its letters
        if mode not in ("dense", "bm25", "hybrid"):
            raise ConfigError(f"There is no mode {mode!r}. Use dense, bm25 or hybrid.")
        if not len(queries):
            raise DataError("There are no queries to search for.")
        if mode == "bm25":
            return self._words().search(queries, k)
        if encoder is None:
            raise ConfigError(f"Searching with mode {mode} needs the encoder that built the index; bm25 needs none.")
        self._check(encoder)
        embedded = encoder.encode(list(queries), role="query", normalize=True)
        if mode == "dense":
            return self.nearest(embedded, k, oversample=oversample)
        dense, lexical, average = self.lists(queries, embedded, max(depth, k), oversample=oversample)
        return weighted(dense, lexical, k=k, alpha=self.share.alpha if alpha is None else alpha, average=average)

    def lists(
        self, queries: Sequence[str], embedded: np.ndarray, depth: int, *, oversample: int | None = None
    ) -> tuple[Run, Run, np.ndarray]:
        """What a hybrid is the sum of, see `hybrid.both`. embedded: the queries' unit vectors ``(Q, width)``.

        queries: Q texts. depth: rows of each ranking. oversample: as of `nearest`.
        """
        words = self._words()
        dense = self.nearest(embedded, depth, oversample=oversample)
        if self.full is not None:
            return both(dense, queries, embedded, vectors=self.full, bm25=words, depth=depth)
        return both(dense, queries, self._cheap(embedded), vectors=self.vectors, bm25=words, depth=depth)

    def nearest(self, queries: np.ndarray, k: int, *, oversample: int | None = None) -> Run:
        """Cosines and row numbers of the rows nearest to unit vectors ``(Q, width)``; exact where there is no graph.

        oversample: for each result, candidates of the cheap vectors that the better ones decide among (None: as the
        index was built for); without effect where there are no better ones. queries: Q unit vectors. k: results wanted.
        """
        if k < 1 or (oversample is not None and oversample < 1):
            raise ConfigError(f"k={k}, oversample={oversample}: both are at least 1.")
        cheap = self._cheap(queries)
        if self.ann is None and self.full is None:
            return self.vectors.nearest(cheap, k)
        wide = k * (oversample or self.settings["oversample"]) if self.full else k
        ids = self.ann.search(cheap, max(wide, _GRAPH * k))[1] if self.ann else self.vectors.nearest(cheap, wide)[1]
        return self.full.rescored(queries, ids, k) if self.full else self.vectors.rescored(cheap, ids, k)

    def _cheap(self, queries: np.ndarray) -> np.ndarray:
        return queries if self.dim == self.width else truncated(queries, self.dim)

    def _words(self) -> BM25:
        if self.bm25 is None:
            raise ConfigError(f"The index {self.folder} was built without BM25; its only mode is dense.")
        return self.bm25

    def _check(self, encoder: Encodes) -> None:
        """Once per encoder: is it the one that built the index?"""
        if encoder is self._trusted:
            return
        if encoder.dim != self.width:
            raise ModelError(
                f"The index {self.folder} holds embeddings of width {self.width}, this encoder makes width "
                f"{encoder.dim}: another model built it. Build the index again, or search with the model that built it."
            )
        file = self.folder / "probe.npy"
        probed = file.is_file() and encoder.modality == _PROBED
        made = intact.array(self.folder, file.name, "float32", (self.width,)) if probed else None
        if made is not None and not float(_probe(encoder) @ made) >= 0.99:
            raise ModelError(
                f"The index {self.folder} was built by another model, or by this one before it was trained further: "
                "they embed the same text differently. Build the index again."
            )
        self._trusted = encoder


def _column(table: pa.Table, name: str) -> list[str]:
    if name not in table.column_names:
        raise DataError(f"The rows have no column {name!r} to index; they have {', '.join(table.column_names)}.")
    texts = table[name].to_pylist()
    wrong = sum(not isinstance(t, str) for t in texts)
    if wrong:
        raise DataError(f"{wrong:,} of {len(texts):,} rows have no text in column {name!r}. Remove or fill them.")
    return texts


def _unit(x: np.ndarray, *, rows: int) -> np.ndarray:
    """Vectors of unit length, float32."""
    if x.ndim != 2 or len(x) != rows:
        raise DataError(f"Embeddings have shape {x.shape} for {rows:,} rows; expected ({rows}, D).")
    x = np.asarray(x, dtype=np.float32)
    bad = int((~np.isfinite(x).all(axis=1)).sum())
    if bad:
        raise DataError(f"{bad:,} of {rows:,} embeddings are not finite (NaN or infinity). Check the model.")
    return unit(x)


def _save(folder: Path, name: str, vectors: Vectors) -> None:
    np.save(folder / f"{name}.npy", vectors.codes, allow_pickle=False)
    if vectors.ranges is not None:
        np.save(folder / f"{intact.RANGES[name]}.npy", vectors.ranges, allow_pickle=False)


def _probe(encoder: Encodes) -> np.ndarray:
    return encoder.encode([_PROBE], role="query", normalize=True)[0]
