"""SAM, the text format of alignments that other tools read (version 1.6 of its specification)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from counterpoint._version import __version__
from counterpoint.modalities.dna import Read, reverse_complement
from counterpoint.search.align import Place, Placed

_UNMAPPED, _REVERSE = 0x4, 0x10


def write_header(file: IO[str], contigs: Mapping[str, int], *, command: str = "") -> None:
    """contigs: names and lengths in bases.

    file: open for writing. command: what was typed, for the header ('': left out).

    >>> import io
    >>> file = io.StringIO()
    >>> write_header(file, {"chr": 1000})
    >>> "SN:chr" in file.getvalue()
    True
    """
    file.write("@HD\tVN:1.6\tSO:unsorted\tGO:query\n")
    for name, size in contigs.items():
        file.write(f"@SQ\tSN:{name}\tLN:{size}\n")
    said = f"\tCL:{command}" if command else ""
    file.write(f"@PG\tID:counterpoint\tPN:counterpoint\tVN:{__version__}{said}\n")


def write_records(file: IO[str], reads: Sequence[Read], placed: Iterable[Placed]) -> None:
    """A line for each read. Tags: AS score, NM edits, XA the other places of a tie (contig,±position,CIGAR,edits;).

    file: open for writing. reads: N. placed: where each lies, in their order.
    """
    for read, found in zip(reads, placed, strict=True):
        file.write("\t".join(record(read, found)) + "\n")


def record(read: Read, found: Placed) -> list[str]:
    """The fields of one read; positions are counted from 1, a read of the reverse strand is written turned.

    read: name, bases and qualities. found: where it lies.
    """
    name = read.name or "*"
    if not found.places:
        return [name, str(_UNMAPPED), "*", "0", "0", "*", "*", "0", "0", read.bases or "*", read.qualities or "*"]
    place, *others = found.places
    turned = place.strand == "-"
    bases = reverse_complement(read.bases) if turned else read.bases
    qualities = read.qualities[::-1] if turned else read.qualities
    fields = [name, str(_REVERSE if turned else 0), place.contig, str(place.start + 1), str(found.quality)]
    fields += [place.cigar, "*", "0", "0", bases, qualities or "*"]
    fields += [f"AS:i:{round(place.score)}", f"NM:i:{place.edits}"]
    if others:
        fields.append("XA:Z:" + "".join(_other(p) for p in others))
    return fields


def _other(place: Place) -> str:
    return f"{place.contig},{place.strand}{place.start + 1},{place.cigar},{place.edits};"
