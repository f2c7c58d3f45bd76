"""FASTA and FASTQ: what is read, what is refused and in which words; a column of DNA tells itself."""

import gzip

import pytest
from datasets import Dataset

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError
from counterpoint.modalities import dna
from counterpoint.search import sequences

SOME = "ACGTTGCAAC" * 6


def written(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_clean_knows_the_letters_of_dna():
    assert dna.clean("acgtuRyN") == "ACGTTNNN"
    with pytest.raises(DataError, match="'E', which is no letter of DNA"):
        dna.clean("ACE")
    with pytest.raises(DataError, match="no letter of DNA"):
        dna.clean("ACé")


def test_reverse_complement_twice_is_the_sequence():
    assert dna.reverse_complement("AACGTN") == "NACGTT"
    assert dna.reverse_complement(dna.reverse_complement(SOME)) == SOME


@pytest.mark.parametrize("name", ["a.fa", "a.fna.gz", "a.fasta"])
def test_contigs_without_headers_and_line_ends(tmp_path, name):
    path = written(tmp_path / name, f">one about it\r\nACGT\r\nacgn\r\n\n>two\n{SOME}\n")
    assert sequences.reference(path) == [dna.Contig("one", "ACGTACGN"), dna.Contig("two", SOME)]


def test_a_contig_is_cut_at_gaps_and_evenly_and_nothing_is_lost_or_shared():
    bases = "A" * 50 + "N" * 20 + "C" * 5000 + "N" * 9 + "G" * 300
    rows = dna.stretches(dna.Contig("c", bases), longest=2000)
    assert all(bases[start : start + len(text)] == text for start, text in rows)
    assert "".join(text for _, text in rows) == bases[70:]  # 50 bases before a gap are too few
    assert max(len(text) for _, text in rows) <= 2000
    assert dna.stretches(dna.Contig("short", "ACGT")) == [(0, "ACGT")]
    assert dna.stretches(dna.Contig("unknown", "N" * 500)) == []


def test_rows_of_a_fasta_file_find_their_method_by_themselves(tmp_path):
    path = written(tmp_path / "a.fa", f">one\n{SOME * 100}\n>gap\n{'N' * 300}\n")
    with pytest.warns(UserWarning, match="without a known base, and left out: gap"):
        found = read(str(path))
    assert found.column_names == ["contig", "start", "dna"]
    assert found[1]["start"] == len(found[0]["dna"])
    schema = infer(found)
    assert (schema.kind, schema.columns, schema.modalities) == ("items", {"dna": "dna"}, {"dna": "dna"})
    assert Rows(found, schema)[0]["dna"] == (SOME * 100)[: len(found[0]["dna"])]


def test_reads_keep_their_qualities(tmp_path):
    path = written(tmp_path / "r.fq.gz", "@r1 more\nACGT\n+\nII#I\n@r1\nACG\n+r1\n@@@\n")
    assert list(sequences.reads(path)) == [dna.Read("r1", "ACGT", "II#I"), dna.Read("r1", "ACG", "@@@")]
    assert read(str(path))["dna"] == ["ACGT", "ACG"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("e.fa", "", "is empty"),
        ("e.fa", "\n\n", "holds no sequence"),
        ("e.fa", "ACGT\n", "expected a header"),
        ("e.fa", ">a\nACGT\n>a\nACGT\n", "'a' twice"),
        ("e.fa", ">a\nNNNN\n", "no known base"),
        ("e.fa", ">a\nMKLE\n", "contig 'a' holds"),
        ("e.txt", "ACGT\n", "no FASTA file"),
        ("e.fa", "\x1f\x8b", "holds gzip"),
    ],
)
def test_references_that_cannot_be(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=said):
        sequences.reference(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [("@r\nACGT\n+\nII\n", "4 bases and 2 qualities"), ("@r\nACGT\n", "four lines"), ("r\nA\n+\nI\n", "four lines")],
)
def test_reads_that_cannot_be(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        list(sequences.reads(written(tmp_path / "r.fq", text)))


def test_a_column_of_dna_is_told_from_text_by_its_letters():
    assert dna.is_dna([SOME, None, SOME.lower()])
    assert not dna.is_dna(["a tag", "cat"])
    assert not dna.is_dna(["ACGT", "TGCA"])  # too short to be sure
    assert not dna.is_dna(["NARWHAL SANS SHARK VANS WARY", SOME])
    held = Dataset.from_dict({"seq": [SOME] * 4, "label": ["x", "y", "x", "y"], "note": ["some words"] * 4})
    assert infer(held).columns == {"dna": "seq", "label": "label"}
    assert infer(held, columns={"dna": "seq"}).kind == "items"
    with pytest.raises(DataError, match="Column 'note', row 0, holds 'o'"):
        infer(held, columns={"dna": "note"})
    two = Dataset.from_dict({"a": [SOME] * 2, "b": [SOME] * 2})
    with pytest.raises(DataError, match="2 columns of sequences of DNA"):
        infer(two)


def test_a_row_that_is_no_dna_is_skipped_and_listed():
    held = Dataset.from_dict({"dna": [SOME] * 25 + ["a sentence, by mistake", ""]})
    rows = Rows(held, infer(held))
    assert len(rows[:]) == 25
    assert any("no letter of DNA" in line for line in rows.log.lines())
