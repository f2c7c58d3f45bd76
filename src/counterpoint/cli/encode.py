"""`counterpoint encode`: rows in, embeddings out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from tyro.conf import arg

from counterpoint.cli.options import Data, Model, Name, Names

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from counterpoint.workflow.embed import Embed

Number: TypeAlias = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]


def encode(
    model: Model,
    data: Data,
    /,
    *,
    out: Annotated[str, arg(metavar="FILE|FOLDER")],
    column: Name = None,
    split: Name = None,
    stream: Name = None,
    role: Literal["none", "query", "document"] = "none",
    precision: Literal["float32", "bfloat16"] = "float32",
    truncate: Number = None,
    keep: Names = ("all",),
    batch: Number = None,
    engine: Literal["local", "ray"] = "local",
    workers: Number = None,
    gpus_per_worker: Annotated[float | None, arg(metavar="N", help_behavior_hint="")] = None,
    overwrite: bool = False,
) -> None:
    """Write the embeddings of rows: .npy (one matrix), .parquet (the rows with a column `embedding`), or a folder.

    Example: counterpoint encode runs/mine sentences.jsonl --out vectors.npy

    Example: counterpoint encode runs/mine 'rows/*.parquet' --out vectors --engine ray --workers 8

    A folder is written from parquet files, unit by unit: a job that was killed goes on where it was when the same
    command is typed again.

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: files of rows, as for `fit`; for a folder, parquet files, folders of them, globs, fsspec URLs.
        out: where to write: a path that ends in .npy or .parquet, or a folder (or the fsspec URL of one).
        column: the column to encode (none: the only column of the model's modality, or `text`).
        split: which split of the data (none: all rows).
        stream: which tower, text or image, where the model has both.
        role: which prompt to put before each text.
        precision: bfloat16 is faster on machines with units for it.
        truncate: only the first so many dimensions, for models trained for it (none: all).
        keep: the columns that are written beside the embedding (all, none, or their names).
        batch: rows encoded at once (none: 8,192 texts or 512 images).
        engine: local: this process; ray: a pool of Ray's actors, into a folder.
        workers: actors of Ray (none: one for each GPU, or for each core).
        gpus_per_worker: share of GPUs that an actor has (none: 1 where Ray has any).
        overwrite: begin anew in a folder that holds embeddings.
    """
    from counterpoint.errors import ConfigError
    from counterpoint.workflow.embed import Embed

    ending = Path(out).suffix
    folder = ending not in (".npy", ".parquet")
    if ending and folder and not (Path(out).is_dir() or "://" in out or out.endswith("/")):
        raise ConfigError(
            f"--out {out}: embeddings are written as .npy or .parquet; end the name with one of them, or with / for a "
            "folder."
        )
    if not folder and engine == "ray":
        raise ConfigError(f"--out {out} is one file, which --engine ray does not write. Name a folder.")
    if folder and split is not None:
        raise ConfigError("--split does not go with a folder: name the files of the split.")
    if engine == "local" and (workers is not None or gpus_per_worker is not None):
        raise ConfigError("--workers and --gpus-per-worker are of --engine ray; the local engine is one process.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: give 1 or more.")
    kept = None if keep == ("all",) else () if keep == ("none",) else keep

    embed = Embed(
        model,
        column=column or "",
        stream=stream,
        role=None if role == "none" else role,
        precision=precision,
        batch=batch,
        keep=kept,
        truncate=truncate,
    )
    if folder:
        _folder(embed, data, out, engine=engine, workers=workers, gpus=gpus_per_worker, overwrite=overwrite)
    else:
        _file(embed, data, Path(out), split=split)


def _folder(
    embed: Embed,
    data: Sequence[str],
    out: str,
    *,
    engine: Literal["local", "ray"],
    workers: int | None,
    gpus: float | None,
    overwrite: bool,
) -> None:
    import datasets

    from counterpoint.cli.rows import find_column
    from counterpoint.errors import ConfigError, DataError
    from counterpoint.workflow.bulk import encode_files
    from counterpoint.workflow.units import find, first_schema

    modality = embed.encoder.modality
    if modality == "series":
        raise ConfigError(f"--out {out}: embeddings of a series are one file; end its name with .npy or .parquet.")
    inputs = find(data, out=out)
    columns = datasets.Dataset(first_schema(inputs).empty_table())
    embed.column = find_column(columns, modality, embed.column or None)
    embed.schema(columns.data.schema)  # what is wrong with the columns is better said once than for every unit
    did = encode_files(embed, inputs, out, engine=engine, workers=workers, gpus=gpus, overwrite=overwrite)
    if did.before:
        print(f"{did.before:,} of {did.units:,} units were done before.")
    _tell(embed.column or "table", did.missing, did.blank, "null")
    print(f"{did.rows:,} embeddings of width {embed.dim} in {_speed(did.rows, did.seconds)}: {out}")
    if did.failed:
        shown = "".join(f"\n  {why}" for why in list(did.failed.values())[:10])
        raise DataError(
            f"{len(did.failed):,} of {len(inputs):,} files could not be encoded whole; {did.units - did.left:,} of "
            f"{did.units:,} units are done. Repair these files, or leave out those of which nothing is done, and type "
            f"the same command again: only what is not there is done.{shown}"
        )


def _file(embed: Embed, data: Sequence[str], out: Path, *, split: str | None) -> None:
    """Block by block: neither the rows, where they are large, nor the embeddings are ever all in memory."""
    from counterpoint.cli.rows import find_column, read_all
    from counterpoint.data.log import Log
    from counterpoint.errors import DataError

    modality, log = embed.encoder.modality, Log()
    if modality == "series":
        from counterpoint.cli.series import encode_series

        return encode_series(embed, data, out, split=split)
    rows = read_all(data, split=split, log=log)
    embed.column = find_column(rows, modality, embed.column or None)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.new")
    start = time.perf_counter()
    try:
        (_matrix if out.suffix == ".npy" else _table)(embed, rows, aside)
        if embed.missing == len(rows):
            raise DataError(f"No row could be encoded: column {embed.column!r} holds nothing that can be.")
        aside.replace(out)  # whole or not at all
    finally:
        aside.unlink(missing_ok=True)
    for line in log.lines():
        print(line)
    _tell(embed.column or "table", embed.missing, embed.blank, "NaN" if out.suffix == ".npy" else "null")
    print(f"{len(rows):,} embeddings of width {embed.dim} in {_speed(len(rows), time.perf_counter() - start)}: {out}")


def _matrix(embed: Embed, rows: datasets.Dataset, path: Path) -> None:
    """Row i of the matrix is row i of the data, NaN where it could not be encoded."""
    import numpy as np

    from counterpoint.workflow.embed import EMBEDDING

    embed.keep = ()
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), embed.dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for table in _embedded(embed, rows):
            cells = table[EMBEDDING].combine_chunks()
            block = np.full((len(cells), embed.dim), np.nan, dtype="<f4")
            found = cells.flatten().to_numpy().reshape(-1, embed.dim)  # `flatten` passes over nulls
            block[cells.is_valid().to_numpy(zero_copy_only=False)] = found
            file.write(block.tobytes())


def _table(embed: Embed, rows: datasets.Dataset, path: Path) -> None:
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in _embedded(embed, rows):
            writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=table.column_names[:-1])
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _embedded(embed: Embed, rows: datasets.Dataset) -> Iterator[pa.Table]:
    arrow = rows.with_format("arrow")
    for start in range(0, len(rows), embed.batch):
        yield embed(arrow[start : start + embed.batch])


def _tell(column: str, missing: int, blank: int, instead: str) -> None:
    if missing:
        print(f"{missing:,} rows have nothing in column {column!r} that can be encoded; their embedding is {instead}.")
    if blank:
        print(f"{blank:,} rows have no text in column {column!r}; their embeddings are those of an empty text.")


def _speed(rows: int, seconds: float) -> str:
    return f"{seconds:.1f} s ({rows / max(seconds, 1e-9):,.0f} rows/s)"
