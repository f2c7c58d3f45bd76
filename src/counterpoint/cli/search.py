"""`counterpoint search`: questions to an index."""

from __future__ import annotations

import json as writer
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from counterpoint.cli.options import Number

if TYPE_CHECKING:
    from rich.text import Text

    from counterpoint.search.hybrid import Share


def search(
    folder: Annotated[Positional[Path], arg(metavar="INDEX", help_behavior_hint="")],
    queries: Annotated[Positional[tuple[str, ...]], arg(metavar="QUERY...", help_behavior_hint="")],
    /,
    *,
    item: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=VALUE", help_behavior_hint="")] = (),
    k: int = 5,
    mode: Literal["auto", "dense", "bm25", "hybrid"] = "auto",
    alpha: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    oversample: Number = None,
    json: bool = False,
) -> None:
    """Answer questions from an index.

    Example: counterpoint search runs/demo "parse an ISO date"

    Example: counterpoint search runs/pictures --image cat.png

    Example: counterpoint search runs/mine --vector "[0.1, 0.2]" --k 3

    An item is encoded by the tower of its own modality, so that an index of images can be asked with a text where the
    model has a tower for both.

    Args:
        folder: an index folder, or a run folder that holds one.
        queries: the questions, each in quotes.
        item: an item to search for, by its modality: image=cat.png; `--image cat.png` is the same. Of a file its path,
            of a table row or a vector JSON, of DNA its letters. May be given again.
        k: results per question.
        mode: dense (meaning), bm25 (shared words), hybrid (both); auto: hybrid where the index has words.
        alpha: share of the dense score in hybrid, from 0 (bm25) to 1 (dense); none: the one that was learned for the
            index, which is told with where it comes from.
        oversample: candidates scored again for each result, where the index keeps vectors for it (none: as built).
        json: one JSON object per hit instead of a table.
    """
    from rich.text import Text

    from counterpoint.terminal import Console, say
    from counterpoint.workflow.search import ask

    found = ask(folder, queries, items=_pairs(item), k=k, mode=mode, alpha=alpha, oversample=oversample)
    settings = found.index.settings
    console = Console(highlight=False)
    for query, hits in zip(found.asked, found.hits):
        if json:
            for hit in hits:
                record = {"query": query, "rank": hit.rank, "score": hit.score, **hit.row}
                say(writer.dumps(record, ensure_ascii=False, default=str))
            continue
        console.print(Text(query, style="bold"))
        for hit in hits:
            console.print(line(hit.row, hit.score, settings["text"], settings.get("items")), soft_wrap=True)
        if not hits:
            console.print(Text("  no row shares a word with it", style="dim"))
    if not json:
        console.print(Text(f"{1000 * found.seconds:.0f} ms, {found.mode}, {len(found.index):,} rows", style="dim"))
    if told := _weights(found.mode, found.share, given=alpha is not None):
        (Console(stderr=True) if json else console).print(Text(told, style="dim"), soft_wrap=True)


def _weights(mode: str, share: Share, *, given: bool) -> str:
    """What is said of the weights of a hybrid: whose they are; of other modes, that an alpha has no effect."""
    if mode == "hybrid":
        said = f"The dense score counts {share.alpha:g}, BM25 {1 - share.alpha:g} ({share.source})."
        return said if given else f"{said} --alpha sets another."
    return f"--alpha has no effect in the mode {mode}, which has one score." if given else ""


def line(row: dict[str, Any], score: float, text: str | None, items: Mapping[str, Any] | None = None) -> Text:
    """A hit in the terminal: score, place (file and line, or the item's own file, or its row), how the rest begins.

    text: the column of the text, where the index is of texts. items: what else the index says of what it holds.
    """
    from rich.text import Text

    shown, held = Text(f"  {score:6.3f}  ", style="cyan"), items or {}
    if "file" in row and "line" in row:
        shown.append(f"{row['file']}:{row['line']}", style="green")
        shown.append(f"  {row.get('name', '')}  ")
    first = str(row.get("summary") or row.get(text or "", ""))
    if text is None:
        path = row.get(held.get("column") or "")
        place = path if isinstance(path, str) else f"row {row[held['row']]}" if held.get("row") in row else ""
        shown.append(place[:200], style="green")
        left_out = (held.get("column"), held.get("row"))
        first = "  " + "  ".join(f"{name}={cell}" for name, cell in row.items() if name not in left_out)
        shown.append("  ")
    shown.append(" ".join(first.split())[:110], style="dim")
    return shown


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """``("image=cat.png",)`` to modality and value."""
    from counterpoint.errors import ConfigError

    parts = [word.partition("=") for word in words]
    for word, (name, _, value) in zip(words, parts):
        if not (name and value):
            raise ConfigError(f"--item takes NAME=VALUE; {word!r} is none. Type for instance: --item image=cat.png")
    return [(name, value) for name, _, value in parts]


def items_last(arguments: Sequence[str]) -> list[str]:
    """Words of the verb `search` in which ``--NAME VALUE`` of a modality is ``--item NAME=VALUE``, at the end: behind
    an option, no question would be read."""
    from counterpoint.errors import ConfigError
    from counterpoint.modalities.base import discover

    rest, items, words = [], [], iter(arguments)
    for word in words:
        name, sign, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in discover():
            rest.append(word)
            continue
        given = value if sign else next(words, "")
        if not given or given.startswith("--"):
            raise ConfigError(f"--{name} needs what to search for behind it: {discover()[name].one}.")
        items += ["--item", f"{name}={given}"]
    return rest + items
