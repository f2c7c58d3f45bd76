"""From a FASTA file to SAM, with the words a user would type."""

from pathlib import Path

import numpy as np
import pytest

from counterpoint.cli import main
from counterpoint.evaluate.alignment import simulate

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dna")
    rng = np.random.default_rng(0)
    contigs = {name: "".join(rng.choice(list("acgt"), 12_000)) for name in ("first", "second")}
    (folder / "ref.fa").write_text("".join(f">{n} of two\n{b}\n" for n, b in contigs.items()))
    from counterpoint.search.sequences import reference

    some = simulate(reference(folder / "ref.fa"), 30, length=120, substitutions=0.02, seed=1)
    (folder / "reads.fq").write_text("".join(f"@{t.name}\n{t.bases}\n+\n{'I' * len(t.bases)}\n" for t in some))
    assert main(["fit", str(folder / "ref.fa"), "--out", str(folder / "run"), "--size", "smoke"]) == 0
    assert main(["index", str(folder / "run"), str(folder / "ref.fa")]) == 0
    return folder, some


def test_reads_to_sam(run, capsys):
    folder, some = run
    out = folder / "r.sam"
    assert main(["align", str(folder / "run"), str(folder / "reads.fq"), "--out", str(out)]) == 0
    assert "30 reads in" in capsys.readouterr().out
    lines = [x.split("\t") for x in Path(out).read_text().splitlines() if not x.startswith("@")]
    at = {f[0]: (f[2], int(f[3]) - 1, "-" if int(f[1]) & 16 else "+") for f in lines}
    right = [
        at[t.name][0] == t.contig and at[t.name][2] == t.strand and abs(at[t.name][1] - t.start) <= 5 for t in some
    ]
    assert np.mean(right) > 0.9
    assert main(["align", str(folder / "run"), str(folder / "reads.fq"), "--out", str(out)]) == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_bad_input_is_a_sentence(run, capsys, tmp_path):
    folder, _ = run
    (tmp_path / "long.fa").write_text(">r\n" + "ACGT" * 100 + "\n")
    assert main(["align", str(folder / "run"), str(tmp_path / "long.fa"), "--out", str(tmp_path / "o.sam")]) == 2
    assert "overlap by 250" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.sam"))
    (tmp_path / "n.fa").write_text(">r\nNNNN\n")
    assert main(["index", str(folder / "run"), str(tmp_path / "n.fa"), "--out", str(tmp_path / "i")]) == 2
    assert "no known base" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("text\nsome words\nother words\n")
    assert main(["fit", str(tmp_path / "t.csv"), "--method", "dna-esa", "--out", str(tmp_path / "x")]) == 2
    assert "needs sequences of DNA, but the rows hold single texts" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "t.csv"), "--columns", "dna=text", "--out", str(tmp_path / "x")]) == 2
    assert "no letter of DNA" in capsys.readouterr().err


def test_a_column_of_sequences_is_learned_from_and_encoded(tmp_path, capsys):
    rng = np.random.default_rng(1)
    rows = ["".join(rng.choice(list("ACGT"), 300)) for _ in range(120)]
    (tmp_path / "s.csv").write_text("id,seq\n" + "".join(f"{i},{r}\n" for i, r in enumerate(rows)))
    run, out = tmp_path / "run", tmp_path / "v.npy"
    assert main(["fit", str(tmp_path / "s.csv"), "--columns", "dna=seq", "--out", str(run), "--size", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "Method dna-esa" in said
    assert "had to find the stretch" in said
    assert main(["encode", str(run), str(tmp_path / "s.csv"), "--out", str(out)]) == 0
    assert np.load(out).shape == (120, 32)
