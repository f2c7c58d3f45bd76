"""`align`: reads to places on a reference that was indexed, as SAM."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.files import whole_file
from counterpoint.modalities.dna import DNA
from counterpoint.search.align import Aligner, Reference
from counterpoint.search.sam import write_header, write_records
from counterpoint.search.sequences import reads as read_all
from counterpoint.workflow.models import load

T = TypeVar("T")

READS = 8_192
"""Reads in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Numbers of reads: of all, of those placed, of these at several places equally well; the seconds that it took."""

    reads: int
    placed: int
    tied: int
    seconds: float


def align(
    folder: Path | str,
    reads: Path | str,
    *,
    out: Path | str,
    k: int = 200,
    tries: int = 4,
    accept: float = 0.3,
    overwrite: bool = False,
) -> Aligned:
    """Place reads of DNA on an indexed reference and write SAM; the function behind ``counterpoint align``.

    folder: an index folder of a reference, or a run folder that holds one. reads: a FASTQ or FASTA file, also .gz.
    out: the SAM file. k: units of the reference that the search proposes for each read. tries: of these, how many are
    aligned at most. accept: least share of a perfect score; a read below it is written as unmapped. overwrite: replace
    a file that is there.

    Raises `ConfigError` for a file that is there, `DataError` for reads that cannot be read, `ModelError` for an index
    of something else.

        counterpoint.align("runs/genome", "reads.fq.gz", out="reads.sam").placed
    """
    folder, reads, out = Path(folder), Path(reads), Path(out)
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
    return Aligned(reads=total, placed=placed, tied=tied, seconds=seconds)


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
