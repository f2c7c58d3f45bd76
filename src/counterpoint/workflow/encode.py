"""`encode`: rows in, embeddings out: a matrix, the rows with a column of embeddings, or a folder of such files.

Block by block: neither the rows, where they are large, nor the embeddings are ever all in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source
from counterpoint.data.log import Log
from counterpoint.errors import ConfigError, DataError
from counterpoint.files import aside_of, whole_file
from counterpoint.modalities.base import of
from counterpoint.search.quantise import Dtype, ranges_of
from counterpoint.workflow.bulk.embed import EMBEDDING, Embed
from counterpoint.workflow.bulk.encode import encode_files
from counterpoint.workflow.bulk.units import find, first_schema
from counterpoint.workflow.series import embedded_steps
from counterpoint.workflow.sources import find_column, read_all

FILES = (".npy", ".parquet")
"""Endings of the files that embeddings are written to; what has none of them is a folder."""
BLOCK = 65_536
"""Embeddings whose least and greatest values are looked for at once."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What `encode` wrote.

    out: the file or folder. rows, dim: how many embeddings, and their width. seconds: of the computation. notes: what
    is to be known of them, a sentence each: what reading left out, rows that hold nothing.
    """

    out: str
    rows: int
    dim: int
    seconds: float
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """All that is said of it, the figures last."""
        speed = f"{self.seconds:.1f} s ({self.rows / max(self.seconds, 1e-9):,.0f} rows/s)"
        return [*self.notes, f"{self.rows:,} embeddings of width {self.dim} in {speed}: {self.out}"]


def encode(
    model: Path | str,
    data: Source | Any,
    *,
    out: Path | str,
    column: str | None = None,
    split: str | None = None,
    stream: str | None = None,
    role: str | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    dim: int | None = None,
    dtype: Dtype = "float32",
    ranges: Path | str | np.ndarray | None = None,
    keep: Sequence[str] | None = None,
    batch: int | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    overwrite: bool = False,
    reading: Said = None,
) -> Encoded:
    """Write the embeddings of rows; the function behind ``counterpoint encode``, whose options it has.

    model: a run folder, a model folder, or any sentence-transformers or transformers folder. data: files, or rows that
    are in memory (a DataFrame, a list of dicts); for a folder, parquet files, folders of them, globs, fsspec URLs.
    out: ``.npy``, a matrix ``(N, D)`` whose row i is row i of the data, NaN where it holds nothing that can be encoded;
    ``.parquet``, the rows with a column ``embedding``, null there; else a folder of parquet files, written unit by
    unit, so that a job which was killed goes on where it was. column: what is encoded (None: the only column of the
    model's modality). split: None: all rows. stream: which tower, where there are several. role: whose prompt goes
    before each text (`Encoder.encode`). precision: of the computation. dim: only the first so many dimensions. dtype:
    of what is written. ranges: of int8: ``(2, D)``, the steps of earlier vectors, or their file (None: fitted to these
    rows, and written beside ``out``). keep: columns written beside the embedding (None: all). batch: rows encoded at
    once. engine, workers, gpus_per_worker: ``ray`` and its actors, for a folder. overwrite: begin anew in a folder that
    holds embeddings. reading: what is said of files rather than found.

    Raises `ConfigError` for settings that do not go together, `DataError` for rows that cannot be read or hold nothing
    that the model encodes, `ModelError` for a model that is damaged, `NotFiniteError` for embeddings that are not
    finite.

        counterpoint.encode("runs/mine", pandas.DataFrame({"text": ["a", "b"]}), out="vectors.npy")
    """
    out = str(out)
    folder = Path(out).suffix not in FILES
    _check(out, folder, split=split, dtype=dtype, ranges=ranges, engine=engine, workers=workers, gpus=gpus_per_worker)
    fit = dtype == "int8" and ranges is None  # to all rows, once they are encoded
    embed = Embed(
        model,
        column=column or "",
        stream=stream,
        role=role,
        precision=precision,
        batch=batch,
        keep=keep,
        truncate=dim,
        dtype="float32" if fit else dtype,
        ranges=ranges if ranges is None or isinstance(ranges, np.ndarray) else _read_ranges(Path(ranges)),
    )
    if folder:
        return _folder(embed, data, out, engine=engine, workers=workers, gpus=gpus_per_worker, overwrite=overwrite)
    if of(embed.encoder.modality).shape == "rows":
        return _file(embed, data, Path(out), split=split, fit=fit, reading=reading)
    if dtype != "float32":
        raise ConfigError("Embeddings of a series are written as float32: leave --dtype out.")
    return _series(embed, data, Path(out), split=split, reading=reading)


def _check(
    out: str,
    folder: bool,
    *,
    split: str | None,
    dtype: str,
    ranges: Any,
    engine: str,
    workers: int | None,
    gpus: float | None,
) -> None:
    """Refuse settings that do not go together."""
    if Path(out).suffix and folder and not (Path(out).is_dir() or "://" in out or out.endswith("/")):
        raise ConfigError(
            f"--out {out}: embeddings are written as .npy or .parquet; end the name with one of them, or with / for a "
            "folder."
        )
    if not folder and engine == "ray":
        raise ConfigError(f"--out {out} is one file, which --engine ray does not write. Name a folder.")
    if folder and split is not None:
        raise ConfigError("--split does not go with a folder: name the files of the split.")
    if engine == "local" and (workers is not None or gpus is not None):
        raise ConfigError("--workers and --gpus-per-worker are of --engine ray; the local engine is one process.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: give 1 or more.")
    if ranges is not None and dtype != "int8":
        raise ConfigError(f"--ranges is of --dtype int8; {dtype} has none. Leave it out.")
    if dtype == "int8" and ranges is None and folder:
        raise ConfigError(
            "--dtype int8 is fitted to all rows, which the workers of a folder never see together. Encode some of them "
            "to a .npy with --dtype int8, and give the .ranges.npy beside it as --ranges."
        )


# --- a folder --------------------------------------------------------------------------------------------------


def _folder(
    embed: Embed,
    data: Source | Any,
    out: str,
    *,
    engine: Literal["local", "ray"],
    workers: int | None,
    gpus: float | None,
    overwrite: bool,
) -> Encoded:
    modality = embed.encoder.modality
    if of(modality).shape == "whole":
        raise ConfigError(f"--out {out}: embeddings of a series are one file; end its name with .npy or .parquet.")
    sources = [data] if isinstance(data, str | Path) else data
    if not isinstance(sources, list | tuple) or not all(isinstance(s, str | Path) for s in sources):
        raise ConfigError(f"{out}: a folder is written from parquet files; for rows in memory, end it with .parquet.")
    inputs = find([str(s) for s in sources], out=out)
    columns = datasets.Dataset(first_schema(inputs).empty_table())
    embed.column = find_column(columns, modality, embed.column or None)
    embed.schema(columns.data.schema)  # what is wrong with the columns is better said once than for every unit
    did = encode_files(embed, inputs, out, engine=engine, workers=workers, gpus=gpus, overwrite=overwrite)
    if did.failed:
        shown = "".join(f"\n  {why}" for why in list(did.failed.values())[:10])
        raise DataError(
            f"{len(did.failed):,} of {len(inputs):,} files could not be encoded whole; {did.units - did.left:,} of "
            f"{did.units:,} units are done. Repair these files, or leave out those of which nothing is done, and type "
            f"the same command again: only what is not there is done.{shown}"
        )
    before = [f"{did.before:,} of {did.units:,} units were done before."] if did.before else []
    held = _holding_nothing(embed.column or modality, did.missing, did.blank, "null")
    return Encoded(out=out, rows=did.rows, dim=embed.dim, seconds=did.seconds, notes=(*before, *held))


# --- one file --------------------------------------------------------------------------------------------------


def _file(embed: Embed, data: Source | Any, out: Path, *, split: str | None, fit: bool, reading: Said) -> Encoded:
    """fit: write int8, whose steps are fitted to the embeddings."""
    log = Log()
    rows = read_all(data, split=split, log=log, reading=reading)
    embed.column = find_column(rows, embed.encoder.modality, embed.column or None)
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    waiting = aside_of(out.with_suffix(".floats"))  # where the floats are that int8 is fitted to
    write: Callable[..., None] = _matrix if out.suffix == ".npy" else _table
    try:
        with whole_file(out) as aside:
            floats = _fitted(embed, rows, waiting) if fit else None
            write(embed, rows, aside, floats)
            if embed.missing == len(rows):
                raise _nothing(embed)
            if embed.ranges is not None and fit:
                with whole_file(out.with_suffix(".ranges.npy")) as steps:
                    np.save(steps, embed.ranges, allow_pickle=False)
    finally:
        waiting.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    instead = "NaN" if out.suffix == ".npy" else "null"
    notes = [
        *log.lines(),
        *_holding_nothing(embed.column or embed.encoder.modality, embed.missing, embed.blank, instead),
    ]
    if embed.dtype != "float32":
        held = embed.type.list_size * embed.type.value_type.bit_width // 8
        notes.append(f"A vector takes {held:,} bytes as {embed.dtype}; in float32, whole, {4 * embed.encoder.dim:,}.")
    if fit:
        notes.append(f"The steps of int8, for --ranges: {out.with_suffix('.ranges.npy')}")
    return Encoded(out=str(out), rows=len(rows), dim=embed.dim, seconds=seconds, notes=tuple(notes))


def _nothing(embed: Embed) -> DataError:
    return DataError(f"No row could be encoded: column {embed.column!r} holds nothing that can be.")


def _read_ranges(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise DataError(f"The steps of int8 cannot be read from {path}: {error}") from error


def _fitted(embed: Embed, rows: datasets.Dataset, path: Path) -> np.ndarray:
    """All embeddings, mapped from a file that is written to ``path``; from now on what is written is int8, whose steps
    are fitted to them."""
    kept = embed.keep
    _matrix(embed, rows, path)
    embed.keep = kept
    floats = np.load(path, mmap_mode="r", allow_pickle=False)
    parts = [floats[start : start + BLOCK] for start in range(0, len(floats), BLOCK)]
    whole = [part[~np.isnan(part[:, 0])] for part in parts]
    found = [ranges_of(part) for part in whole if len(part)]
    if not found:
        raise _nothing(embed)
    embed.dtype = "int8"
    embed.ranges = np.stack([np.min([low for low, _ in found], axis=0), np.max([high for _, high in found], axis=0)])
    return floats


def _matrix(embed: Embed, rows: datasets.Dataset, path: Path, floats: np.ndarray | None = None) -> None:
    """Row i of the matrix is row i of the data, NaN where it could not be encoded."""
    embed.keep = ()
    kind = np.dtype(embed.type.value_type.to_pandas_dtype()).newbyteorder("<")
    width = embed.type.list_size
    with path.open("wb") as file:
        header = {"descr": kind.str, "fortran_order": False, "shape": (len(rows), width)}
        np.lib.format.write_array_header_1_0(file, header)
        for table in _embedded(embed, rows, floats):
            cells = table[EMBEDDING].combine_chunks()
            if cells.null_count and kind.kind != "f":
                raise DataError(
                    f"{cells.null_count:,} rows hold nothing that can be encoded, and {embed.dtype} has no NaN to say "
                    "so. Name a .parquet as --out, where their embedding is null, or remove them."
                )
            block = np.full((len(cells), width), np.nan if kind.kind == "f" else 0, dtype=kind)
            found = cells.flatten().to_numpy().reshape(-1, width)  # `flatten` passes over nulls
            block[cells.is_valid().to_numpy(zero_copy_only=False)] = found
            file.write(block.tobytes())


def _table(embed: Embed, rows: datasets.Dataset, path: Path, floats: np.ndarray | None = None) -> None:
    writer = None
    try:
        for table in _embedded(embed, rows, floats):
            writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=table.column_names[:-1])
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _embedded(embed: Embed, rows: datasets.Dataset, floats: np.ndarray | None = None) -> Iterator[pa.Table]:
    """Blocks of rows with their embeddings. floats: what was encoded already."""
    arrow = rows.with_format("arrow")
    for start in range(0, len(rows), embed.batch):
        block = slice(start, start + embed.batch)
        yield embed(arrow[block]) if floats is None else embed.joined(arrow[block], floats[block])


def _holding_nothing(column: str, missing: int, blank: int, instead: str) -> Iterator[str]:
    if missing:
        yield f"{missing:,} rows have nothing in column {column!r} that can be encoded; their embedding is {instead}."
    if blank:
        yield f"{blank:,} rows have no text in column {column!r}; their embeddings are those of an empty text."


# --- a series --------------------------------------------------------------------------------------------------


def _series(embed: Embed, data: Source | Any, out: Path, *, split: str | None, reading: Said) -> Encoded:
    """For each step the embedding of the window that ends with it: NaN or null where too few steps came before."""
    if embed.column:
        raise ConfigError(f"--column {embed.column}: a series is read with all of its channels. Leave --column out.")
    log, start = Log(), time.perf_counter()
    rows = read_all(data, split=split, log=log, reading=reading)
    steps = embedded_steps(embed.encoder, rows, precision=embed.precision, log=log)
    z = np.concatenate([block[:, : embed.dim] for block in steps])
    none = np.isnan(z).all(1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as aside, aside.open("wb") as file:
        if out.suffix == ".npy":
            np.save(file, z)
        else:
            column = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), embed.dim, mask=pa.array(none))
            embed.column = rows.column_names[0]
            kept = rows.with_format("arrow")[:].select(embed.kept(rows.column_names))
            pq.write_table(kept.append_column(EMBEDDING, column), file)
    first, instead = int(none.sum()), "NaN" if out.suffix == ".npy" else "null"
    notes = [*log.lines(), f"The first {first:,} rows have too few before them; their embedding is {instead}."]
    seconds = time.perf_counter() - start
    return Encoded(out=str(out), rows=len(z), dim=embed.dim, seconds=seconds, notes=tuple(notes))
