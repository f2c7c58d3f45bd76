"""DNA: its letters, and files of it: FASTA (contigs of a reference) and FASTQ (reads with their qualities).

A contig is cut into rows of some thousand bases, so that stretches of different rows never overlap; a read is a row.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from counterpoint.errors import DataError, NoRowsError
from counterpoint.modalities.base import Column, Format, Modality, is_text

if TYPE_CHECKING:
    import pyarrow as pa

DNA = "dna"

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
FEW, SOME = 20, 5_000
"""Cells by which DNA is told from text, and those that are looked at where a column is said to be DNA."""


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
    """Upper case, U as T, the letters for several possible bases as N. `DataError` for anything else, naming it.

    sequence: letters. where: how the message names it.
    """
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

    sequence: of ACGTN.

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


def contigs(stream: IO[bytes], name: str) -> Iterator[Contig]:
    """The sequences of FASTA text, of a file of this name.

    Raises `DataError` for one that has a name twice, or holds something else, `NoRowsError` for a file without any.

    stream: of the text.
    """
    seen: set[str] = set()
    for contig, sequence in _fasta(stream, name):
        if contig in seen:
            raise DataError(f"{name} names the contig {contig!r} twice; positions would be ambiguous. Rename one.")
        seen.add(contig)
        if sequence:
            yield Contig(contig, clean(sequence, where=f"{name}: contig {contig!r}"))
    if not seen:
        raise NoRowsError(f"{name} holds no sequence: expected lines '>name' with bases below them.")


def fasta_reads(stream: IO[bytes], name: str) -> Iterator[Read]:
    """The sequences of FASTA text as reads. A name may come twice (pairs).

    stream: of the text. name: of the file, for messages.
    """
    for read, bases in _fasta(stream, name):
        yield Read(read, clean(bases, where=f"{name}: read {read!r}"))


def _fasta(stream: IO[bytes], path: str) -> Iterator[tuple[str, str]]:
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


def fastq_reads(stream: IO[bytes], name: str) -> Iterator[Read]:
    """The reads of FASTQ text, of a file of this name. `DataError` for what is none.

    stream: of the text.
    """
    lines = (raw.decode("ascii", "replace").rstrip("\r\n") for raw in stream)
    for number, head in enumerate(lines):
        if not head:
            continue
        bases, plus, qualities = (next(lines, None) for _ in range(3))
        at = f"{name}, read {number + 1:,} ({head[:40]!r})"
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


def fasta_tables(stream: IO[bytes], name: str) -> Iterator[pa.Table]:
    """A FASTA file as rows ``contig``, ``start`` (from 0), ``dna``; contigs without a known base are left out, said.

    stream: of the text. name: of the file, for messages.
    """
    rows: list[tuple[str, int, str]] = []
    without = []
    for contig in contigs(stream, name):
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
        warnings.warn(f"{name}: without a known base, and left out: {', '.join(without[:5])}.", stacklevel=2)


def fastq_tables(stream: IO[bytes], name: str) -> Iterator[pa.Table]:
    """A FASTQ file as rows ``name``, ``dna``.

    stream: of the text. name: of the file, for messages.
    """
    rows: list[tuple[str, str]] = []
    for read in fastq_reads(stream, name):
        rows.append((read.name, read.bases))
        if len(rows) == 10 * _ROWS:
            yield _table(("name", "dna"), rows)
            rows = []
    if rows:
        yield _table(("name", "dna"), rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array(column) for name, column in zip(names, zip(*rows))})


# --- what is known of it ---------------------------------------------------------------------------------------


def item(cell: Any, beside: Mapping[str, Any]) -> str:
    """The bases in a cell. Raises `DataError` for anything else, and for none.

    cell: of the column. beside: not needed.
    """
    if not cell:
        raise DataError("holds no bases")
    return clean(cell, where="")


def looks(column: Column) -> bool:
    """Whether the first cells of a column of texts are DNA."""
    return is_text(column.type) and is_dna(column.cells.slice(0, FEW).to_pylist())


def lacks(column: Column) -> str:
    """What the first cells hold that is no DNA.

    column: of texts. '' where it lacks nothing.
    """
    try:
        for row, value in enumerate(islice((cell.as_py() for cell in column.cells), SOME)):
            clean(value or "", where=f"Column {column.name!r}, row {row},")
    except DataError as error:
        return str(error)
    return ""


def example(rng: np.random.Generator) -> str:
    """20 to 399 bases; every draw comes from rng."""
    return "".join(rng.choice(list("ACGT"), int(rng.integers(20, 400))))


modality = Modality(
    name=DNA,
    one="a sequence of DNA",
    many="sequences of DNA",
    none="no bases",
    item=item,
    fits=is_text,
    looks=looks,
    over=frozenset({"text"}),
    lacks=lacks,
    written=True,
    with_text="aside",
    formats=(
        Format(name="FASTA", suffixes=frozenset({".fa", ".fasta", ".fna"}), read=fasta_tables),
        Format(name="FASTQ", suffixes=frozenset({".fq", ".fastq"}), read=fastq_tables),
    ),
    then=("counterpoint index {run} REF.fa && counterpoint align {run} READS.fq --out reads.sam",),
    example=example,
)


# --- k-mers, the words of k neighbouring bases ----------------------------------------------------------------

_VALUE = np.full(256, -1, dtype=np.int64)
_VALUE[np.frombuffer(b"ACGT", dtype=np.uint8)] = range(4)


def codes(sequence: str, k: int) -> np.ndarray:
    """Each k-mer as a number below 4^k, A = 0 to T = 3, first base first: ``(L - k + 1,)`` int64; -1 where N is in it.

    sequence: L bases.

    >>> codes("ACGTN", 2).tolist()
    [1, 6, 11, -1]
    """
    values = _VALUE[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
    n = len(values) - k + 1
    if n < 1:
        return np.empty(0, dtype=np.int64)
    out, known = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    for i in range(k):
        part = values[i : i + n]
        out = out * 4 + part
        known &= part >= 0
    return np.where(known, out, -1)


@lru_cache
def strandless(k: int) -> tuple[np.ndarray, int]:
    """For each k-mer the number of the word that it and its reverse complement share, ``(4^k,)``; and how many there
    are (for k = 6: 2,080)."""
    forward = np.arange(4**k)
    backward, rest = np.zeros_like(forward), forward.copy()
    for _ in range(k):
        backward = backward * 4 + 3 - rest % 4
        rest //= 4
    words, number = np.unique(np.minimum(forward, backward), return_inverse=True)
    return number, len(words)


def words(sequence: str, k: int, *, both_strands: bool) -> np.ndarray:
    """The k-mers of a sequence without those that hold N, ``(M,)`` int64; of both strands: numbered by `strandless`.

    sequence: of ACGTN. k: bases of a word. both_strands: of which strands.
    """
    found = codes(sequence, k)
    found = found[found >= 0]
    return strandless(k)[0][found] if both_strands else found


def counts(sequences: Sequence[str], k: int) -> np.ndarray:
    """How often each word of `strandless` stands in each sequence, ``(N, V)`` float32: the counts nothing learns.

    sequences: N of them. k: bases of a word.
    """
    size = strandless(k)[1]
    out = np.zeros((len(sequences), size), dtype=np.float32)
    for row, sequence in zip(out, sequences):
        row += np.bincount(words(clean(sequence), k, both_strands=True), minlength=size)
    return out
