"""`counterpoint demo`: the main job on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def demo(
    *,
    out: Path = Path("runs/demo"),
    size: Literal["full", "smoke"] = "full",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Semantic code search over this machine's Python packages: harvest, train, measure beside BM25, search.

    Example: counterpoint demo --overwrite

    Args:
        out: the run folder to write.
        size: full (a few minutes on two cores) or smoke (under a minute, a fraction of the data).
        seed: of everything that is drawn.
        overwrite: replace the run that is there.
    """
    from counterpoint.demo import run

    run(out, size=size, seed=seed, overwrite=overwrite)
