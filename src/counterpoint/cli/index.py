"""`counterpoint index`: rows to a folder that opens in milliseconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from counterpoint.cli.options import Data, File, Model, Name


def index(
    model: Model,
    data: Data,
    /,
    *,
    out: File = None,
    column: Name = None,
    split: Name = None,
    dtype: Literal["float32", "float16", "int8"] = "float32",
    no_bm25: bool = False,
    tokenizer: Literal["words", "code"] = "words",
    ann: Literal["auto", "yes", "no"] = "auto",
    unit: int = 500,
    overlap: int = 250,
    overwrite: bool = False,
) -> None:
    """Encode rows and write an index: embeddings, rows, BM25 statistics, and for many rows a graph.

    Example: counterpoint index runs/mine documents.jsonl

    Example: counterpoint index runs/genome reference.fa

    With a model of DNA, the contigs of one FASTA file, cut into units, for `counterpoint align`.

    Args:
        model: the run folder or model folder that encodes.
        data: files of rows, as for `fit`; a hit shows all their columns.
        out: the index folder (none: MODEL/index).
        column: the text column (none: the only one, or `text`).
        split: which split of the data (none: all rows).
        dtype: how embeddings are kept: int8 takes a quarter of the space.
        no_bm25: keep no word statistics, which the modes bm25 and hybrid need.
        tokenizer: what a word is for BM25: words, or code (identifiers split into parts).
        ann: an approximate graph (auto: from 200,000 rows).
        unit: of DNA: bases of the stretches that a reference is cut into.
        overlap: of DNA: bases that two neighbouring stretches share; no read may be longer.
        overwrite: replace an index that is there.
    """
    from counterpoint.cli.rows import find_column, read_all
    from counterpoint.data.log import Log
    from counterpoint.search.store import Index
    from counterpoint.workflow.models import load, load_towers, model_path

    if "text" not in (towers := load_towers(model)) and "dna" in towers:
        return _reference(
            model, data, out or model / "index", unit=unit, overlap=overlap, dtype=dtype, ann=ann, overwrite=overwrite
        )
    encoder, log = load(model, "text"), Log()
    rows = read_all(data, split=split, log=log)
    text = find_column(rows, "text", column)
    start = time.perf_counter()
    built = Index.build(
        out or model / "index",
        rows.with_format("arrow")[:],
        encoder=encoder,
        text=text,
        dtype=dtype,
        bm25=not no_bm25,
        tokenizer=tokenizer,
        ann="auto" if ann == "auto" else ann == "yes",
        model=model_path(model),
        overwrite=overwrite,
    )
    for line in log.lines():
        print(line)
    print(f"{len(built):,} rows of width {built.dim} in {time.perf_counter() - start:.1f} s: {built.folder}")
    print(f'Search it: counterpoint search {model if out is None else out} "a question"')


def _reference(
    model: Path,
    data: tuple[str, ...],
    out: Path,
    *,
    unit: int,
    overlap: int,
    dtype: Literal["float32", "float16", "int8"],
    ann: Literal["auto", "yes", "no"],
    overwrite: bool,
) -> None:
    from counterpoint.data.dna import reference
    from counterpoint.errors import DataError
    from counterpoint.search.align import Reference
    from counterpoint.workflow.models import load, model_path

    if len(data) != 1:
        raise DataError(f"A reference is one FASTA file with all contigs; {len(data)} sources were given.")
    contigs = reference(data[0])
    start = time.perf_counter()
    built = Reference.build(
        out,
        contigs,
        load(model, "dna"),
        unit=unit,
        overlap=overlap,
        dtype=dtype,
        ann="auto" if ann == "auto" else ann == "yes",
        model=model_path(model),
        overwrite=overwrite,
    )
    bases = sum(len(c.bases) for c in contigs)
    print(
        f"{len(built):,} units of {len(contigs):,} contigs ({bases:,} bases) in {time.perf_counter() - start:.1f} s: "
        f"{out}"
    )
    print(f"Align reads: counterpoint align {out} reads.fq --out reads.sam")
