"""`counterpoint encode`: rows in, embeddings out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def encode(
    model: Positional[Path],
    data: Positional[tuple[str, ...]],
    /,
    *,
    out: Path,
    column: str | None = None,
    stream: str | None = None,
    role: Literal["none", "query", "document"] = "none",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Write the embeddings of rows: .npy (one matrix), or .parquet (the rows with a column `embedding`).

    Example: counterpoint encode runs/mine sentences.jsonl --out vectors.npy

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: files of rows, as for `fit`.
        out: where to write: a path that ends in .npy or .parquet.
        column: the column to encode (none: the only text or image column).
        stream: which tower, where the model has several.
        role: which prompt to put before each text.
        precision: bfloat16 is faster on machines with units for it.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from counterpoint.cli.rows import text_column
    from counterpoint.data.read import read
    from counterpoint.errors import ConfigError
    from counterpoint.workflow.models import load

    if out.suffix not in (".npy", ".parquet"):
        raise ConfigError(f"--out {out}: embeddings are written as .npy or .parquet; end the name with one of them.")
    encoder = load(model, stream)
    rows = read(list(data), split="all")
    name = column or ("image" if encoder.modality == "image" else text_column(rows, None))
    items = rows[name]
    start = time.perf_counter()
    vectors = encoder.encode(list(items), role=None if role == "none" else role, precision=precision)
    seconds = time.perf_counter() - start
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.new")
    if out.suffix == ".npy":
        with open(aside, "wb") as file:
            np.save(file, vectors, allow_pickle=False)
    else:
        cells = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        pq.write_table(rows.data.table.append_column("embedding", cells), aside)
    aside.replace(out)  # whole or not at all
    print(
        f"{len(vectors):,} x {vectors.shape[1]} in {seconds:.1f} s ({len(vectors) / max(seconds, 1e-9):,.0f} rows/s): {out}"
    )
