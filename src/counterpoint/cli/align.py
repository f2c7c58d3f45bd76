"""`counterpoint align`: reads to places on a reference, as SAM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def align(
    folder: Annotated[Positional[Path], arg(metavar="INDEX", help_behavior_hint="")],
    reads: Annotated[Positional[Path], arg(metavar="READS", help_behavior_hint="")],
    /,
    *,
    out: Annotated[Path, arg(metavar="FILE.sam")],
    k: int = 200,
    tries: int = 4,
    accept: float = 0.3,
    overwrite: bool = False,
) -> None:
    """Place reads of DNA on a reference that was indexed with `counterpoint index RUN ref.fa`; writes SAM.

    Example: counterpoint align runs/genome reads.fq.gz --out reads.sam

    Args:
        folder: an index folder, or a run folder that holds one.
        reads: a FASTQ or FASTA file, also with .gz.
        out: the SAM file to write.
        k: units of the reference that the search proposes for each read.
        tries: of these, how many are aligned at most, by the short words they share with the read.
        accept: least share of a perfect alignment score; a read below it is written as unmapped.
        overwrite: replace a file that is there.
    """
    from counterpoint.terminal import say
    from counterpoint.workflow.align import align as run

    found = run(folder, reads, out=out, k=k, tries=tries, accept=accept, overwrite=overwrite)
    say(
        f"{found.reads:,} reads in {found.seconds:.1f} s ({found.reads / max(found.seconds, 1e-9):,.0f} reads/s): "
        f"{found.placed:,} placed ({found.placed / found.reads:.1%}), {found.tied:,} of them at several places equally "
        f"well. Written: {out}"
    )
