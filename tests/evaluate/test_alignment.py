"""The judge, on cases decided by hand; simulated reads are what they say."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.errors import DataError
from counterpoint.evaluate.alignment import Claim, Truth, judge, mcnemar, ranks, share, simulate
from counterpoint.modalities.dna import Contig, reverse_complement

RNG = np.random.default_rng(0)
SOME = "".join(RNG.choice(list("ACGT"), 400))
GENOME = [Contig("c", SOME + "".join(RNG.choice(list("ACGT"), 600)) + SOME), Contig("d", "N" * 300 + SOME)]


def truth(start, strand="+", contig="c"):
    text = GENOME[0].bases[start : start + 100]
    return Truth("r", text if strand == "+" else reverse_complement(text), contig, start, strand, 100)


def test_reads_without_errors_are_their_stretch_on_their_strand():
    found = simulate(GENOME, 60, length=80, seed=1)
    for t in found:
        text = next(c for c in GENOME if c.name == t.contig).bases[t.start : t.start + 80]
        assert t.bases == (text if t.strand == "+" else reverse_complement(text))
        assert "N" not in t.bases
    assert {t.strand for t in found} == {"+", "-"}
    assert found == simulate(GENOME, 60, length=80, seed=1)
    assert all(t.contig is None for t in simulate(GENOME, 3, length=80, decoy=True))
    with pytest.raises(DataError, match="No contig has the 5,000 bases"):
        simulate(GENOME, 1, length=5000)


def test_strictly_right_within_a_tolerance_on_the_right_strand_and_contig():
    truths = [truth(500)] * 6
    said = [("c", 500, "+"), ("c", 505, "+"), ("c", 506, "+"), ("c", 500, "-"), ("d", 500, "+")]
    claims = [*(Claim(*one) for one in said), None]
    found = judge(truths, claims, GENOME)
    assert found.right[0].tolist() == [True, False, False, False, False, False]
    assert found.right[5].tolist() == [True, True, False, False, False, False]
    assert found.right[50].tolist() == [True, True, True, False, False, False]
    assert found.mapped.tolist() == [True] * 5 + [False]
    assert found.recall(0).value == pytest.approx(1 / 6)
    assert found.precision(5).value == pytest.approx(2 / 5)


def test_another_copy_of_a_repeat_fits_and_another_place_does_not():
    claims = [Claim("c", 1100, "+"), Claim("d", 400, "+"), Claim("c", 1100, "-"), Claim("c", 700, "+")]
    found = judge([truth(100)] * 4, claims, GENOME)
    assert found.fits.tolist() == [True, True, False, False]
    assert not found.right[50].any()


def test_decoys_are_never_right_and_count_against_precision():
    decoy = Truth("x", SOME[:100], None, 0, "+", 100)
    found = judge([truth(500), decoy, decoy], [Claim("c", 500, "+"), Claim("c", 0, "+"), None], GENOME)
    assert found.fits.tolist() == [True, False, False]
    assert (found.recall().value, found.precision().value, found.decoys().value) == (1.0, 0.5, 0.5)
    with pytest.raises(DataError, match="a contig that the reference lacks"):
        judge([truth(1)], [Claim("e", 1, "+")], GENOME)
    with pytest.raises(DataError, match="give one for each"):
        judge([truth(1)], [], GENOME)


def test_the_exact_interval_turns_the_tails_of_the_binomial():
    found = share(7, 20)
    assert binom.sf(6, 20, found.low) == pytest.approx(0.025)
    assert binom.cdf(7, 20, found.high) == pytest.approx(0.025)
    assert (share(0, 10).low, share(10, 10).high) == (0.0, 1.0)
    assert np.isnan(share(0, 0).value)


def test_mcnemar_looks_at_the_items_that_differ():
    a, b = np.ones(30, dtype=bool), np.ones(30, dtype=bool)
    assert mcnemar(a, b) == 1.0
    b[:6] = False
    assert mcnemar(a, b) == pytest.approx(2 * 0.5**6)
    with pytest.raises(DataError, match="cannot be paired"):
        mcnemar(a, b[:3])


def test_ranks_of_the_unit_that_holds_a_read():
    torch.manual_seed(0)
    encoder = KmerBag(KmerBagConfig(dim=64, k=5, both_strands=False)).eval()
    text = "".join(RNG.choice(list("ACGT"), 3000))
    truths = simulate([Contig("g", text)], 20, length=200, seed=3)
    found = ranks(encoder, [Contig("g", text)], truths, unit=400, overlap=200, k=3)
    assert (found == 0).mean() > 0.8
    elsewhere = [Truth(t.name, t.bases, "h", t.start, t.strand, t.span) for t in truths]
    assert (ranks(encoder, [Contig("g", text)], elsewhere, unit=400, overlap=200, k=3) == 3).all()
