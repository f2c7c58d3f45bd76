"""An index in a folder: embeddings, rows, BM25, perhaps a graph; opened in milliseconds, searched three ways.

Format 2 keeps, beside the vectors that are searched, perhaps better ones that the best of those are scored again by.
Format 1 (all vectors one of float32, float16, int8 as ``round(127 x)``) is read as it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from counterpoint._version import __version__
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.files import whole_folder
from counterpoint.search.ann import Ann
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import Run
from counterpoint.search.hybrid import weighted
from counterpoint.search.quantise import Dtype, Vectors, blank, truncated

Mode: TypeAlias = Literal["dense", "bm25", "hybrid"]
Rescore: TypeAlias = Literal["auto", "none", "int8", "float16", "float32"]
"""What is kept to score candidates again by. auto: int8 beside binary vectors, else none."""

ANN_ROWS = 200_000  # below, the exact search takes some ten milliseconds a query and no graph pays
_PROBE = "read a file and count its words"  # what the encoder makes of it tells one model from another
_FORMAT = 2
_READABLE = (1, 2)
_RANGES = {"embeddings": "ranges", "full": "full-ranges"}
_GRAPH = 4
"""Candidates of a graph for each result: it proposes with rounded vectors, the stored ones decide."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A result: its score, the row that was indexed with it, its place (from 1), and the row's number."""

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
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.vectors = _load(folder, "embeddings", settings["dtype"], settings["dim"])
        rescore = settings.get("rescore")
        self.full = _load(folder, "full", rescore, settings["width"]) if rescore else None
        self.rows: pa.Table = pq.read_table(folder / "rows.parquet", memory_map=True)
        self.bm25 = BM25.load(folder / "bm25") if settings["bm25"] else None
        self.ann = Ann.load(folder / "ann.usearch") if settings["ann"] else None
        self._trusted: Encoder | None = None

    def __len__(self) -> int:
        return len(self.vectors)

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
        encoder: Encoder | None = None,
        embeddings: np.ndarray | None = None,
        text: str | None = "text",
        dtype: Dtype = "float32",
        dim: int | None = None,
        rescore: Rescore = "auto",
        oversample: int = 4,
        bm25: bool = True,
        tokenizer: str = "words",
        ann: bool | Literal["auto"] = "auto",
        model: str | Path | None = None,
        overwrite: bool = False,
    ) -> Index:
        """Write an index and open it.

        rows: what a hit shows: the text and any metadata, M rows. text: the column that is encoded and that BM25 reads
        (None: rows without text, which need ``embeddings`` and have no BM25). embeddings: (M, D) where they exist
        already; scaled to unit length here. encoder: makes them otherwise (role ``document``), and lets later searches
        notice that they use another model. dtype: how they are kept. dim: only the first so many dimensions, at unit
        length (None: all). rescore: vectors of the whole width that are kept too, by which the ``oversample · k`` best
        are scored again. ann: whether to build a graph (auto: from 200,000 rows; binary vectors need none). model:
        folder of the model, remembered relative to the index.

        The folder appears whole or not at all; an index that it replaces stays until then.
        Raises DataError for no rows, missing columns and embeddings that do not fit, ConfigError for more dimensions
        than there are, ModelError where a folder is in the way or the disk is full.
        """
        folder = Path(folder)
        _may_write(folder, overwrite)
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
        }
        aside = folder.with_name(f".{folder.name}.new-{os.getpid()}")
        try:
            aside.mkdir(parents=True)
            _save(aside, "embeddings", vectors)
            if full is not None:
                _save(aside, "full", full)
            pq.write_table(table, aside / "rows.parquet", compression="zstd")
            if settings["bm25"]:
                BM25(texts or [], tokenizer=tokenizer).save(aside / "bm25")
            if settings["ann"]:
                Ann(cheap, dtype="i8" if dtype == "int8" else "f16").save(aside / "ann.usearch")
            if encoder is not None and encoder.modality == "text":
                np.save(aside / "probe.npy", _probe(encoder), allow_pickle=False)
            settings["files"] = {
                str(f.relative_to(aside)): {"bytes": f.stat().st_size, "sha256": _sha256(f)}
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
        """Open an index that `build` wrote. Raises ModelError, naming what is missing."""
        folder = Path(folder)
        try:
            settings = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            files = settings["files"]
            if settings["format"] not in _READABLE:
                raise ModelError(
                    f"The index {folder} has format {settings['format']}, this version of counterpoint reads format "
                    f"{_READABLE[0]} to {_READABLE[-1]}. Build the index again."
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{folder} is not an index (no readable index.json). Build one: counterpoint index --help"
            ) from error
        for name, held in files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != held["bytes"]:
                state = "cut short or changed" if file.is_file() else "missing"
                raise ModelError(f"The index {folder} is damaged: {name} is {state}. Build the index again.")
        try:
            return cls(folder, settings)
        except (OSError, ValueError) as error:
            raise ModelError(f"The index {folder} is damaged ({error}). Build the index again.") from error

    def verify(self) -> None:
        """Compare every file with its checksum; ModelError names the first that differs. Reads the whole index."""
        for name, held in self.settings["files"].items():
            if _sha256(self.folder / name) != held["sha256"]:
                raise ModelError(f"The index {self.folder} is damaged: {name} has changed. Build the index again.")

    # --- searching ---------------------------------------------------------------------------------------------

    def search(
        self,
        queries: Sequence[str],
        *,
        encoder: Encoder | None = None,
        k: int = 10,
        mode: Mode = "hybrid",
        alpha: float = 0.5,
        oversample: int | None = None,
    ) -> list[list[Hit]]:
        """Best hits of each query, best first, at most k; `rank` tells what the settings mean."""
        scores, ids = self.rank(queries, encoder=encoder, k=k, mode=mode, alpha=alpha, oversample=oversample)
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
        encoder: Encoder | None = None,
        k: int = 10,
        mode: Mode = "hybrid",
        alpha: float = 0.5,
        depth: int = 200,
        oversample: int | None = None,
    ) -> Run:
        """Scores and row numbers ``(Q, K)``, K ≤ k, id -1 where a query has fewer results.

        mode: ``dense`` (cosine of embeddings; needs the encoder), ``bm25`` (shared words), ``hybrid``: the weighted sum
        of both, alpha being the share of the dense score, over the ``depth`` best of each. oversample: see `nearest`.
        """
        if mode not in ("dense", "bm25", "hybrid"):
            raise ConfigError(f"There is no mode {mode!r}. Use dense, bm25 or hybrid.")
        if not len(queries):
            raise DataError("There are no queries to search for.")
        if mode == "bm25":
            return self._lexical(queries, k)
        if encoder is None:
            raise ConfigError(f"Searching with mode {mode} needs the encoder that built the index; bm25 needs none.")
        self._check(encoder)
        embedded = encoder.encode(list(queries), role="query", normalize=True)
        if mode == "dense":
            return self.nearest(embedded, k, oversample=oversample)
        depth = max(depth, k)
        dense = self.nearest(embedded, depth, oversample=oversample)
        return weighted(dense, self._lexical(queries, depth), k=k, alpha=alpha)

    def nearest(self, queries: np.ndarray, k: int, *, oversample: int | None = None) -> Run:
        """Cosines and row numbers of the rows nearest to unit vectors ``(Q, width)``; exact where there is no graph.

        oversample: for each result, candidates of the cheap vectors that the better ones decide among (None: as the
        index was built for); without effect where there are no better ones.
        """
        if k < 1 or (oversample is not None and oversample < 1):
            raise ConfigError(f"k={k}, oversample={oversample}: both are at least 1.")
        cheap = queries if self.dim == self.width else truncated(queries, self.dim)
        if self.ann is None and self.full is None:
            return self.vectors.nearest(cheap, k)
        wide = k * (oversample or self.settings["oversample"]) if self.full else k
        ids = self.ann.search(cheap, max(wide, _GRAPH * k))[1] if self.ann else self.vectors.nearest(cheap, wide)[1]
        return self.full.rescored(queries, ids, k) if self.full else self.vectors.rescored(cheap, ids, k)

    def _lexical(self, queries: Sequence[str], k: int) -> Run:
        if self.bm25 is None:
            raise ConfigError(f"The index {self.folder} was built without BM25; its only mode is dense.")
        return self.bm25.search(queries, k)

    def _check(self, encoder: Encoder) -> None:
        """Once per encoder: is it the one that built the index?"""
        if encoder is self._trusted:
            return
        if encoder.dim != self.width:
            raise ModelError(
                f"The index {self.folder} holds embeddings of width {self.width}, this encoder makes width "
                f"{encoder.dim}: another model built it. Build the index again, or search with the model that built it."
            )
        file = self.folder / "probe.npy"
        if file.is_file() and float(_probe(encoder) @ np.load(file, allow_pickle=False)) < 0.99:
            raise ModelError(
                f"The index {self.folder} was built by another model, or by this one before it was trained further: "
                "they embed the same text differently. Build the index again."
            )
        self._trusted = encoder


def _may_write(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "index.json").is_file():
        raise ModelError(f"{folder} exists and is not an index, so it is left alone. Choose another folder.")
    if not overwrite:
        raise ModelError(
            f"{folder} holds an index already. Choose another folder, or pass overwrite=True (--overwrite)."
        )


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
    return torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(x)), dim=1).numpy()


def _save(folder: Path, name: str, vectors: Vectors) -> None:
    np.save(folder / f"{name}.npy", vectors.codes, allow_pickle=False)
    if vectors.ranges is not None:
        np.save(folder / f"{_RANGES[name]}.npy", vectors.ranges, allow_pickle=False)


def _load(folder: Path, name: str, dtype: Dtype, dim: int) -> Vectors:
    # Mode "c" (copy on write): nothing is ever written, but torch wants arrays that could be.
    codes = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
    ranges = folder / f"{_RANGES[name]}.npy"
    return Vectors(codes, dtype, dim, np.load(ranges, allow_pickle=False) if ranges.exists() else None)


def _probe(encoder: Encoder) -> np.ndarray:
    return encoder.encode([_PROBE], role="query", normalize=True)[0]


def _sha256(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
