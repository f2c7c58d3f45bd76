"""`counterpoint index`: rows to a folder that opens in milliseconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Number, Read, Sources

if TYPE_CHECKING:
    from counterpoint.search.index import Index


def index(
    model: Model,
    data: Data,
    /,
    *,
    out: File = None,
    column: Name = None,
    stream: Name = None,
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

    Example: counterpoint index runs/pictures pictures/

    Rows of any modality that the model encodes: images, recordings, vectors, table rows. Of files a hit shows the path.

    Args:
        model: the run folder or model folder that encodes.
        data: files of rows, as for `fit`; a hit shows all their columns.
        out: the index folder (none: MODEL/index).
        column: the column to encode (none: the only one of the modality; of texts `text`, or `positive`).
        stream: which tower of the model, where it has several (none: that of the items that the rows hold).
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
    from counterpoint.data.log import Log
    from counterpoint.evaluate.hybrid_share import told
    from counterpoint.search.align import Reference
    from counterpoint.terminal import say
    from counterpoint.workflow.index import index as build

    log, start = Log(), time.perf_counter()
    built = build(
        model,
        data,
        out=out,
        column=column,
        stream=stream,
        queries=queries,
        split=split,
        dtype=dtype,
        dim=dim,
        rescore=rescore,
        oversample=oversample,
        bm25=not no_bm25,
        tokenizer=tokenizer,
        ann="auto" if ann == "auto" else ann == "yes",
        unit=unit,
        overlap=overlap,
        overwrite=overwrite,
        log=log,
        reading=files.reading(),
    )
    seconds = time.perf_counter() - start
    if isinstance(built, Reference):
        folder, contigs = built.index.folder, built.contigs
        bases = f"{len(contigs):,} contigs ({sum(contigs.values()):,} bases)"
        say(f"{len(built):,} units of {bases} in {seconds:.1f} s: {folder}")
        say(f"Align reads: counterpoint align {folder} reads.fq --out reads.sam")
        return
    for line in log.lines():
        say(line)
    say(f"{len(built):,} rows of width {built.dim} in {seconds:.1f} s: {built.folder}")
    say(size(built))
    if built.bm25 is not None:
        say(told(built.share))
    say(f"Search it: counterpoint search {model if out is None else out} {_question(built)}")


def _question(index: Index) -> str:
    """A question that the index can be asked, as it is typed."""
    from counterpoint.modalities.base import JOINED, of

    name = index.settings["items"]["modality"]
    modality = of(name)
    if index.bm25 is not None or modality.written:
        return '"a question"' if index.settings["text"] else f"--{name} LETTERS"
    value = "FILE" if modality.suffixes or modality.shape == "whole" else "JSON"
    return f"--item {name}=JSON" if JOINED in name else f"--{name} {value}"


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
