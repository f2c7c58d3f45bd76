"""DNA in files: FASTA (contigs of a reference) and FASTQ (reads with their qualities), each also with .gz.

A contig is cut into rows of some thousand bases, so that stretches of different rows never overlap; a read is a row.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from counterpoint.data.files import formats, textfile
from counterpoint.data.files.store import File
from counterpoint.errors import DataError

STRETCH = 2_048
"""Bases of a row that is cut from a contig, at most."""
GAP = re.compile("N{10,}")
"""Unknown bases at which a contig is cut: what a run of them joins need not be neighbours."""
SHORTEST = 200
"""Bases: a shorter piece between two gaps says nothing. A contig that is short as a whole is a row all the same."""

_CLEAN = np.zeros(256, dtype=np.uint8)  # 0: no letter of DNA
for _letter, _base in zip("ACGTUNRYSWKMBDHV", "ACGTTNNNNNNNNNNN"):
    _CLEAN[[ord(_letter), ord(_letter.lower())]] = ord(_base)
_OTHER_STRAND = str.maketrans("ACGTNacgtn", "TGCANtgcan")
_ROWS = 1_000  # of a table


@dataclass(frozen=True, slots=True)
class Contig:
    """A sequence of a reference: its name (the header up to the first space) and its bases A, C, G, T, N."""

    name: str
    bases: str


@dataclass(frozen=True, slots=True)
class Read:
    """A read: its name, its bases, and the qualities as FASTQ writes them ('' where there are none)."""

    name: str
    bases: str
    qualities: str = ""


def clean(sequence: str, *, where: str = "A sequence") -> str:
    """Upper case, U as T, the letters for several possible bases as N. `DataError` for anything else, naming it."""
    found = _CLEAN[np.frombuffer(sequence.encode("utf-8"), dtype=np.uint8)]
    if not found.all():
        wrong = next(c for c in sequence if ord(c) > 255 or not _CLEAN[ord(c)])
        raise DataError(
            f"{where} holds {wrong!r}, which is no letter of DNA: expected A, C, G, T, N (or U, or the letters for "
            "several bases). Proteins and other alphabets are not read."
        )
    return found.tobytes().decode("ascii")


def reverse_complement(sequence: str) -> str:
    """The same stretch as the other strand spells it.

    >>> reverse_complement("AACGT")
    'ACGTT'
    """
    return sequence.translate(_OTHER_STRAND)[::-1]


def is_dna(texts: Iterable[str | None]) -> bool:
    """Whether texts can only be DNA: nothing but its letters, nine in ten of them A, C, G, T, N; 20 long or more."""
    some = [t for t in texts if t]
    if not some or sum(map(len, some)) < 20 * len(some):
        return False
    plain = 0
    for text in some:
        letters = text.upper()
        plain += sum(map(letters.count, "ACGTN"))
        if not letters.isascii() or not _CLEAN[np.frombuffer(letters.encode(), dtype=np.uint8)].all():
            return False
    return plain >= 0.9 * sum(map(len, some))


# --- records of files ------------------------------------------------------------------------------------------


def contigs(path: File | str) -> Iterator[Contig]:
    """The sequences of a FASTA file. `DataError` for one that is empty, has a name twice, or holds something else."""
    path = Path(path) if isinstance(path, str) else path
    seen: set[str] = set()
    with textfile.open_text(path) as stream:
        for name, sequence in _fasta(stream, path):
            if name in seen:
                raise DataError(f"{path} names the contig {name!r} twice; positions would be ambiguous. Rename one.")
            seen.add(name)
            if sequence:
                yield Contig(name, clean(sequence, where=f"{path}: contig {name!r}"))
    if not seen:
        raise formats.NoRowsError(f"{path} holds no sequence: expected lines '>name' with bases below them.")


def reference(path: File | str) -> list[Contig]:
    """All contigs of a FASTA file, of which at least one has a known base. Raises `DataError` as `contigs`."""
    path = Path(path) if isinstance(path, str) else path
    if (found := formats.kind(path)) != "fasta":
        raise DataError(f"{path} is no FASTA file ({found or 'unknown'} by its name). Give one of: .fa, .fasta, .fna.")
    formats.check_magic(path, "fasta")
    held = list(contigs(path))
    if not any(c.bases.strip("N") for c in held):
        raise DataError(f"{path} holds no known base: its {len(held):,} contigs are empty or N throughout.")
    return held


def reads(path: File | str) -> Iterator[Read]:
    """The reads of a FASTQ file, or the sequences of a FASTA file as reads. A name may come twice (pairs)."""
    path = Path(path) if isinstance(path, str) else path
    found = formats.kind(path)
    if found not in ("fasta", "fastq"):
        raise DataError(f"{path} holds no reads by its name. Give .fq, .fastq, .fa, .fasta or .fna (each also .gz).")
    formats.check_magic(path, found)
    with textfile.open_text(path) as stream:
        if found == "fasta":
            for name, bases in _fasta(stream, path):
                yield Read(name, clean(bases, where=f"{path}: read {name!r}"))
        else:
            yield from _fastq(stream, path)


def _fasta(stream: IO[bytes], path: File) -> Iterator[tuple[str, str]]:
    name: str | None = None
    parts: list[str] = []
    for number, raw in enumerate(stream, 1):
        line = raw.decode("ascii", "replace").strip()
        if line.startswith(">"):
            if name is not None:
                yield name, "".join(parts)
            name, parts = (line[1:].split() or [f"sequence_{number}"])[0], []
        elif line and not line.startswith(";"):
            if name is None:
                raise DataError(f"{path}, line {number}: expected a header '>name' before {line[:30]!r}. Is it FASTA?")
            parts.append(line.replace("*", "").replace("-", ""))
    if name is not None:
        yield name, "".join(parts)


def _fastq(stream: IO[bytes], path: File) -> Iterator[Read]:
    lines = (raw.decode("ascii", "replace").rstrip("\r\n") for raw in stream)
    for number, head in enumerate(lines):
        if not head:
            continue
        bases, plus, qualities = (next(lines, None) for _ in range(3))
        at = f"{path}, read {number + 1:,} ({head[:40]!r})"
        if not head.startswith("@") or bases is None or plus is None or not plus.startswith("+") or qualities is None:
            raise DataError(f"{at}: expected four lines, '@name', bases, '+', qualities. The file is cut or no FASTQ.")
        if len(qualities) != len(bases):
            raise DataError(f"{at} has {len(bases)} bases and {len(qualities)} qualities; expected one for each.")
        yield Read((head[1:].split() or [f"read_{number + 1}"])[0], clean(bases, where=at), qualities)


# --- rows ------------------------------------------------------------------------------------------------------


def stretches(contig: Contig, *, longest: int = STRETCH) -> list[tuple[int, str]]:
    """(start, bases) of the rows that a contig is cut into: at gaps, and then evenly, none longer than ``longest``."""
    out: list[tuple[int, str]] = []
    at = 0
    for gap in [*GAP.finditer(contig.bases), None]:
        end = len(contig.bases) if gap is None else gap.start()
        size = end - at
        if size >= SHORTEST or (size and size == len(contig.bases)):
            edges = np.linspace(at, end, -(-size // longest) + 1).astype(int).tolist()
            out += [(a, contig.bases[a:b]) for a, b in pairwise(edges)]
        at = end if gap is None else gap.end()
    return [(start, bases) for start, bases in out if bases.strip("N")]


def fasta_tables(path: File) -> Iterator[pa.Table]:
    """A FASTA file as rows ``contig``, ``start`` (from 0), ``dna``; contigs without a known base are left out, said."""
    rows: list[tuple[str, int, str]] = []
    without = []
    for contig in contigs(path):
        found = stretches(contig)
        if not found:
            without.append(contig.name)
        for start, bases in found:
            rows.append((contig.name, start, bases))
            if len(rows) == _ROWS:
                yield _table(("contig", "start", "dna"), rows)
                rows = []
    if rows:
        yield _table(("contig", "start", "dna"), rows)
    if without:
        warnings.warn(f"{path}: without a known base, and left out: {', '.join(without[:5])}.", stacklevel=2)


def fastq_tables(path: File) -> Iterator[pa.Table]:
    """A FASTQ file as rows ``name``, ``dna``."""
    rows: list[tuple[str, str]] = []
    for read in reads(path):
        rows.append((read.name, read.bases))
        if len(rows) == 10 * _ROWS:
            yield _table(("name", "dna"), rows)
            rows = []
    if rows:
        yield _table(("name", "dna"), rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> pa.Table:
    return pa.table({name: pa.array(column) for name, column in zip(names, zip(*rows))})
