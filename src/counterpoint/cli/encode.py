"""`counterpoint encode`: rows in, embeddings out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from counterpoint.cli.options import Data, Model, Name


def encode(
    model: Model,
    data: Data,
    /,
    *,
    out: Annotated[Path, arg(metavar="FILE")],
    column: Name = None,
    split: Name = None,
    stream: Name = None,
    role: Literal["none", "query", "document"] = "none",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Write the embeddings of rows: .npy (one matrix), or .parquet (the rows with a column `embedding`).

    Example: counterpoint encode runs/mine sentences.jsonl --out vectors.npy

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: files of rows, as for `fit`.
        out: where to write: a path that ends in .npy or .parquet.
        column: the column to encode (none: the only column of the model's modality, or `text`).
        split: which split of the data (none: all rows).
        stream: which tower, text or image, where the model has both.
        role: which prompt to put before each text.
        precision: bfloat16 is faster on machines with units for it.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from counterpoint.cli.rows import find_column, items, read_all
    from counterpoint.data.log import Log
    from counterpoint.errors import ConfigError, DataError
    from counterpoint.workflow.models import load

    if out.suffix not in (".npy", ".parquet"):
        raise ConfigError(f"--out {out}: embeddings are written as .npy or .parquet; end the name with one of them.")
    encoder, log = load(model, stream), Log()
    rows = read_all(data, split=split, log=log)
    name = find_column(rows, encoder.modality, column)
    start = time.perf_counter()
    kept, vectors = [], []
    for numbers, part in items(rows, name, encoder.modality, log=log):
        kept += numbers
        vectors.append(encoder.encode(part, role=None if role == "none" else role, precision=precision))
    if not kept:
        raise DataError(f"No row could be encoded. {' '.join(log.lines())}")
    matrix = np.concatenate(vectors)
    seconds = time.perf_counter() - start
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.new")
    if out.suffix == ".npy":
        with open(aside, "wb") as file:
            np.save(file, matrix, allow_pickle=False)
    else:
        cells = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
        pq.write_table(rows.with_format("arrow")[kept].append_column("embedding", cells), aside)
    aside.replace(out)  # whole or not at all
    for line in log.lines():
        print(line)
    speed = f"{seconds:.1f} s ({len(matrix) / max(seconds, 1e-9):,.0f} rows/s)"
    print(f"{len(matrix):,} embeddings of width {matrix.shape[1]} in {speed}: {out}")
