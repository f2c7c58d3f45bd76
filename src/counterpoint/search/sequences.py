"""The contigs of a reference and the reads of a sequencer, from files: what an alignment begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from counterpoint.data.files import formats, textfile
from counterpoint.data.files.store import File
from counterpoint.errors import DataError
from counterpoint.modalities.dna import Contig, Read, contigs, fasta_reads, fastq_reads

FASTA, FASTQ = "FASTA", "FASTQ"


def reference(path: File | str) -> list[Contig]:
    """All contigs of a FASTA file, of which at least one has a known base. `DataError` for any other file, and as
    `counterpoint.modalities.dna.contigs`.

    path: of the file, which may be compressed.
    """
    path = Path(path) if isinstance(path, str) else path
    if (found := formats.kind(path)) != FASTA:
        raise DataError(f"{path} is no FASTA file ({found or 'unknown'} by its name). Give one of: .fa, .fasta, .fna.")
    formats.check_magic(path, FASTA)
    with textfile.open_text(path) as stream:
        held = list(contigs(stream, str(path)))
    if not any(c.bases.strip("N") for c in held):
        raise DataError(f"{path} holds no known base: its {len(held):,} contigs are empty or N throughout.")
    return held


def reads(path: File | str) -> Iterator[Read]:
    """The reads of a FASTQ file, or the sequences of a FASTA file as reads. A name may come twice (pairs).

    path: of the file, which may be compressed.
    """
    path = Path(path) if isinstance(path, str) else path
    readers = {FASTA: fasta_reads, FASTQ: fastq_reads}
    if (found := formats.kind(path)) not in readers:
        raise DataError(f"{path} holds no reads by its name. Give .fq, .fastq, .fa, .fasta or .fna (each also .gz).")
    formats.check_magic(path, found)
    with textfile.open_text(path) as stream:
        yield from readers[found](stream, str(path))
