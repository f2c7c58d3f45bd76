"""`counterpoint align`: reads to places on a reference, as SAM."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

from tyro.conf import Positional, arg

T = TypeVar("T")

READS = 8_192  # in memory at once


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


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
    from counterpoint.errors import ConfigError, DataError, ModelError
    from counterpoint.files import whole_file
    from counterpoint.modalities.dna import DNA
    from counterpoint.search.align import Aligner, Reference
    from counterpoint.search.sam import write_header, write_records
    from counterpoint.search.sequences import reads as read_all
    from counterpoint.workflow.models import load

    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists. Name another file, or add --overwrite.")
    reference = Reference.open(folder / "index" if (folder / "index").is_dir() else folder)
    if reference.index.model is None:
        raise ModelError(f"The index {folder} does not say which model built it. Build it with `counterpoint index`.")
    aligner = Aligner(reference, load(reference.index.model, DNA), k=k, tries=tries, accept=accept)
    total = placed = tied = 0
    seconds = 0.0
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as aside, aside.open("w", encoding="ascii") as file:
        write_header(file, reference.contigs, command=f"counterpoint align {folder} {reads} --out {out}")
        for some in blocks(read_all(reads), READS):
            start = time.perf_counter()
            found = aligner.align([r.bases for r in some])
            seconds += time.perf_counter() - start
            write_records(file, some, found)
            total += len(some)
            placed += sum(bool(f.places) for f in found)
            tied += sum(len(f.places) > 1 for f in found)
        if not total:
            raise DataError(f"{reads} holds no reads.")
    print(
        f"{total:,} reads in {seconds:.1f} s ({total / max(seconds, 1e-9):,.0f} reads/s): {placed:,} placed "
        f"({placed / total:.1%}), {tied:,} of them at several places equally well. Written: {out}"
    )
