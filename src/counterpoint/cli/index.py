"""`counterpoint index`: rows to a folder that opens in milliseconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Number, Read, Sources

if TYPE_CHECKING:
    from counterpoint.search.store import Index


def index(
    model: Model,
    data: Data,
    /,
    *,
    out: File = None,
    column: Name = None,
    queries: Sources = (),
    split: Name = None,
    dtype: Literal["float32", "float16", "int8", "binary", "ubinary"] = "float32",
    dim: Number = None,
    rescore: Literal["auto", "none", "int8", "float16", "float32"] = "auto",
    oversample: int = 4,
    no_bm25: bool = False,
    tokenizer: Literal["words", "code"] = "words",
    ann: Literal["auto", "yes", "no"] = "auto",
    unit: int = 500,
    overlap: int = 250,
    overwrite: bool = False,
    files: Read = AS_FOUND,
) -> None:
    """Encode rows and write an index: embeddings, rows, BM25 statistics, and for many rows a graph.

    Example: counterpoint index runs/mine documents.jsonl

    Example: counterpoint index runs/mine documents.jsonl --dtype binary

    Example: counterpoint index runs/mine documents.jsonl --queries pairs.jsonl

    A hybrid search sums the scores of embeddings and of BM25. How much each counts is learned from pairs of a question
    and the text that answers it: from --queries, else from the rows where they are pairs by the names of their columns
    and the positive is indexed, else it is what `fit` learned from pairs that it held out.

    Example: counterpoint index runs/genome reference.fa

    With a model of DNA, the contigs of one FASTA file, cut into units, for `counterpoint align`.

    Args:
        model: the run folder or model folder that encodes.
        data: files of rows, as for `fit`; a hit shows all their columns.
        out: the index folder (none: MODEL/index).
        column: the text column (none: the only one, or `text`, or `positive`).
        queries: pairs of a question and, word for word, the indexed text that answers it, in columns such as anchor and
            positive; pairs that the model was not trained on.
        split: which split of the data (none: all rows).
        dtype: how embeddings are kept and searched: int8 takes a quarter of the space, binary (signs) a 32nd.
            `counterpoint eval MODEL DATA --dtype int8 binary` tells what that costs in quality.
        dim: only the first so many dimensions, for models trained for it (none: all).
        rescore: better vectors kept beside them, by which the best are scored again (auto: int8 for binary, else none).
        oversample: candidates scored again for each result wanted.
        no_bm25: keep no word statistics, which the modes bm25 and hybrid need.
        tokenizer: what a word is for BM25: words, or code (identifiers split into parts).
        ann: an approximate graph (auto: from 200,000 rows; binary vectors need none).
        unit: of DNA: bases of the stretches that a reference is cut into.
        overlap: of DNA: bases that two neighbouring stretches share; no read may be longer.
        overwrite: replace an index that is there.
        files: how files are read, where that is not found by looking at them.
    """
    from counterpoint.cli.rows import find_column, read_all
    from counterpoint.data.log import Log
    from counterpoint.errors import ConfigError
    from counterpoint.evaluate.fusion import told
    from counterpoint.modalities.dna import DNA
    from counterpoint.modalities.text import TEXT
    from counterpoint.search.quantise import check_dims
    from counterpoint.search.store import Index
    from counterpoint.workflow.models import load, load_towers, model_path
    from counterpoint.workflow.share import learn_for_index, of_model, pairs_in, pairs_to_learn_from

    if TEXT not in (towers := load_towers(model)) and DNA in towers:
        if queries:
            raise ConfigError("A reference of DNA is searched by embeddings alone: leave --queries out.")
        if dtype in ("binary", "ubinary") or dim is not None or rescore != "auto":
            raise ConfigError("A reference of DNA is kept as float32, float16 or int8: leave --dim and --rescore out.")
        return _reference(
            model, data, out or model / "index", unit=unit, overlap=overlap, dtype=dtype, ann=ann, overwrite=overwrite
        )
    if queries and no_bm25:
        raise ConfigError("--queries say how much words count, and --no-bm25 leaves the words out: give one of them.")
    encoder, log = load(model, TEXT), Log()
    check_dims([dim] if dim is not None else [], encoder.dim)
    rows = read_all(data, split=split, log=log, reading=files.reading())
    own = pairs_in(rows, data)
    if own is not None and column is None and own.columns["positive"] == "positive" and TEXT not in rows.column_names:
        column = "positive"
        log.note(f"The column 'positive' is indexed, as the rows hold {own.why}")
    text = find_column(rows, TEXT, column)
    pairs = pairs_to_learn_from(rows, text, own=own, queries=queries, data=data, model=model, log=log)
    start = time.perf_counter()
    built = Index.build(
        out or model / "index",
        rows.with_format("arrow")[:],
        encoder=encoder,
        text=text,
        dtype=dtype,
        dim=dim,
        rescore=rescore,
        oversample=oversample,
        bm25=not no_bm25,
        tokenizer=tokenizer,
        ann="auto" if ann == "auto" else ann == "yes",
        model=model_path(model),
        share=of_model(model),
        overwrite=overwrite,
    )
    learn_for_index(built, encoder, pairs)
    for line in log.lines():
        print(line)
    print(f"{len(built):,} rows of width {built.dim} in {time.perf_counter() - start:.1f} s: {built.folder}")
    print(size(built))
    if built.bm25 is not None:
        print(told(built.share))
    print(f'Search it: counterpoint search {model if out is None else out} "a question"')


def size(index: Index) -> str:
    """What a vector and the folder take, in a sentence."""
    parts, plain = index.sizes(), 4 * index.width
    again = f", and {index.full.bytes:,} ({index.full.dtype}) to score the best again" if index.full else ""
    folder = ", ".join(f"{name} {_bytes(n)}" for name, n in parts.items() if n and name != "all")
    return (
        f"A vector takes {index.vectors.bytes:,} bytes ({index.vectors.dtype}){again}; in float32 it would take "
        f"{plain:,}. On disk {_bytes(parts['all'])}: {folder}."
    )


def _bytes(n: int) -> str:
    return f"{n / 2**20:,.1f} MiB" if n >= 2**20 else f"{n / 2**10:,.1f} KiB"


def _reference(
    model: Path,
    data: tuple[str, ...],
    out: Path,
    *,
    unit: int,
    overlap: int,
    dtype: Any,
    ann: Literal["auto", "yes", "no"],
    overwrite: bool,
) -> None:
    from counterpoint.errors import DataError
    from counterpoint.modalities.dna import DNA
    from counterpoint.search.align import Reference
    from counterpoint.search.sequences import reference
    from counterpoint.workflow.models import load, model_path

    if len(data) != 1:
        raise DataError(f"A reference is one FASTA file with all contigs; {len(data)} sources were given.")
    contigs = reference(data[0])
    start = time.perf_counter()
    built = Reference.build(
        out,
        contigs,
        load(model, DNA),
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
