"""`counterpoint encode`: rows in, embeddings out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Names, Number, Read

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

    from counterpoint.data.files.options import Reading
    from counterpoint.workflow.bulk.embed import Embed


def encode(
    model: Model,
    data: Data,
    /,
    *,
    out: Annotated[str, arg(metavar="FILE|FOLDER")],
    column: Name = None,
    split: Name = None,
    stream: Name = None,
    role: Name = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    dim: Annotated[int | None, arg(metavar="N", help_behavior_hint="", aliases=["--truncate"])] = None,
    dtype: Literal["float32", "float16", "int8", "binary", "ubinary"] = "float32",
    ranges: File = None,
    keep: Names = ("all",),
    batch: Number = None,
    engine: Literal["local", "ray"] = "local",
    workers: Number = None,
    gpus_per_worker: Annotated[float | None, arg(metavar="N", help_behavior_hint="")] = None,
    overwrite: bool = False,
    files: Read = AS_FOUND,
) -> None:
    """Write the embeddings of rows: .npy (one matrix), .parquet (the rows with a column `embedding`), or a folder.

    Example: counterpoint encode runs/mine sentences.jsonl --out vectors.npy

    Example: counterpoint encode runs/mine 'rows/*.parquet' --out vectors --engine ray --workers 8

    Example: counterpoint encode runs/mine sentences.jsonl --out vectors.npy --dim 128 --dtype int8

    A folder is written from parquet files, unit by unit: a job that was killed goes on where it was when the same
    command is typed again.

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: files of rows, as for `fit`; for a folder, parquet files, folders of them, globs, fsspec URLs.
        out: where to write: a path that ends in .npy or .parquet, or a folder (or the fsspec URL of one).
        column: the column to encode (none: the only column of the model's modality, or `text`).
        split: which split of the data (none: all rows).
        stream: which tower, text or image, where the model has both.
        role: whose prompt to put before each text: query, document or another that the model has, or none; or of which
            domain the texts are, where the model has experts for domains. Where nothing is said: the prompt that the
            model puts by default, if any.
        precision: of the computation: bfloat16 is faster on machines with units for it.
        dim: only the first so many dimensions, at unit length, for models trained for it (none: all).
        dtype: of what is written. int8: 256 steps between the least and the greatest value of a dimension; binary:
            signs, eight to a byte, as int8; ubinary: the same as uint8.
        ranges: of int8: the steps of earlier vectors (a .ranges.npy), so that both can be compared (none: fitted to
            these rows, and written beside --out).
        keep: the columns that are written beside the embedding (all, none, or their names).
        batch: rows encoded at once (none: 8,192 texts or 512 images).
        engine: local: this process; ray: a pool of Ray's actors, into a folder.
        workers: actors of Ray (none: one for each GPU, or for each core).
        gpus_per_worker: share of GPUs that an actor has (none: 1 where Ray has any).
        overwrite: begin anew in a folder that holds embeddings.
        files: how files are read, where that is not found by looking at them.
    """
    from counterpoint.errors import ConfigError
    from counterpoint.workflow.bulk.embed import Embed

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

    if ranges is not None and dtype != "int8":
        raise ConfigError(f"--ranges is of --dtype int8; {dtype} has none. Leave it out.")
    if dtype == "int8" and ranges is None and folder:
        raise ConfigError(
            "--dtype int8 is fitted to all rows, which the workers of a folder never see together. Encode some of them "
            "to a .npy with --dtype int8, and give the .ranges.npy beside it as --ranges."
        )
    fit = dtype == "int8" and ranges is None  # to all rows, once they are encoded

    embed = Embed(
        model,
        column=column or "",
        stream=stream,
        role=role,
        precision=precision,
        batch=batch,
        keep=kept,
        truncate=dim,
        dtype="float32" if fit else dtype,
        ranges=None if ranges is None else _read_ranges(ranges),
    )
    if folder:
        _folder(embed, data, out, engine=engine, workers=workers, gpus=gpus_per_worker, overwrite=overwrite)
    else:
        _file(embed, data, Path(out), split=split, fit=fit, reading=files.reading())


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
    from counterpoint.modalities.base import of
    from counterpoint.workflow.bulk.encode import encode_files
    from counterpoint.workflow.bulk.units import find, first_schema

    modality = embed.encoder.modality
    if of(modality).shape == "whole":
        raise ConfigError(f"--out {out}: embeddings of a series are one file; end its name with .npy or .parquet.")
    inputs = find(data, out=out)
    columns = datasets.Dataset(first_schema(inputs).empty_table())
    embed.column = find_column(columns, modality, embed.column or None)
    embed.schema(columns.data.schema)  # what is wrong with the columns is better said once than for every unit
    did = encode_files(embed, inputs, out, engine=engine, workers=workers, gpus=gpus, overwrite=overwrite)
    if did.before:
        print(f"{did.before:,} of {did.units:,} units were done before.")
    _tell(embed.column or modality, did.missing, did.blank, "null")
    print(f"{did.rows:,} embeddings of width {embed.dim} in {_speed(did.rows, did.seconds)}: {out}")
    if did.failed:
        shown = "".join(f"\n  {why}" for why in list(did.failed.values())[:10])
        raise DataError(
            f"{len(did.failed):,} of {len(inputs):,} files could not be encoded whole; {did.units - did.left:,} of "
            f"{did.units:,} units are done. Repair these files, or leave out those of which nothing is done, and type "
            f"the same command again: only what is not there is done.{shown}"
        )


def _file(embed: Embed, data: Sequence[str], out: Path, *, split: str | None, fit: bool, reading: Reading) -> None:
    """Block by block: neither the rows, where they are large, nor the embeddings are ever all in memory.

    fit: write int8, whose steps are fitted to the embeddings.
    """
    from counterpoint.cli.rows import find_column, read_all
    from counterpoint.data.log import Log
    from counterpoint.errors import ConfigError, DataError
    from counterpoint.files import aside_of, whole_file
    from counterpoint.modalities.base import of

    modality, log = embed.encoder.modality, Log()
    if of(modality).shape == "whole":
        if fit or embed.dtype != "float32":
            raise ConfigError("Embeddings of a series are written as float32: leave --dtype out.")
        from counterpoint.cli.series import encode_series

        return encode_series(embed, data, out, split=split, reading=reading)
    rows = read_all(data, split=split, log=log, reading=reading)
    embed.column = find_column(rows, modality, embed.column or None)
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    waiting = aside_of(out.with_suffix(".floats"))  # where the floats are that int8 is fitted to
    try:
        with whole_file(out) as aside:
            floats = _fitted(embed, rows, waiting) if fit else None
            (_matrix if out.suffix == ".npy" else _table)(embed, rows, aside, floats)
            if embed.missing == len(rows):
                raise DataError(f"No row could be encoded: column {embed.column!r} holds nothing that can be.")
            if fit:
                _write_ranges(embed, out)
    finally:
        waiting.unlink(missing_ok=True)
    for line in log.lines():
        print(line)
    _tell(embed.column or modality, embed.missing, embed.blank, "NaN" if out.suffix == ".npy" else "null")
    print(f"{len(rows):,} embeddings of width {embed.dim} in {_speed(len(rows), time.perf_counter() - start)}: {out}")
    if embed.dtype != "float32":
        held = embed.type.list_size * embed.type.value_type.bit_width // 8
        print(f"A vector takes {held:,} bytes as {embed.dtype}; in float32, whole, {4 * embed.encoder.dim:,}.")
    if fit:
        print(f"The steps of int8, for --ranges: {out.with_suffix('.ranges.npy')}")


def _read_ranges(path: Path) -> np.ndarray:
    import numpy as np

    from counterpoint.errors import DataError

    try:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise DataError(f"The steps of int8 cannot be read from {path}: {error}") from error


def _write_ranges(embed: Embed, out: Path) -> None:
    import numpy as np

    from counterpoint.files import whole_file

    with whole_file(out.with_suffix(".ranges.npy")) as aside:
        np.save(aside, embed.ranges, allow_pickle=False)


def _fitted(embed: Embed, rows: datasets.Dataset, path: Path) -> np.ndarray:
    """All embeddings, mapped from a file that is written to ``path``; from now on what is written is int8, whose steps
    are fitted to them."""
    import numpy as np

    from counterpoint.errors import DataError
    from counterpoint.search.quantise import ranges_of

    kept = embed.keep
    _matrix(embed, rows, path)
    embed.keep = kept
    floats = np.load(path, mmap_mode="r", allow_pickle=False)
    parts = [floats[start : start + 65_536] for start in range(0, len(floats), 65_536)]
    whole = [part[~np.isnan(part[:, 0])] for part in parts]
    found = [ranges_of(part) for part in whole if len(part)]
    if not found:
        raise DataError(f"No row could be encoded: column {embed.column!r} holds nothing that can be.")
    embed.dtype = "int8"
    embed.ranges = np.stack([np.min([low for low, _ in found], axis=0), np.max([high for _, high in found], axis=0)])
    return floats


def _matrix(embed: Embed, rows: datasets.Dataset, path: Path, floats: np.ndarray | None = None) -> None:
    """Row i of the matrix is row i of the data, NaN where it could not be encoded."""
    import numpy as np

    from counterpoint.errors import DataError
    from counterpoint.workflow.bulk.embed import EMBEDDING

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
    import pyarrow.parquet as pq

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


def _tell(column: str, missing: int, blank: int, instead: str) -> None:
    if missing:
        print(f"{missing:,} rows have nothing in column {column!r} that can be encoded; their embedding is {instead}.")
    if blank:
        print(f"{blank:,} rows have no text in column {column!r}; their embeddings are those of an empty text.")


def _speed(rows: int, seconds: float) -> str:
    return f"{seconds:.1f} s ({rows / max(seconds, 1e-9):,.0f} rows/s)"
