"""`counterpoint search`: questions to an index."""

from __future__ import annotations

import json as writer
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from counterpoint.cli.options import Number

if TYPE_CHECKING:
    from rich.text import Text

    from counterpoint.search.hybrid import Share


def search(
    folder: Annotated[Positional[Path], arg(metavar="INDEX", help_behavior_hint="")],
    queries: Annotated[Positional[tuple[str, ...]], arg(metavar="QUERY...", help_behavior_hint="")],
    /,
    *,
    k: int = 5,
    mode: Literal["auto", "dense", "bm25", "hybrid"] = "auto",
    alpha: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    oversample: Number = None,
    json: bool = False,
) -> None:
    """Answer questions from an index.

    Example: counterpoint search runs/demo "parse an ISO date"

    Args:
        folder: an index folder, or a run folder that holds one.
        queries: the questions, each in quotes.
        k: results per question.
        mode: dense (meaning), bm25 (shared words), hybrid (both); auto: hybrid where the index has words.
        alpha: share of the dense score in hybrid, from 0 (bm25) to 1 (dense); none: the one that was learned for the
            index, which is told with where it comes from.
        oversample: candidates scored again for each result, where the index keeps vectors for it (none: as built).
        json: one JSON object per hit instead of a table.
    """
    from rich.text import Text

    from counterpoint.errors import DataError
    from counterpoint.search.hybrid import Share
    from counterpoint.search.store import Index
    from counterpoint.terminal import Console
    from counterpoint.workflow.questions import encoder_for

    if not queries or not all(q.strip() for q in queries):
        raise DataError(f'The question is empty. Type for instance: counterpoint search {folder} "parse an ISO date"')
    opened = Index.open(folder / "index" if (folder / "index").is_dir() else folder)
    chosen = mode if mode != "auto" else ("hybrid" if opened.bm25 is not None else "dense")
    share = opened.share if alpha is None else Share(alpha, "--alpha")
    encoder = encoder_for(opened.model) if chosen != "bm25" and opened.model else None
    start = time.perf_counter()
    results = opened.search(list(queries), encoder=encoder, k=k, mode=chosen, alpha=share.alpha, oversample=oversample)
    milliseconds = (time.perf_counter() - start) * 1000
    console = Console(highlight=False)
    for query, hits in zip(queries, results):
        if json:
            for hit in hits:
                record = {"query": query, "rank": hit.rank, "score": hit.score, **hit.row}
                print(writer.dumps(record, ensure_ascii=False, default=str))
            continue
        console.print(Text(query, style="bold"))
        for hit in hits:
            console.print(line(hit.row, hit.score, opened.settings["text"]), soft_wrap=True)
        if not hits:
            console.print(Text("  no row shares a word with it", style="dim"))
    if not json:
        console.print(Text(f"{milliseconds:.0f} ms, {chosen}, {len(opened):,} rows", style="dim"))
    if told := _weights(chosen, share, given=alpha is not None):
        (Console(stderr=True) if json else console).print(Text(told, style="dim"), soft_wrap=True)


def _weights(mode: str, share: Share, *, given: bool) -> str:
    """What is said of the weights of a hybrid: whose they are; of other modes, that an alpha has no effect."""
    if mode == "hybrid":
        said = f"The dense score counts {share.alpha:g}, BM25 {1 - share.alpha:g} ({share.source})."
        return said if given else f"{said} --alpha sets another."
    return f"--alpha has no effect in the mode {mode}, which has one score." if given else ""


def line(row: dict[str, Any], score: float, text: str | None) -> Text:
    """A hit in the terminal: score, place (file and line, where the row has them), the beginning of the text."""
    from rich.text import Text

    shown = Text(f"  {score:6.3f}  ", style="cyan")
    if "file" in row and "line" in row:
        shown.append(f"{row['file']}:{row['line']}", style="green")
        shown.append(f"  {row.get('name', '')}  ")
    first = str(row.get("summary") or row.get(text or "", ""))
    shown.append(" ".join(first.split())[:110], style="dim")
    return shown
