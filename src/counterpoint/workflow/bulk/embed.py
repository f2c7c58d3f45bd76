"""Embeddings as a function over Arrow batches: the same object for a plain loop, for Ray's actors and for Spark."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from counterpoint.encoders.bag_attention import BagEncoder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.fusion import ImageTable
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.prompts import NO_PROMPT, check_role
from counterpoint.encoders.table import TableTransformer
from counterpoint.encoders.transforms import unit
from counterpoint.errors import ConfigError, DataError, ModelError, NotFiniteError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.base import Column, is_encoded
from counterpoint.search.quantise import DTYPES, Dtype, quantised
from counterpoint.workflow.models import load, model_path

EMBEDDING = "embedding"
"""The column that is appended."""

_ARROW: dict[Dtype, tuple[pa.DataType, pa.DataType, str]] = {
    "float32": (pa.float32(), pa.float32(), "float"),
    "float16": (pa.float16(), pa.float32(), "float"),
    "int8": (pa.int8(), pa.int8(), "tinyint"),
    "binary": (pa.int8(), pa.int8(), "tinyint"),
    "ubinary": (pa.uint8(), pa.int16(), "smallint"),
}
"""What the numbers of a dtype are in Arrow, and in Spark, which has neither half floats nor unsigned bytes."""


class Embed:
    """A function from rows to the same rows with a column ``embedding``, fixed-size list of D float32.

    model: a run folder or model folder, at a path that every worker sees. column: what is encoded; of a table, whose
    columns the model knows, nothing (or the image beside it). stream: which tower, where there are several. role: whose
    prompt to put before each text (None: the model's default one, where it has one; ``none``: no prompt). precision:
    ``float32`` or ``bfloat16``. batch: rows encoded at once (None: as many as suit the modality). keep: the other
    columns that are given back (None: all). truncate: only the first so many dimensions, brought back to unit length
    where the encoder's embeddings have it: for models trained so that their first dimensions do on their own (Kusupati
    et al. 2022, arXiv 2205.13147). dtype: what embeddings are written as (`counterpoint.search.quantise.Dtype`): the
    column then holds lists of these, of signs one byte for eight. ranges: ``(2, D)``, of int8, which it needs
    (`quantise.ranges_of` a sample).

    It travels to other processes without weights; each loads the model at its first batch, once, and onto its GPU where
    it has one. A row is never lost: one that cannot be encoded (no value, an image that cannot be read) has a null as
    its embedding and is counted in `missing`; a blank text has the embedding of an empty text and is counted in
    `blank`. An embedding that is not finite is refused (`NotFiniteError`) with the number of its row; `seen` counts the
    rows so far.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        column: str,
        stream: str | None = None,
        role: str | None = None,
        precision: str = "float32",
        batch: int | None = None,
        keep: Sequence[str] | None = None,
        truncate: int | None = None,
        dtype: Dtype = "float32",
        ranges: np.ndarray | None = None,
    ) -> None:
        if batch is not None and batch < 1:
            raise ConfigError(f"batch={batch}: at least one row is encoded at once.")
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision={precision!r}: type float32 or bfloat16.")
        if dtype not in DTYPES:
            raise ConfigError(f"dtype={dtype!r}: type one of {', '.join(DTYPES)}.")
        if (dtype == "int8") != (ranges is not None):
            raise ConfigError(f"dtype={dtype!r}: ranges belong to int8, and int8 needs them.")
        self.dtype, self.ranges = dtype, ranges
        self.model = Path(model).expanduser().absolute()
        self.column, self.stream, self.role, self.precision = column, stream, role, precision
        self.keep, self.truncate = None if keep is None else tuple(keep), truncate
        self.missing = self.blank = self.seen = 0
        self._batch = batch
        self._encoder: Encoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None, "missing": 0, "blank": 0, "seen": 0}

    # --- the model -------------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded at first use."""
        if self._encoder is None:
            encoder = load(self.model, self.stream)
            if isinstance(encoder, BagEncoder):
                raise ModelError(
                    f"{self.model} encodes bags, not rows of a table. In Python: "
                    "counterpoint.encoders.folder.load(FOLDER).encode([[item, ...], ...])."
                )
            modality = modalities.of(encoder.modality)
            if modality.shape == "whole" and modality.columns == "one":
                raise ModelError(f"{self.model} encodes {modality.many}, which no row of a table holds.")
            if self.truncate is not None and not 1 <= self.truncate <= encoder.dim:
                raise ConfigError(
                    f"truncate={self.truncate}: the embeddings of {self.model} are {encoder.dim} wide; "
                    f"give a number from 1 to {encoder.dim}."
                )
            if self.role == NO_PROMPT and encoder.default_prompt is None:
                self.role = None
            check_role(self.role, encoder.roles, str(self.model))
            self._encoder = encoder
        return self._encoder

    @property
    def modality(self) -> modalities.Modality:
        """What the encoder encodes."""
        return modalities.of(self.encoder.modality)

    @property
    def dim(self) -> int:
        """Width D of the embeddings."""
        return self.truncate or self.encoder.dim

    @property
    def type(self) -> pa.FixedSizeListType:
        """Of the column: D numbers, or ceil(D / 8) bytes of signs."""
        signs = self.dtype in ("binary", "ubinary")
        return pa.list_(_ARROW[self.dtype][0], -(-self.dim // 8) if signs else self.dim)

    @property
    def batch(self) -> int:
        """Rows encoded at once."""
        return self._batch or self.modality.together

    def settings(self) -> dict[str, Any]:
        """All that the embeddings depend on, as JSON takes it; of the model, a checksum of its files."""
        role = None if self.role == NO_PROMPT and self.encoder.default_prompt is None else self.role
        return {
            "model": fingerprint(self.model),
            "column": self.column,
            "stream": self.stream,
            "role": role,
            "precision": self.precision,
            "truncate": self.truncate,
            "keep": None if self.keep is None else list(self.keep),
            **({} if self.dtype == "float32" else {"dtype": self.dtype}),
            **({} if self.ranges is None else {"ranges": hashlib.sha256(self.ranges.tobytes()).hexdigest()}),
        }

    # --- rows ------------------------------------------------------------------------------------------------------

    def kept(self, names: Sequence[str]) -> list[str]:
        """The columns that are given back, of rows with these columns. `DataError` where they do not do."""
        kept = list(names if self.keep is None else self.keep)
        for name in (*kept, self.column) if self.column else kept:
            if name not in names:
                raise DataError(f"There is no column {name!r}; the columns are {', '.join(names)}.")
        if EMBEDDING in kept:
            raise DataError(
                f"The rows have a column {EMBEDDING!r} already. Rename it, or say with --keep (keep=) which columns to "
                "keep beside the new one."
            )
        return kept

    def reads(self, names: Sequence[str]) -> list[str]:
        """The columns that embeddings are made from, of rows with these columns. `DataError` for none of a table's."""
        alone = [self.column] if self.modality.columns == "one" else []
        known = self._table_columns()
        there = [name for name in known if name in names]
        if known and not there:
            raise DataError(
                f"The rows have none of the columns of the table that {self.model} encodes: {', '.join(known)}. They "
                f"have {', '.join(names)}."
            )
        if lacking := [name for name in known if name not in names]:
            warnings.warn(f"The rows have no column {', '.join(lacking)}: all its cells are missing.", stacklevel=2)
        return [*alone, *there]

    def _table_columns(self) -> tuple[str, ...]:
        """The columns of a table that the model knows."""
        encoder: Encoder | nn.Module = self.encoder
        while isinstance(encoder, Projected):
            encoder = encoder.encoder
        if isinstance(encoder, ImageTable):
            encoder = encoder.table
        return encoder.columns.names if isinstance(encoder, TableTransformer) else ()

    def schema(self, rows: pa.Schema) -> pa.Schema:
        """The schema of what is given back. `DataError` for a column that is not there, or holds something else."""
        kept = [rows.field(name) for name in self.kept(rows.names)]
        cells = self._table_columns()
        for name in self.reads(rows.names):
            modality = self._several() if name in cells else self._single()
            if modality is None or name not in rows.names:
                raise DataError(f"There is no column {name!r} to encode; the columns are {', '.join(rows.names)}.")
            found = rows.field(name).type
            if not modality.fits(found):
                raise DataError(f"Column {name!r} holds no {modality.name} ({found}).")
        return pa.schema([*kept, pa.field(EMBEDDING, self.type)], metadata=rows.metadata)

    def __call__(self, rows: pa.Table | pa.RecordBatch) -> pa.Table:
        """The rows, in their order, with their embeddings."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        schema = self.schema(table.schema)
        parts = [self._part(table.slice(at, self.batch)) for at in range(0, len(table), self.batch)]
        kept = table.select(schema.names[:-1])
        return kept.append_column(schema.field(EMBEDDING), pa.chunked_array(parts, schema.field(EMBEDDING).type))

    def joined(self, rows: pa.Table, vectors: np.ndarray) -> pa.Table:
        """The rows with embeddings that were made before, ``(N, D)`` float32, NaN where a row has none."""
        schema = self.schema(rows.schema)
        written = self._written(vectors, ~np.isnan(vectors[:, 0]))
        return rows.select(schema.names[:-1]).append_column(schema.field(EMBEDDING), written)

    def partition(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batch by batch, as ``DataFrame.mapInArrow`` of Spark wants it; embeddings as lists, for Spark's arrays have
        no fixed size. See `ddl` for the schema."""
        for batch in batches:
            table = self(batch)
            plain = table.column(EMBEDDING).cast(pa.list_(_ARROW[self.dtype][1]))
            yield from table.set_column(table.num_columns - 1, EMBEDDING, plain).combine_chunks().to_batches()

    def ddl(self, dtypes: Iterable[tuple[str, str]]) -> str:
        """The schema that Spark needs beside `partition`, from the ``dtypes`` of the data frame.

        >>> Embed("runs/mine", column="text", keep=["id"]).ddl([("id", "bigint"), ("text", "string")])
        '`id` bigint, `embedding` array<float>'
        """
        types = dict(dtypes)
        fields = [(name, types[name]) for name in self.kept(list(types))]
        quoted = [
            (name.replace("`", "``"), type_)
            for name, type_ in [*fields, (EMBEDDING, f"array<{_ARROW[self.dtype][2]}>")]
        ]
        return ", ".join(f"`{name}` {type_}" for name, type_ in quoted)

    def _single(self) -> modalities.Modality | None:
        """The modality whose items are in one column, None for an encoder of several columns' cells alone."""
        return next((m for m in modalities.parts(self.encoder.modality) if m.columns == "one"), None)

    def _several(self) -> modalities.Modality | None:
        """The modality whose items are the cells of several columns."""
        return next((m for m in modalities.parts(self.encoder.modality) if m.columns == "several"), None)

    def _cells(self, table: pa.Table) -> Iterator[Any]:
        """The item of each row, None where there is nothing to encode."""
        single, several = self._single(), self._several()
        cells: list[Any] = []
        beside: dict[str, list[Any]] = {}
        if single is not None:
            column = Column.of(table, self.column)
            cells = column.cells.to_pylist()
            beside = self._beside(table, single, column)
        if several is not None:
            rows = table.select([name for name in self._table_columns() if name in table.column_names]).to_pylist()
            cells = [{single.name: c, several.name: r} for c, r in zip(cells, rows)] if single else rows
        for i, cell in enumerate(cells):
            yield self._item(cell, {part: found[i] for part, found in beside.items()})

    def _beside(self, table: pa.Table, modality: modalities.Modality, column: Column) -> dict[str, list[Any]]:
        """The cells that items which are no files are made with: part -> cells."""
        if not modality.beside or is_encoded(column.type):
            return {}
        named = {part: column.number_beside(names) for part, names in modality.beside.items()}
        if None in named.values():
            raise DataError(modality.lacks(column) if modality.lacks else f"Column {column.name!r} does not do alone.")
        return {part: table.column(name).to_pylist() for part, name in named.items()}

    def _part(self, table: pa.Table) -> pa.FixedSizeListArray:
        found = list(self._cells(table))
        there = np.array([item is not None for item in found])
        out = np.zeros((len(found), self.dim), dtype=np.float32)
        if there.any():
            encoder = self.encoder
            if torch.cuda.is_available() and encoder.device.type == "cpu":
                encoder.to("cuda")
            items = [item for item in found if item is not None]
            try:
                vectors = encoder.encode(items, role=self.role, precision=self.precision)[:, : self.dim]
            except NotFiniteError as error:
                rows = self.seen + np.flatnonzero(there)[list(error.rows)]
                raise NotFiniteError(error.tower, tuple(rows.tolist()), error.of, error.weights) from error
            out[there] = unit(vectors) if encoder.normalize and self.dim < encoder.dim else vectors
        self.missing += int((~there).sum())
        self.seen += len(found)
        return self._written(out, there)

    def _written(self, vectors: np.ndarray, there: np.ndarray) -> pa.FixedSizeListArray:
        """Vectors ``(N, D)`` as the column holds them, null where they are not there."""
        kept = quantised(np.where(there[:, None], vectors, 0), self.dtype, self.ranges)
        if self.dtype == "float16" and not np.isfinite(kept).all():
            raise ConfigError(f"The embeddings of {self.model} exceed what float16 can hold (65,504): write float32.")
        return pa.FixedSizeListArray.from_arrays(pa.array(kept.ravel()), kept.shape[1], mask=pa.array(~there))

    def _item(self, cell: Any, beside: Mapping[str, Any]) -> Any:
        """What the encoder eats, or None where there is nothing to encode."""
        modality = self.modality
        try:
            item = None if modality.empty(cell) else modality.item(cell, beside)
        except (OSError, DataError):
            return None
        self.blank += isinstance(item, str) and not item.strip()
        return item


def fingerprint(model: Path) -> str:
    """SHA-256 over the files of a model folder, whatever it is called and wherever it lies."""
    total = hashlib.sha256()
    root = model_path(model)
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name != "README.md" and not any(p[0] == "." for p in path.relative_to(root).parts):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
    return total.hexdigest()
