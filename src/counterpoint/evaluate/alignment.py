"""Alignment of reads: simulated reads whose place is known, and one judge for every aligner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import beta, binomtest

from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.intervals import Interval
from counterpoint.modalities.dna import Contig, reverse_complement
from counterpoint.search.align import cut
from counterpoint.search.exact import top_k
from counterpoint.search.local import Scoring, local_scores
from counterpoint.views.dna import indels, substitute

Strand = Literal["+", "-"]


@dataclass(frozen=True, slots=True)
class Truth:
    """A simulated read: its name, its bases as a sequencer gives them, where it comes from (from 0, the leftmost base
    on the forward strand), how many bases of the contig it covers. A decoy, of another genome, has no contig.

    start: the place. span: the bases of the contig.
    """

    name: str
    bases: str
    contig: str | None
    start: int
    strand: Strand
    span: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Where an aligner says that a read lies: its leftmost base, clipped ends counted in.

    contig: its name. start: from 0. strand: ``+`` or ``-``.
    """

    contig: str
    start: int
    strand: Strand


def simulate(
    contigs: Sequence[Contig],
    n: int,
    *,
    length: int,
    substitutions: float = 0.0,
    indel_rate: float = 0.0,
    seed: int = 0,
    decoy: bool = False,
    prefix: str = "read",
) -> list[Truth]:
    """Reads from uniformly drawn places without N, the strand by coin, with errors that are independent of each other.

    length: bases of the reference that a read covers; with insertions and deletions the read may have others (it is cut
    to ``length`` where it grew). decoy: the reads count as those of another genome. contigs: of the reference. n:
    number of reads. substitutions, indel_rate: probability of either at a base. seed: of all draws. prefix: of the
    names.

    >>> from counterpoint.modalities.dna import Contig
    >>> reads = simulate([Contig("chr", "ACGT" * 50)], 2, length=20)
    >>> [len(read.bases) for read in reads], reads[0].contig
    ([20, 20], 'chr')
    """
    able = [c for c in contigs if len(c.bases) >= length]
    if not able:
        raise DataError(f"No contig has the {length:,} bases of a read. Give shorter reads or a longer reference.")
    rng = np.random.default_rng(seed)
    sizes = np.array([len(c.bases) - length + 1 for c in able], dtype=np.float64)
    out: list[Truth] = []
    failed = 0
    while len(out) < n:
        contig = able[int(rng.choice(len(able), p=sizes / sizes.sum()))]
        start = int(rng.integers(len(contig.bases) - length + 1))
        bases = contig.bases[start : start + length]
        if "N" in bases:
            failed += 1
            if failed > 1_000 * max(1, n):
                raise DataError("The reference has hardly a stretch without N that could be a read.")
            continue
        strand: Strand = "-" if rng.random() < 0.5 else "+"
        noisy = indels(substitute(bases, rng, rate=substitutions), rng, rate=indel_rate)[:length]
        read = reverse_complement(noisy) if strand == "-" else noisy
        out.append(Truth(f"{prefix}{len(out)}", read, None if decoy else contig.name, start, strand, length))
    return out


def ranks(
    encoder: Encoder, contigs: Sequence[Contig], truths: Sequence[Truth], *, unit: int = 500, overlap: int = 250, k: int
) -> np.ndarray:
    """Place (from 0) of the first unit that wholly holds a read among those nearest to it or to its reverse complement,
    ``(N,)`` int; k where none of the first k does. Source: the published measure, arXiv 2309.11087.

    encoder: of sequences. contigs: of the reference. truths: the reads. unit, overlap: bases of the windows that the
    contigs are cut into.
    """
    units = [(c.name, start, text) for c in contigs for start, text in cut(c.bases, unit, overlap)]
    held = encoder.encode([text for *_, text in units], role="document", normalize=True)
    names, starts = np.array([n for n, *_ in units]), np.array([s for _, s, _ in units])
    reads = [t.bases for t in truths]
    strands = [reads] if getattr(encoder, "strandless", False) else [reads, [reverse_complement(r) for r in reads]]
    found = [top_k(encoder.encode(some, role="query", normalize=True), held, k) for some in strands]
    scores, ids = (np.concatenate([f[i] for f in found], axis=1) for i in (0, 1))
    out = np.full(len(truths), k, dtype=np.int64)
    for i, truth in enumerate(truths):
        nearest = list(dict.fromkeys(ids[i, np.argsort(-scores[i], kind="stable")].tolist()))[:k]
        inside = (starts[nearest] <= truth.start) & (truth.start + truth.span <= starts[nearest] + unit)
        if (holds := inside & (names[nearest] == truth.contig)).any():
            out[i] = int(holds.argmax())
    return out


def strict(truth: Truth, claim: Claim | None, *, tolerance: int = 5) -> bool:
    """Whether a claim names the true contig and strand, and a start at most ``tolerance`` bases off.

    truth: of the read; a decoy's is met by no claim.

    >>> truth = Truth("read", "ACGT", "chr", 100, "+", 4)
    >>> strict(truth, Claim("chr", 103, "+")), strict(truth, Claim("chr", 110, "+")), strict(truth, None)
    (True, False, False)
    """
    if claim is None or truth.contig is None:
        return False
    return (claim.contig, claim.strand) == (truth.contig, truth.strand) and abs(claim.start - truth.start) <= tolerance


