"""`counterpoint merge`: several runs of one encoder as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def merge(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="")],
    /,
    *,
    out: Annotated[Path, arg(metavar="MODEL")],
    by: Literal["delta", "inverse", "uniform"] = "delta",
    each: Literal["tensor", "element"] = "tensor",
    overwrite: bool = False,
) -> None:
    """Merge the models of several runs that began with the same weights into one.

    Example: counterpoint merge runs/a runs/b runs/c --out models/merged

    Args:
        runs: folders that `counterpoint fit` wrote, from one beginning and with unlike data, settings or order.
        out: the model folder to write.
        by: how much of each run: by how far its weights went (delta), by one over that (inverse), alike (uniform, a
            soup).
        each: whether a tensor, or each number in it, is weighed by itself.
        overwrite: replace the model in this folder.
    """
    from counterpoint.terminal import say
    from counterpoint.workflow.merge import merge as run

    run(runs, out=out, by=by, each=each, overwrite=overwrite)
    say(f"Model: {out}")
    say(f"Next:\n  counterpoint eval {out} TEST_ROWS\n  counterpoint encode {out} ROWS --out vectors.npy")
