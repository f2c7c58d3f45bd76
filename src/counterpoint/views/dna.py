"""Views of a sequence of DNA: a fragment and a read inside it, noise as sequencers make it.

Sequences are strings of the bases A, C, G, T and N (unknown). Every function is pure: all chance comes from ``rng``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from counterpoint.data.batch import Data
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.dna import counts
from counterpoint.views.base import Collate
from counterpoint.views.features import Cheap, Matrix, scaled

Range = tuple[int, int]
"""Least length and the length that is not reached any more, in bases."""

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
_NUMBER = np.zeros(256, dtype=np.int64)
_NUMBER[BASES] = range(4)
_KNOWN = np.zeros(256, dtype=bool)
_KNOWN[BASES] = True


def subsequence(sequence: str, rng: np.random.Generator, *, length: Range) -> str:
    """A stretch of a length drawn from ``length``, at a uniformly drawn place; a shorter sequence is taken whole.

    rng: every draw comes from it.

    >>> len(subsequence("ACGT" * 10, np.random.default_rng(0), length=(8, 9)))
    8
    """
    least, beyond = length
    if not 0 < least < beyond:
        raise ConfigError(f"length={length}: give two numbers of bases with 0 < least < beyond, e.g. (800, 2000).")
    if not sequence:
        raise DataError("A stretch of an empty sequence was asked for; drop rows without bases first.")
    n = min(int(rng.integers(least, beyond)), len(sequence))
    start = int(rng.integers(len(sequence) - n + 1))
    return sequence[start : start + n]


def fragment_and_read(
    sequence: str, rng: np.random.Generator, *, fragment: Range = (800, 2000), read: Range = (100, 500)
) -> tuple[str, str]:
    """A fragment of the sequence, and a read that lies wholly inside it. Source: Holur et al. 2023, arXiv 2309.11087.

    A sequence too short to hold the longest read is the fragment itself, and the read at most half of it.

    rng: every draw comes from it.

    >>> fragment_and_read("ACGTTGCA", np.random.default_rng(0), fragment=(6, 7), read=(3, 4))
    ('GTTGCA', 'TGC')
    """
    whole = subsequence(sequence, rng, length=fragment)
    if len(whole) < read[1]:
        half = max(1, len(whole) // 2)
        read = (min(read[0], half), min(read[1], half + 1))
    return whole, subsequence(whole, rng, length=read)


def substitute(sequence: str, rng: np.random.Generator, *, rate: float) -> str:
    """Every base becomes, with probability ``rate``, one of the three others; N stays.

    rng: every draw comes from it. sequence: of ACGTN.

    >>> changed = substitute("AAAAAAAA", np.random.default_rng(0), rate=1.0)
    >>> len(changed), "A" in changed
    (8, False)
    """
    _rate("rate", rate)
    codes = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8).copy()
    hit = (rng.random(len(codes)) < rate) & _KNOWN[codes]
    codes[hit] = BASES[(_NUMBER[codes[hit]] + rng.integers(1, 4, int(hit.sum()))) % 4]
    return codes.tobytes().decode("ascii")


def indels(sequence: str, rng: np.random.Generator, *, rate: float) -> str:
    """Behind every base, with probability ``rate`` / 2, a random base is put in; with ``rate`` / 2 it is left out.

    rng: every draw comes from it. sequence: of ACGTN.

    >>> indels("ACGT", np.random.default_rng(0), rate=0.0)
    'ACGT'
    """
    _rate("rate", rate)
    drawn = rng.random(len(sequence))
    if not (drawn < rate).any():
        return sequence
    codes = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
    times = np.where(drawn < rate / 2, 2, np.where(drawn < rate, 0, 1))
    out = np.repeat(codes, times)
    new = np.cumsum(times)[times == 2] - 1
    out[new] = rng.choice(BASES, len(new))
    return out.tobytes().decode("ascii") if len(out) else sequence


def two_views(sequences: Sequence[str], rng: np.random.Generator, collate: Collate) -> tuple[Data, Data]:
    """Half to all of each sequence, twice, with 2 % of its bases exchanged; see `counterpoint.views.base.TwoViews`.

    sequences: N of them. rng: every draw comes from it. collate: the encoder's, to what it reads.

    >>> one, other = two_views(["ACGT" * 25], np.random.default_rng(0), list)
    >>> 50 <= len(one[0]) <= 100, one == other
    (True, False)
    """

    def view(sequence: str) -> str:
        length = max(1, round(len(sequence) * rng.uniform(0.5, 1)))
        return substitute(subsequence(sequence, rng, length=(length, length + 1)), rng, rate=0.02)

    one, other = ([view(sequence) for sequence in sequences] for _ in range(2))
    return collate(one), collate(other)


def counterparts(items: Sequence[str], rng: np.random.Generator, collate: Collate) -> tuple[list[str], list[str]]:
    """A read of each stretch of DNA, 5 % of it wrong, had to find the stretch.

    Reads are of 100 to 250 bases, of shorter stretches half of them. See `counterpoint.views.base.Counterparts`.

    items: N sequences. rng: every draw comes from it. collate: not used, reads are sequences.

    >>> reads, sequences = counterparts(["ACGT" * 100], np.random.default_rng(0), list)
    >>> 100 <= len(reads[0]) <= 250, sequences == ["ACGT" * 100]
    (True, True)
    """
    whole = (2**31, 2**31 + 1)  # longer than any sequence
    reads = (fragment_and_read(s, rng, fragment=whole, read=(100, 251))[1] for s in items)
    return [substitute(read, rng, rate=0.05) for read in reads], list(items)


def _rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}={value} is not a probability; give a number from 0 to 1.")


# --- cheap features ----------------------------------------------------------------------------------------------

K = 6
"""Bases of a k-mer."""


def kmer_counts(train: Sequence[str], test: Sequence[str]) -> tuple[Matrix, Matrix, str]:
    """Square roots of the shares of k-mers of both strands, less the mean of the training sequences.

    train, test: sequences. Returns the matrices of both, and what was left out of them in words.

    >>> train, test, cut = kmer_counts(["ACGTACGT", "TTTTAAAA"], ["ACGTACGA"])
    >>> train.shape[0], test.shape[0], train.shape[1] == test.shape[1]
    (2, 1, True)
    """
    from sklearn.preprocessing import normalize

    known, unseen = (np.sqrt(normalize(counts(items, K), norm="l1")) for items in (train, test))
    return *scaled(known - known.mean(0), unseen - known.mean(0)), ""


cheap = (Cheap(name="k-mer counts", of=kmer_counts),)