def as_good(
    truths: Sequence[Truth],
    claims: Sequence[Claim | None],
    contigs: Sequence[Contig],
    *,
    scoring: Scoring | None = None,
) -> np.ndarray:
    """Whether a read fits the claimed place as well as the true one, ``(N,)`` bool: repeats of a genome are no errors.

    Both places are scored by the same local alignment, with ten bases to either side. A decoy never does.

    truths: of the reads. claims: in their order, None where none is made. contigs: of the reference. scoring: of the
    alignments (None: the usual).
    """
    held = {c.name: c.bases for c in contigs}
    asked = [i for i, (t, c) in enumerate(zip(truths, claims)) if c is not None and t.contig is not None]
    queries, there, here = [], [], []
    for i in asked:
        truth, claim = truths[i], claims[i]
        assert claim is not None
        assert truth.contig is not None
        if claim.contig not in held:
            raise DataError(f"Read {truth.name} was placed on {claim.contig!r}, a contig that the reference lacks.")
        queries += [
            truth.bases if strand == "+" else reverse_complement(truth.bases) for strand in (truth.strand, claim.strand)
        ]
        there.append(_window(held[truth.contig], truth.start, truth.span))
        here.append(_window(held[claim.contig], claim.start, truth.span))
    targets = [text for both in zip(there, here) for text in both]
    scores = local_scores(queries, targets, scoring=scoring).reshape(-1, 2)
    out = np.zeros(len(truths), dtype=bool)
    out[asked] = scores[:, 1] >= scores[:, 0] - 1e-9
    return out


def _window(bases: str, start: int, span: int, *, margin: int = 10) -> str:
    return bases[max(0, start - margin) : max(0, start + span + margin)] or "N"


@dataclass(frozen=True, eq=False)
class Judged:
    """Verdicts on N reads, each ``(N,)`` bool. true: not a decoy. mapped: something was claimed. right: by tolerance in
    bases, the claim is strictly right. fits: strictly right within 5 bases, or as good as the truth."""

    true: np.ndarray
    mapped: np.ndarray
    right: dict[int, np.ndarray]
    fits: np.ndarray

    def recall(self, tolerance: int | None = 5) -> Interval:
        """Right ones among the true reads (None: repeat-aware), with its interval."""
        right = self.fits if tolerance is None else self.right[tolerance]
        return share(int((right & self.true).sum()), int(self.true.sum()))

    def precision(self, tolerance: int | None = 5) -> Interval:
        """Right ones among all that were mapped, decoys included."""
        right = self.fits if tolerance is None else self.right[tolerance]
        return share(int((right & self.mapped).sum()), int(self.mapped.sum()))

    def decoys(self) -> Interval:
        """Decoys that were mapped, among all decoys."""
        return share(int((self.mapped & ~self.true).sum()), int((~self.true).sum()))


def judge(
    truths: Sequence[Truth],
    claims: Sequence[Claim | None],
    contigs: Sequence[Contig],
    *,
    tolerances: Sequence[int] = (0, 5, 50),
) -> Judged:
    """What one aligner's claims are worth; claims in the order of the reads.

    truths: of the reads. contigs: of the reference. tolerances: bases by which a start may be off.

    >>> from counterpoint.modalities.dna import Contig
    >>> contigs = [Contig("chr", "ACGTTGCAACGGTTAACCGT" * 5)]
    >>> truths = simulate(contigs, 3, length=20)
    >>> found = judge(truths, [Claim(t.contig, t.start, t.strand) for t in truths], contigs)
    >>> print(found.recall())
    1.000 [0.292, 1.000]
    """
    if len(truths) != len(claims):
        raise DataError(
            f"{len(claims)} claims for {len(truths)} reads: give one for each, None where it was not placed."
        )
    right = {t: np.array([strict(a, b, tolerance=t) for a, b in zip(truths, claims)]) for t in {*tolerances, 5}}
    return Judged(
        true=np.array([t.contig is not None for t in truths]),
        mapped=np.array([c is not None for c in claims]),
        right=right,
        fits=right[5] | as_good(truths, claims, contigs),
    )


def share(hits: int, of: int, *, level: float = 0.95) -> Interval:
    """A share with its exact interval (Clopper & Pearson, 1934); NaN of none.

    hits: how many. of: out of how many. level: of confidence.

    >>> print(share(0, 10))
    0.000 [0.000, 0.308]
    """
    if not 0 <= hits <= of:
        raise ConfigError(f"{hits} of {of} is no share.")
    if of == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    rest = (1 - level) / 2
    low = float(beta.ppf(rest, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - rest, hits + 1, of - hits)) if hits < of else 1.0
    return Interval(hits / of, low, high)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of two systems being right equally often on the same N items, ``(N,)`` bool each: the exact test on
    those where they differ (McNemar, 1947). 1 where they never do.

    a, b: whether each item was right.

    >>> a, b = np.array([True] * 9 + [False]), np.array([False] * 9 + [True])
    >>> round(mcnemar(a, b), 4), mcnemar(a, a)
    (0.0215, 1.0)
    """
    if np.shape(a) != np.shape(b):
        raise DataError(f"Verdicts on {np.shape(a)} and {np.shape(b)} items cannot be paired.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
