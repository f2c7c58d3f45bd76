"""Placing reads on a reference: nearest units by embedding, then local alignment (Holur et al. 2023, arXiv 2309.11087).

A reference is cut into units that overlap by at least the length of a read, so that each read lies wholly in one. The
units nearest to a read (and to its reverse complement) are screened by the short words they share with it, and the best
of them are aligned exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import torch

from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.modalities.dna import DNA, Contig, codes, reverse_complement
from counterpoint.search.index import Index
from counterpoint.search.local import Alignment, Scoring, local_alignments, local_scores

WORD = 9
"""Bases of the words that a read and a unit share: few enough for a table of all words to stay in a core's cache, and
enough for a unit to hold hardly any word of a read by chance."""
EVERY = 4
"""Of a unit's words, one in so many is looked up."""
FEW = 0.25
"""Share of the best unit's shared words below which a unit is not aligned."""
SHORTEST = 50
"""Bases of a read, below which its place is uncertain: told once."""
BLOCK = 1_024  # reads at once
Strand: TypeAlias = Literal["+", "-"]
STRANDS: tuple[Strand, Strand] = ("+", "-")
_PLACES = 20  # tied places that are kept


@dataclass(frozen=True, slots=True)
class Place:
    """Where a read lies: contig, first aligned base of it (from 0), strand, score, and how it lies there (of the strand
    ``-``, for the read's reverse complement). origin: where the read's first base would lie were its ends aligned too.

    start: the base. cigar: as SAM has it. edits: mismatches, insertions and deletions.
    """

    contig: str
    start: int
    strand: Strand
    score: float
    cigar: str
    origin: int
    edits: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A read's places, all with the best score: none where no unit was good enough, several where it cannot be told.

    quality: 0 for several; else by how many matching bases the place beats the next best one that was aligned, at
    most 60.
    """

    places: tuple[Place, ...] = ()
    quality: int = 0


class Reference:
    """Units of a reference with their embeddings, in the folder of an `Index`. Make one with `build`, come back to it
    with `open`. Opened, it takes 5 bytes of memory for each base.

    index: with what `build` wrote.

    >>> from counterpoint.encoders.dna import DnaTransformer
    >>> from counterpoint.modalities.dna import Contig
    >>> bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
    >>> reference = Reference.build("reference", [Contig("chr", bases)], DnaTransformer.example(), unit=100, overlap=50)
    >>> reference.text(0) == bases[:100]
    True
    """

    def __init__(self, index: Index) -> None:
        rows = index.rows
        if not {"contig", "start", "size", DNA} <= set(rows.column_names):
            raise ModelError(f"The index {index.folder} holds no reference. Build one: counterpoint index RUN ref.fa")
        self.index = index
        self.names = rows["contig"].to_pylist()
        self.starts = rows["start"].to_numpy()
        self.contigs: dict[str, int] = dict(zip(self.names, rows["size"].to_pylist()))
        units = rows[DNA].to_pylist()
        self.unit = max(map(len, units))
        steps = [b - a for a, b, m, n in zip(self.starts, self.starts[1:], self.names, self.names[1:]) if m == n]
        self.overlap = self.unit - min(steps, default=0)  # units in a gap are missing: others are further apart
        # All contigs in a row, so far apart that a unit never reaches into the next.
        offset, at = {}, 0
        for name, size in self.contigs.items():
            offset[name], at = at, at + size + self.unit
        whole = np.full(at, ord("N"), dtype=np.uint8)
        self.offsets = np.array([offset[n] + s for n, s in zip(self.names, self.starts)], dtype=np.int64)
        for place, unit in zip(self.offsets, units):
            whole[place : place + len(unit)] = np.frombuffer(unit.encode("ascii"), dtype=np.uint8)
        self.bases = whole.tobytes().decode("ascii")
        self.words = codes(self.bases, WORD).astype(np.int32)

    def __len__(self) -> int:
        return len(self.offsets)

    def text(self, unit: int) -> str:
        """The bases of a unit, by its number."""
        at = int(self.offsets[unit])
        return self.bases[at : at + self.unit]

    @classmethod
    def build(
        cls,
        folder: Path | str,
        contigs: Sequence[Contig],
        encoder: Encoder,
        *,
        unit: int = 500,
        overlap: int = 250,
        dtype: Literal["float32", "float16", "int8"] = "float16",
        ann: bool | Literal["auto"] = "auto",
        model: Path | str | None = None,
        overwrite: bool = False,
    ) -> Reference:
        """Cut contigs into units, embed these, write the folder, open it.

        unit, overlap: bases; the longest read that can be placed has ``overlap``. Units without a known base are left
        out. dtype, ann, model, overwrite: as of `Index.build`. Raises `DataError` where no unit is left or contigs
        share a name, `ConfigError` for units that are not longer than their overlap. folder: of the index. contigs:
        names and bases. encoder: of sequences.
        """
        if not 0 < overlap < unit:
            raise ConfigError(f"unit={unit}, overlap={overlap}: units must be longer than what two of them share.")
        if len({c.name for c in contigs}) < len(contigs):
            raise DataError("Two contigs of the reference have the same name; positions would be ambiguous.")
        rows = [(c.name, start, len(c.bases), text) for c in contigs for start, text in cut(c.bases, unit, overlap)]
        if not rows:
            raise DataError("The reference holds no known base: its contigs are empty or N throughout.")
        names, starts, sizes, texts = map(list, zip(*rows))
        table = pa.table({"contig": names, "start": starts, "size": sizes, DNA: texts})
        vectors = encoder.encode(texts, role="document", normalize=True)
        index = Index.build(
            folder, table, embeddings=vectors, text=None, bm25=False, dtype=dtype, ann=ann, model=model,
            overwrite=overwrite,
        )  # fmt: skip
        return cls(index)

    @classmethod
    def open(cls, folder: Path | str) -> Reference:
        """The reference in a folder that `build` wrote."""
        return cls(Index.open(folder))

    def bytes(self) -> int:
        """Of the folder on disk."""
        return sum(f.stat().st_size for f in self.index.folder.rglob("*") if f.is_file())


def cut(bases: str, unit: int, overlap: int) -> Iterator[tuple[int, str]]:
    """(start, text) of the units of a contig that hold a known base.

    bases: of the contig. unit, overlap: in bases.

    >>> list(cut("ACGTACGT", 4, 2))
    [(0, 'ACGT'), (2, 'GTAC'), (4, 'ACGT')]
    """
    for start in range(0, max(1, len(bases) - overlap), unit - overlap):
        text = bases[start : start + unit]
        if text.strip("N"):
            yield start, text


@dataclass(frozen=True, slots=True)
class _Try:
    """A read on one strand, to be aligned with one unit. shift: the diagonal on which most shared words lie."""

    read: int
    unit: int
    strand: Strand
    bases: str
    shift: int


class Aligner:
    """Places reads on a reference.

    k: units that the search proposes, of each strand's embedding. tries: of these, those that are aligned at most, by
    the words they share with the read (None: all are). accept: least share of a perfect score. threads: alignments
    computed at once (None: as many as torch has). reference: where reads lie. encoder: the one the reference was built
    with. scoring: of the alignments (None: the usual).

    >>> from counterpoint.encoders.dna import DnaTransformer
    >>> from counterpoint.modalities.dna import Contig
    >>> bases, encoder = "".join(np.random.default_rng(0).choice(list("ACGT"), 400)), DnaTransformer.example()
    >>> reference = Reference.build("reference", [Contig("chr", bases)], encoder, unit=120, overlap=60)
    >>> [found] = Aligner(reference, encoder, tries=None).align([bases[100:160]])
    >>> [(place.contig, place.start, place.strand) for place in found.places]
    [('chr', 100, '+')]
    """

    def __init__(
        self,
        reference: Reference,
        encoder: Encoder,
        *,
        k: int = 200,
        tries: int | None = 4,
        scoring: Scoring | None = None,
        accept: float = 0.3,
        threads: int | None = None,
    ) -> None:
        if k < 1 or (tries is not None and tries < 1) or not 0 < accept <= 1:
            raise ConfigError(f"k={k}, tries={tries}, accept={accept}: expected k and tries from 1, accept up to 1.")
        self.reference, self.encoder, self.k, self.tries, self.accept = reference, encoder, k, tries, accept
        self.scoring = scoring or Scoring()
        self.threads = threads or torch.get_num_threads()
        _check(reference, encoder)

    def align(self, reads: Sequence[str]) -> list[Placed]:
        """The places of each read (A, C, G, T, N), in their order. Raises `DataError` for one longer than the overlap
        of the units; warns of reads below 50 bases."""
        longest = max(map(len, reads), default=0)
        if longest > self.reference.overlap:
            at = next(i for i, r in enumerate(reads) if len(r) == longest)
            raise DataError(
                f"Read {at + 1} has {longest:,} bases, but the units of this reference overlap by "
                f"{self.reference.overlap:,}: it could lie across two of them. Build the index again with an overlap "
                f"of at least {longest:,}, for instance: counterpoint index RUN ref.fa --unit {3 * longest} "
                f"--overlap {longest}"
            )
        if short := sum(len(r) < SHORTEST for r in reads):
            warnings.warn(
                f"{short:,} of {len(reads):,} reads are shorter than {SHORTEST} bases, too few to be placed reliably.",
                stacklevel=2,
            )
        out: list[Placed] = []
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(reads), BLOCK):
                out += self._block(list(reads[start : start + BLOCK]), pool)
        return out

    def candidates(self, reads: Sequence[str]) -> dict[Strand, np.ndarray]:
        """The units ``(R, K)`` that the search proposes for each read, by strand."""
        n, turned = len(reads), [reverse_complement(r) for r in reads]
        same = getattr(self.encoder, "strandless", False)
        vectors = self.encoder.encode(list(reads) if same else [*reads, *turned], role="query", normalize=True)
        _, ids = self.reference.index.nearest(vectors, self.k)
        return {"+": ids[:n], "-": ids[:n] if same else ids[n:]}

    def _block(self, reads: list[str], pool: ThreadPoolExecutor) -> list[Placed]:
        turned: dict[Strand, list[str]] = {"+": reads, "-": [reverse_complement(r) for r in reads]}
        found = self.candidates(reads)
        parts = np.array_split(np.arange(len(reads)), self.threads)
        tried = [t for some in pool.map(lambda part: self._screen(part, turned, found), parts) for t in some]
        # Like lengths together: what is shorter than the longest read of a batch is filled up.
        tried.sort(key=lambda t: (-len(t.bases), t.read))
        scores = np.zeros(len(tried))
        slices = [slice(at, at + 128) for at in range(0, len(tried), 128)]
        for at, some in zip(slices, pool.map(self._scores, [tried[at] for at in slices])):
            scores[at] = some
        mine: list[list[int]] = [[] for _ in reads]
        for number, t in enumerate(tried):
            mine[t.read].append(number)
        best = np.array([scores[m].max(initial=0) for m in mine])
        least = self.accept * np.array([self.scoring.perfect(len(r)) for r in reads])
        chosen = [n for i, m in enumerate(mine) if best[i] >= max(least[i], 0.1) for n in m if scores[n] == best[i]]
        ways = dict(zip(chosen, self._ways([tried[n] for n in chosen], scores[chosen], pool)))
        return [self._placed(m, tried, scores, ways) for m in mine]

    def _screen(
        self, part: np.ndarray, turned: Mapping[Strand, Sequence[str]], found: Mapping[Strand, np.ndarray]
    ) -> list[_Try]:
        """The units that share most words with a read; where two hold the same stretch of it, one of them."""
        within = np.arange(0, self.reference.unit - WORD + 1, EVERY)
        place = np.full(4**WORD + 1, -1, dtype=np.int16)  # of each word in the read; the last entry is that of code -1
        out: list[_Try] = []
        for i in part:
            options: dict[tuple[int, Strand], tuple[int, _Try]] = {}
            for strand in STRANDS:
                bases, units = turned[strand][i], found[strand][i]
                units = units[units >= 0]
                offsets = self.reference.offsets[units]
                words = codes(bases, WORD)
                place[words] = np.arange(len(words))
                place[-1] = -1
                at = place[self.reference.words[offsets[:, None] + within]]
                place[words] = -1
                shared = (at >= 0).sum(1)
                for c in np.argsort(-shared, kind="stable")[: self.tries and 2 * self.tries]:
                    if not shared[c] and self.tries is not None:
                        break
                    j = np.flatnonzero(at[c] >= 0)
                    shift = int(np.bincount(EVERY * j - at[c, j] + len(bases)).argmax()) - len(bases) if len(j) else 0
                    key = (int(offsets[c]) + (0 if self.tries is None else shift), strand)
                    if key not in options or options[key][0] < shared[c]:
                        options[key] = int(shared[c]), _Try(int(i), int(units[c]), strand, bases, shift)
            ranked = sorted(options.values(), key=lambda o: -o[0])
            if self.tries is not None:
                ranked = [o for o in ranked[: self.tries] if o[0] >= FEW * ranked[0][0]]
            out += [t for _, t in ranked]
        return out

    def _scores(self, tried: Sequence[_Try]) -> np.ndarray:
        texts = [self.reference.text(t.unit) for t in tried]
        return local_scores([t.bases for t in tried], texts, scoring=self.scoring)

    def _ways(self, tried: Sequence[_Try], scores: np.ndarray, pool: ThreadPoolExecutor) -> list[Alignment]:
        """How the reads lie in their units: without gaps where that gives the same score, which is soon found."""
        out = [self._straight(t) for t in tried]
        gapped = [n for n, a in enumerate(out) if a.score < scores[n] - 0.05]
        slices = [gapped[at : at + 64] for at in range(0, len(gapped), 64)]

        def traced(some: list[int]) -> list[Alignment]:
            texts = [self.reference.text(tried[n].unit) for n in some]
            return local_alignments([tried[n].bases for n in some], texts, scoring=self.scoring)

        for some, found in zip(slices, pool.map(traced, slices)):
            for n, a in zip(some, found):
                out[n] = a
        return out

    def _straight(self, t: _Try) -> Alignment:
        """The best local alignment on the diagonal ``shift`` (Kadane's maximal sum)."""
        text, s = self.reference.text(t.unit), self.scoring
        first, last = max(0, -t.shift), min(len(t.bases), len(text) - t.shift)
        q, u = (
            np.frombuffer(x.encode(), dtype=np.uint8)
            for x in (t.bases[first:last], text[first + t.shift : last + t.shift])
        )
        gains = np.where((q == u) & (q != ord("N")), s.match, s.mismatch)
        total = np.concatenate(([0.0], np.cumsum(gains)))
        gain = total - np.minimum.accumulate(total)
        end = int(gain.argmax())
        start = int(total[: end + 1].argmin())
        a, b = first + start, first + end
        return Alignment(float(gain[end]), a, b, a + t.shift, b + t.shift, ((b - a, "M"),) if b > a else ())

    def _placed(self, mine: list[int], tried: Sequence[_Try], scores: np.ndarray, ways: dict[int, Alignment]) -> Placed:
        best = [n for n in mine if n in ways]
        if not best:
            return Placed()
        places: dict[tuple[str, int, str], Place] = {}
        for n in best:
            place = self._place(tried[n], ways[n])
            places.setdefault((place.contig, place.start, place.strand), place)
        if len(places) > 1:
            return Placed(tuple(places.values())[:_PLACES], 0)
        (place,) = places.values()
        # Neighbouring units hold the same stretch: only what was aligned elsewhere is another place.
        others = [scores[n] for n in mine if n not in ways and not self._near(tried[n], place)]
        ahead = (place.score - max(others, default=0.0)) / self.scoring.match
        return Placed((place,), int(min(60, max(1, ahead))))

    def _near(self, t: _Try, place: Place) -> bool:
        apart = abs(int(self.reference.starts[t.unit]) - place.start)
        return (
            t.strand == place.strand and self.reference.names[t.unit] == place.contig and apart <= self.reference.unit
        )

    def _place(self, t: _Try, a: Alignment) -> Place:
        start = int(self.reference.starts[t.unit]) + a.target_start
        edits = sum(n for n, what in a.operations if what != "M")
        text, i, j = self.reference.text(t.unit), a.query_start, a.target_start
        for n, what in a.operations:
            if what == "M":
                edits += sum(x != y for x, y in zip(t.bases[i : i + n], text[j : j + n]))
            i, j = i + n * (what != "D"), j + n * (what != "I")
        name = self.reference.names[t.unit]
        return Place(name, start, t.strand, a.score, a.cigar(len(t.bases)), start - a.query_start, edits)


def _check(reference: Reference, encoder: Encoder) -> None:
    """Is it the encoder that built the reference?"""
    if encoder.dim != reference.index.dim:
        raise ModelError(
            f"The reference holds embeddings of width {reference.index.dim}, this encoder makes width {encoder.dim}: "
            "another model built it. Build it again, or align with the model that built it."
        )
    (own,) = encoder.encode([reference.text(0).rstrip("N")], role="document", normalize=True)
    (held,) = reference.index.vectors.floats(slice(1))
    if float(own @ held) < 0.98 * float(np.linalg.norm(held)) * float(np.linalg.norm(own)):
        raise ModelError("This encoder embeds the reference differently: another model built it. Build it again.")
