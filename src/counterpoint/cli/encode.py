"""`counterpoint encode`: rows in, embeddings out."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import arg

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Names, Number, Read


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
    from counterpoint.terminal import say
    from counterpoint.workflow.encode import encode as run

    found = run(
        model,
        list(data),
        out=out,
        column=column,
        split=split,
        stream=stream,
        role=role,
        precision=precision,
        dim=dim,
        dtype=dtype,
        ranges=ranges,
        keep=None if keep == ("all",) else () if keep == ("none",) else keep,
        batch=batch,
        engine=engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        overwrite=overwrite,
        reading=files.reading(),
    )
    for line in found.lines():
        say(line)
