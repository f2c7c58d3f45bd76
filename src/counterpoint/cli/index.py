"""`counterpoint index` and `counterpoint search`: an index in a folder, and questions to it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def index(
    model: Positional[Path],
    data: Positional[tuple[str, ...]],
    /,
    *,
    out: Path | None = None,
    column: str | None = None,
    dtype: Literal["float32", "float16", "int8"] = "float32",
    bm25: bool = True,
    tokenizer: Literal["words", "code"] = "words",
    ann: Literal["auto", "yes", "no"] = "auto",
    overwrite: bool = False,
) -> None:
    """Encode rows and write an index: embeddings, rows, BM25 statistics, and for many rows a graph.

    Example: counterpoint index runs/mine documents.jsonl

    Args:
        model: the run folder or model folder that encodes.
        data: files of rows, as for `fit`; a hit shows all their columns.
        out: the index folder (none: MODEL/index).
        column: the text column (none: the only one, or `text`).
        dtype: how embeddings are kept: int8 takes a quarter of the space.
        bm25: also keep word statistics, for the modes bm25 and hybrid.
        tokenizer: what a word is for BM25: words, or code (identifiers split into parts).
        ann: an approximate graph (auto: from 200,000 rows).
        overwrite: replace an index that is there.
    """
    from counterpoint.cli.rows import text_column
    from counterpoint.data.read import read
    from counterpoint.search.store import Index
    from counterpoint.workflow.models import load, model_path

    rows = read(list(data), split="all")
    text = text_column(rows, column)
    start = time.perf_counter()
    built = Index.build(
        out or model / "index",
        rows.data.table,
        encoder=load(model, "text"),
        text=text,
        dtype=dtype,
        bm25=bm25,
        tokenizer=tokenizer,
        ann={"auto": "auto", "yes": True, "no": False}[ann],
        model=model_path(model),
        overwrite=overwrite,
    )
    print(f"{len(built):,} rows of width {built.dim} in {time.perf_counter() - start:.1f} s: {built.folder}")
    print(f'Search it: counterpoint search {built.folder} "a question"')


def search(
    folder: Positional[Path],
    queries: Positional[tuple[str, ...]],
    /,
    *,
    k: int = 5,
    mode: Literal["auto", "dense", "bm25", "hybrid"] = "auto",
    alpha: float = 0.5,
    json: bool = False,
) -> None:
    """Answer questions from an index.

    Example: counterpoint search runs/demo "parse an ISO date"

    Args:
        folder: an index folder, or a run folder that holds one.
        queries: the questions.
        k: results per question.
        mode: dense (meaning), bm25 (shared words), hybrid (both); auto: hybrid where the index has words.
        alpha: share of the dense score in hybrid.
        json: one JSON object per hit instead of a table.
    """
    import json as writer

    from rich.console import Console
    from rich.text import Text

    from counterpoint.search.store import Index
    from counterpoint.workflow.models import load

    opened = Index.open(folder / "index" if (folder / "index").is_dir() else folder)
    chosen = mode if mode != "auto" else ("hybrid" if opened.bm25 is not None else "dense")
    encoder = load(opened.model, "text") if chosen != "bm25" and opened.model else None
    if encoder is not None:
        opened.search(["warm up"], encoder=encoder, k=1, mode=chosen)  # first calls load kernels; not the search's time
    start = time.perf_counter()
    results = opened.search(list(queries), encoder=encoder, k=k, mode=chosen, alpha=alpha)
    milliseconds = (time.perf_counter() - start) * 1000
    console = Console()
    for query, hits in zip(queries, results):
        if json:
            for hit in hits:
                record = {"query": query, "rank": hit.rank, "score": hit.score, **hit.row}
                print(writer.dumps(record, ensure_ascii=False))
            continue
        console.print(Text(query, style="bold"))
        for hit in hits:
            console.print(line(hit.row, hit.score, opened.settings["text"]))
    if not json:
        console.print(Text(f"{milliseconds:.0f} ms, {chosen}, {len(opened):,} rows", style="dim"))


def line(row: dict[str, object], score: float, text: str | None) -> object:
    """A hit in the terminal: score, place (file and line, where the row has them), the beginning of the text."""
    from rich.text import Text

    shown = Text(f"  {score:6.3f}  ", style="cyan")
    if "file" in row and "line" in row:
        shown.append(f"{row['file']}:{row['line']}", style="green")
        shown.append(f"  {row.get('name', '')}  ")
    first = str(row.get("summary") or row.get(text or "", ""))
    shown.append(" ".join(first.split())[:110], style="dim")
    return shown
