"""`encode` of a series: an embedding for each step, of the window that ends with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint.errors import ConfigError

if TYPE_CHECKING:
    from counterpoint.data.files.options import Reading
    from counterpoint.workflow.bulk.embed import Embed


def encode_series(embed: Embed, data: Sequence[str], out: Path, *, split: str | None, reading: Reading) -> None:
    """Write a matrix (.npy), NaN where too few steps came before, or the rows with their embeddings (.parquet), null
    there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from counterpoint.cli.rows import read_all
    from counterpoint.data.log import Log
    from counterpoint.files import whole_file
    from counterpoint.workflow.bulk.embed import EMBEDDING
    from counterpoint.workflow.series import embedded_steps

    if embed.column:
        raise ConfigError(f"--column {embed.column}: a series is read with all of its channels. Leave --column out.")
    log, start = Log(), time.perf_counter()
    rows = read_all(data, split=split, log=log, reading=reading)
    z = np.concatenate(
        [b[:, : embed.dim] for b in embedded_steps(embed.encoder, rows, precision=embed.precision, log=log)]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as aside, aside.open("wb") as file:
        if out.suffix == ".npy":
            np.save(file, z)
        else:
            none = pa.array(np.isnan(z).all(1))
            column = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), embed.dim, mask=none)
            embed.column = rows.column_names[0]
            kept = rows.with_format("arrow")[:].select(embed.kept(rows.column_names))
            pq.write_table(kept.append_column(EMBEDDING, column), file)
    for line in log.lines():
        print(line)
    first = int(np.isnan(z).all(1).sum())
    instead = "NaN" if out.suffix == ".npy" else "null"
    print(f"The first {first:,} rows have too few before them; their embedding is {instead}.")
    print(f"{len(z) - first:,} windows, each ending with its row, in {time.perf_counter() - start:.1f} s: {out}")
