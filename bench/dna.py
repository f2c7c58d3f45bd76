"""Reads placed on the genome of E. coli, beside bowtie2 and bwa mem: the same reads, two threads, one judge.

The reads are simulated: uniform places, strand by coin, substitutions, from 1 % on with 0.5 % insertions and deletions,
and a tenth of decoys from another genome. A place is right within 5 bases on the right strand; "repeats counted": or
where the read fits as well as at its origin. Controls run through the same search: the encoder before training (random
directions of the counts of 6-mers), these counts in full, units drawn at random, an encoder trained on other species.
Peers come from packages: apt-get install bowtie2 bwa.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from _table import Result, finish, number, show
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Shuffled
from counterpoint.data.schema import Schema
from counterpoint.data.sets.registry import load
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.evaluate.alignment import Claim, Judged, Truth, judge, mcnemar, simulate
from counterpoint.methods.structure.dna_esa import DnaEsa
from counterpoint.modalities.dna import Contig
from counterpoint.search.align import Aligner, Placed, Reference
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer

GENOME, DECOYS = "NC_000913.3", "NZ_JROE01000002.1"
THREADS = 2
LENGTHS, ERRORS = (250, 100), (0.0, 0.01, 0.05, 0.1)
HINT = "is not installed, so it is left out. Install it: apt-get install bowtie2 bwa (or from bioconda)."


@dataclass
class System:
    """What one aligner claimed of every read, and what it took."""

    name: str
    claims: list[Claim | None]
    seconds: float
    index_seconds: float
    index_bytes: int
    version: str = ""


# --- ours ------------------------------------------------------------------------------------------------------


def trained(rows: Rows, *, steps: int, seed: int) -> KmerBag:
    """The recipe `small` on these rows."""
    recipe = DnaEsa.recipe("small")
    torch.manual_seed(seed)
    encoder = KmerBag(recipe.encoder)
    config: TrainConfig = recipe.train
    method = DnaEsa(encoder, recipe.config)
    loader = Loader(rows, Shuffled(len(rows), config.batch, seed=seed))
    Trainer(method, loader, replace(config, steps=steps, seed=seed, device="cpu", progress=False)).fit()
    return encoder.eval()


def full_counts() -> KmerBag:
    """Counts of 6-mers, a place for each: nothing is learned, nothing projected."""
    encoder = KmerBag(KmerBagConfig(dim=2080))
    with torch.no_grad():
        encoder.table.copy_(torch.eye(2080))
    return encoder.eval()


class Random(Aligner):
    """The same alignment of units that are drawn at random."""

    def candidates(self, reads: Sequence[str]) -> dict[str, np.ndarray]:
        drawn = np.random.default_rng(0).integers(len(self.reference), size=(2, len(reads), self.k))
        return {"+": drawn[0], "-": drawn[1]}


def ours(
    name: str, encoder: Encoder, genome: Contig, reads: Sequence[Truth], folder: Path, *, kind: type[Aligner] = Aligner
) -> System:
    start = time.perf_counter()
    reference = Reference.build(folder, [genome], encoder, dtype="int8", overwrite=True)
    index_seconds = time.perf_counter() - start
    aligner = kind(reference, encoder, threads=THREADS)
    aligner.align([reads[0].bases])  # first calls load kernels; not the alignment's time
    start = time.perf_counter()
    found = aligner.align([r.bases for r in reads])
    seconds = time.perf_counter() - start
    return System(name, [claimed(f) for f in found], seconds, index_seconds, reference.bytes())


def claimed(found: Placed) -> Claim | None:
    if not found.places:
        return None
    place = found.places[0]
    return Claim(place.contig, place.origin, place.strand)


# --- peers -----------------------------------------------------------------------------------------------------


def peers(genome: Contig, reads: Sequence[Truth], folder: Path) -> list[System]:
    fasta, fastq = folder / "ref.fa", folder / "reads.fq"
    fasta.write_text(f">{genome.name}\n" + "\n".join(re.findall(".{1,80}", genome.bases)) + "\n")
    fastq.write_text("".join(f"@{i}\n{r.bases}\n+\n{'I' * len(r.bases)}\n" for i, r in enumerate(reads)))
    plans = {
        "bowtie2": (
            ["bowtie2-build", "--quiet", "--threads", str(THREADS), "ref.fa", "index"],
            ["bowtie2", "-x", "index", "-U", "reads.fq", "--end-to-end", "--very-sensitive", "-p", str(THREADS)],
            ["bowtie2", "--version"],
        ),
        "bwa mem": (
            ["bwa", "index", "-p", "index", "ref.fa"],
            ["bwa", "mem", "-t", str(THREADS), "index", "reads.fq"],
            ["bwa"],
        ),
    }
    out = []
    for name, (build, align, version) in plans.items():
        if shutil.which(align[0]) is None:
            print(f"{name} {HINT}")
            continue
        place = folder / align[0]
        place.mkdir()
        for file in (fasta, fastq):
            (place / file.name).symlink_to(file)
        start = time.perf_counter()
        subprocess.run(build, cwd=place, check=True, capture_output=True)
        index_seconds = time.perf_counter() - start
        size = sum(f.stat().st_size for f in place.glob("index*"))
        start = time.perf_counter()
        sam = subprocess.run(align, cwd=place, check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - start
        said = subprocess.run(version, capture_output=True, text=True)
        found = re.search(r"(?:version|Version:)\s*([\d.]+)", said.stdout + said.stderr)
        out.append(System(name, claims_of(sam, len(reads)), seconds, index_seconds, size, found[1] if found else ""))
    return out


def claims_of(sam: str, n: int) -> list[Claim | None]:
    """Primary records: the leftmost base, a clipped beginning counted in."""
    out: list[Claim | None] = [None] * n
    for line in sam.splitlines():
        if line.startswith("@"):
            continue
        name, flag, contig, position, _, cigar = line.split("\t")[:6]
        if not int(flag) & (0x4 | 0x100 | 0x800):
            clipped = re.match(r"(\d+)[SH]", cigar)
            start = int(position) - 1 - (int(clipped[1]) if clipped else 0)
            out[int(name)] = Claim(contig, start, "-" if int(flag) & 0x10 else "+")
    return out


# --- the run ---------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=1000, help="true reads per case")
    parser.add_argument("--steps", type=int, default=1000, help="training steps")
    parser.add_argument("--trial", action="store_true", help="print, but write no results")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)

    found = load("dna-genomes")
    rows = Rows(found, Schema(kind="items", columns={"dna": "dna"}, modalities={"dna": "dna"}))
    names = np.array(found["contig"])
    texts = {n: "".join(found[int(i)]["dna"] for i in np.flatnonzero(names == n)) for n in (GENOME, DECOYS)}
    genome, other = (Contig(n, texts[n]) for n in (GENOME, DECOYS))
    cases: dict[str, slice] = {}
    reads: list[Truth] = []
    for number_, (length, rate) in enumerate((length, rate) for length in LENGTHS for rate in ERRORS):
        noise = {"length": length, "substitutions": rate, "indel_rate": 0.005 if rate else 0.0, "seed": number_}
        first = len(reads)
        reads += simulate([genome], asked.reads, **noise)
        reads += simulate([other], asked.reads // 10, decoy=True, **noise)
        cases[f"{length} bases, {rate:.0%} substitutions"] = slice(first, len(reads))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = time.perf_counter()
        encoder = trained(rows.subset(np.flatnonzero(names == GENOME)), steps=asked.steps, seed=0)
        training = time.perf_counter() - start
        strangers = rows.subset(np.flatnonzero(~np.isin(names, (GENOME, DECOYS, "NC_003197.1"))))
        away = trained(strangers, steps=asked.steps, seed=0)
        torch.manual_seed(0)
        fresh = KmerBag(DnaEsa.recipe("small").encoder).eval()
        index = folder / "ours"
        systems = [ours("counterpoint", encoder, genome, reads, index), *peers(genome, reads, folder)]
        controls = [
            ours("trained on other species", away, genome, reads, index),
            ours("untrained", fresh, genome, reads, index),
            ours("counts of 6-mers, 2,080 wide", full_counts(), genome, reads, index),
            ours("random units", fresh, genome, reads, index, kind=Random),
        ]
    verdicts = {
        (s.name, case): judge(reads[at], s.claims[at], [genome])
        for s in (*systems, *controls)
        for case, at in cases.items()
    }
    tell(cases, [*systems, *controls], verdicts)
    results = compared(cases, systems, controls, verdicts)
    one, *others = systems
    results.append(Result(case="before all", metric="training", unit="s", ours=training))
    for peer in others:
        about = {"case": "all reads", "peer_name": peer.name, "peer_version": peer.version}
        speeds = [len(reads) / s.seconds for s in (one, peer)]
        results += [
            Result(metric="speed", unit="reads/s", ours=speeds[0], peer=speeds[1], higher_is_better=True, **about),
            Result(metric="index", unit="bytes", ours=one.index_bytes, peer=peer.index_bytes, **about),
            Result(metric="building the index", unit="s", ours=one.index_seconds, peer=peer.index_seconds, **about),
        ]
    if asked.trial:
        for r in results:
            print(r.case, "|", r.metric, "|", number(r.ours), "|", number(r.peer), r.peer_name)
        return
    finish("dna", results, threads=THREADS)


def compared(
    cases: dict[str, slice],
    systems: Sequence[System],
    controls: Sequence[System],
    verdicts: dict[tuple[str, str], Judged],
) -> list[Result]:
    one, *peers = systems
    results = []
    for case in cases:
        mine = verdicts[one.name, case]
        for peer in (*peers, *controls):
            theirs = verdicts[peer.name, case]
            about = {"case": case, "unit": "share", "peer_name": peer.name, "peer_version": peer.version}
            figures = [
                ("recall within 5 bases", mine.recall(5).value, theirs.recall(5).value, True),
                ("recall, repeats counted", mine.recall(None).value, theirs.recall(None).value, True),
            ]
            if peer in peers:
                figures += [
                    ("precision, repeats counted", mine.precision(None).value, theirs.precision(None).value, True),
                    ("decoys placed", mine.decoys().value, theirs.decoys().value, False),
                ]
            results += [
                Result(metric=m, ours=a, peer=b, higher_is_better=higher, **about) for m, a, b, higher in figures
            ]
            if peer in peers:
                p = mcnemar(mine.fits[mine.true], theirs.fits[theirs.true])
                results.append(
                    Result(metric="p of equal recall, repeats counted (McNemar)", ours=p, **{**about, "unit": "1"})
                )
    return results


def tell(cases: dict[str, slice], systems: Sequence[System], verdicts: dict[tuple[str, str], Judged]) -> None:
    """Every system on every case, with exact 95 % intervals."""
    lines = []
    for case in cases:
        for system in systems:
            v = verdicts[system.name, case]
            strict = " ".join(f"{v.recall(t).value:.3f}" for t in (0, 5, 50))
            lines.append([case, system.name, strict, str(v.recall(None)), str(v.precision(None)), str(v.decoys())])
    show(["case", "system", "recall within 0, 5, 50", "repeats counted", "precision", "decoys placed"], lines)


if __name__ == "__main__":
    main()
