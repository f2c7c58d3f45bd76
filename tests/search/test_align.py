"""Reads come back to where they were taken, on both strands; what cannot be placed is said, not guessed."""

import io
import shutil
import subprocess

import numpy as np
import pytest
import torch

from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.modalities.dna import Contig, Read, reverse_complement
from counterpoint.search.align import Aligner, Reference, cut
from counterpoint.search.sam import record, write_header, write_records

RNG = np.random.default_rng(0)


def bases(n):
    return "".join(RNG.choice(list("ACGT"), n))


REPEAT = bases(300)
CONTIGS = [
    Contig("one", bases(3000)),
    Contig("two", bases(700) + REPEAT + "N" * 1500 + bases(600) + REPEAT + bases(91)),
]


def encoder(seed=0, **settings):
    torch.manual_seed(seed)
    return KmerBag(KmerBagConfig(**{"dim": 64, "k": 5, **settings})).eval()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return Reference.build(tmp_path_factory.mktemp("r") / "index", CONTIGS, encoder(), unit=400, overlap=200)


def test_each_stretch_of_the_length_of_the_overlap_lies_wholly_in_a_unit():
    text = bases(1010)
    units = list(cut(text, 400, 200))
    assert all(text[start : start + 400] == unit for start, unit in units)
    for at in range(len(text) - 200 + 1):
        assert any(start <= at and at + 200 <= start + len(unit) for start, unit in units)
    assert list(cut("ACGT", 400, 200)) == [(0, "ACGT")]
    assert [start for start, _ in cut("A" * 500 + "N" * 1500, 400, 200)] == [0, 200, 400]


def test_a_reference_comes_back_as_it_was(reference):
    again = Reference.open(reference.index.folder)
    assert again.contigs == {c.name: len(c.bases) for c in CONTIGS}
    assert (again.unit, again.overlap) == (400, 200)
    for unit in range(len(again)):
        name, start = again.names[unit], again.starts[unit]
        text = next(c.bases for c in CONTIGS if c.name == name)[start : start + 400]
        assert again.text(unit)[: len(text)] == text
        assert not again.text(unit)[len(text) :].strip("N")


@pytest.mark.parametrize(("both", "tries"), [(True, 4), (False, 4), (True, None)])
def test_exact_reads_of_both_strands_are_found_where_they_lie(tmp_path, both, tries):
    model = encoder(both_strands=both)
    aligner = Aligner(
        Reference.build(tmp_path / "i", CONTIGS[:1], model, unit=400, overlap=200), model, k=5, tries=tries
    )
    starts = [0, 17, 1234, 2850]
    reads = [CONTIGS[0].bases[s : s + 150] for s in starts]
    for found, start in zip(aligner.align(reads + [reverse_complement(r) for r in reads]), starts * 2):
        (place,) = found.places
        assert (place.contig, place.start, place.cigar, place.edits, place.score) == ("one", start, "150M", 0, 300.0)
        assert found.quality > 30
    strands = [f.places[0].strand for f in aligner.align([reads[0], reverse_complement(reads[0])])]
    assert strands == ["+", "-"]


def test_errors_and_gaps_are_written_as_they_are(reference):
    text = CONTIGS[0].bases[500:650]
    other = {"A": "C", "C": "A", "G": "T", "T": "G"}
    noisy = text[:40] + other[text[40]] + text[41:80] + text[83:]
    (found,) = Aligner(reference, encoder()).align([reverse_complement(noisy)])
    (place,) = found.places
    assert (place.start, place.strand, place.edits, place.origin) == (500, "-", 4, 500)
    assert sum(int(n) for n in place.cigar.replace("3D", "").split("M") if n) == 147


def test_a_repeat_is_a_tie_of_quality_0_and_another_genome_is_not_placed(reference):
    aligner = Aligner(reference, encoder())
    repeat, decoy, short = aligner.align([REPEAT[50:200], bases(150), CONTIGS[0].bases[100:160]])
    assert sorted(p.start for p in repeat.places) == [750, 3150]
    assert repeat.quality == 0
    assert decoy.places == ()
    assert short.places[0].start == 100


def test_what_cannot_be_aligned_is_a_sentence(reference, tmp_path):
    with pytest.raises(DataError, match="Read 2 has 201 bases, but the units of this reference overlap by 200"):
        Aligner(reference, encoder()).align(["ACGT" * 20, "A" * 201])
    with pytest.warns(UserWarning, match="1 of 1 reads are shorter than 50"):
        Aligner(reference, encoder()).align(["ACGTTGCATT"])
    with pytest.raises(ModelError, match="width 64"):
        Aligner(reference, encoder(dim=32))
    with pytest.raises(ModelError, match="another model built it"):
        Aligner(reference, encoder(seed=1))
    with pytest.raises(ConfigError, match="longer than what two of them share"):
        Reference.build(tmp_path / "x", CONTIGS, encoder(), unit=200, overlap=200)
    with pytest.raises(DataError, match="N throughout"):
        Reference.build(tmp_path / "x", [Contig("n", "N" * 900)], encoder())
    with pytest.raises(DataError, match="same name"):
        Reference.build(tmp_path / "x", [CONTIGS[0], CONTIGS[0]], encoder())
    assert Aligner(reference, encoder()).align([]) == []


def sam(reference):
    reads = [
        Read("fwd", CONTIGS[0].bases[10:120], "I" * 110),
        Read("rev", reverse_complement(CONTIGS[0].bases[700:850]), "#" + "I" * 149),
        Read("tie", REPEAT[:120]),
        Read("far", bases(120), "I" * 120),
    ]
    file = io.StringIO()
    write_header(file, reference.contigs, command="counterpoint align")
    write_records(file, reads, Aligner(reference, encoder()).align([r.bases for r in reads]))
    return reads, file.getvalue()


def test_lines_of_sam(reference):
    reads, text = sam(reference)
    head, lines = ([x.split("\t") for x in text.splitlines() if x.startswith("@") is at] for at in (True, False))
    assert ["@SQ", "SN:two", f"LN:{len(CONTIGS[1].bases)}"] in head
    fwd, rev, tie, far = lines
    assert fwd[:6] == ["fwd", "0", "one", "11", "60", "110M"]
    assert (fwd[9], fwd[10], fwd[11:]) == (reads[0].bases, "I" * 110, ["AS:i:220", "NM:i:0"])
    assert rev[1:4] == ["16", "one", "701"]
    assert (rev[9], rev[10]) == (CONTIGS[0].bases[700:850], "I" * 149 + "#")
    assert (tie[4], tie[10]) == ("0", "*")
    assert tie[-1].startswith("XA:Z:two,+")
    assert far[1:9] == ["4", "*", "0", "0", "*", "*", "0", "0"]
    assert record(Read("", ""), Aligner(reference, encoder()).align([bases(60)])[0])[9:] == ["*", "*"]


@pytest.mark.skipif(shutil.which("samtools") is None, reason="samtools is not installed")
def test_samtools_reads_it_and_counts_the_same_edits(reference, tmp_path):
    (tmp_path / "r.sam").write_text(sam(reference)[1])
    (tmp_path / "r.fa").write_text("".join(f">{c.name}\n{c.bases}\n" for c in CONTIGS))
    subprocess.run(["samtools", "quickcheck", "r.sam"], cwd=tmp_path, check=True)
    done = subprocess.run(
        ["samtools", "calmd", "r.sam", "r.fa"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "NM" not in done.stderr  # it reports each NM that differs from its own
    assert done.stdout.count("\tMD:Z:") == 3
