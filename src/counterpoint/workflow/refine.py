"""`refine`: sentences to triplets that a language model writes and scores."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from counterpoint.data.curate import Triplet, sound
from counterpoint.data.files.read import Source
from counterpoint.data.log import Log
from counterpoint.decode import triplets
from counterpoint.decode.endpoint import Endpoint
from counterpoint.decode.generator import Cached, Generator, Local
from counterpoint.errors import ConfigError, DataError
from counterpoint.files import whole_file
from counterpoint.modalities.text import TEXT
from counterpoint.workflow.models import writer
from counterpoint.workflow.sources import find_column, read_all

SERVER = "endpoint"
"""In the place of a language model: a server that the environment names."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What `refine` wrote to ``out``. rows: that were read; triplets: that were written; swapped: of these, those whose
    negative was the better positive; dropped: why -> how many."""

    out: Path
    rows: int
    triplets: int
    swapped: int
    dropped: dict[str, int]


def refine(
    data: Source | Any,
    *,
    generator: str,
    out: Path | str,
    column: str | None = None,
    limit: int | None = None,
    keep: float = 3.0,
    drop: float = 3.0,
    alpha: float = 0.0,
    max_new: int = 64,
    at_once: int = 4,
    per_minute: float | None = None,
    timeout: float = 60.0,
    retries: int = 5,
    price: tuple[float, float] | None = None,
    cache: Path | str | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> Refined:
    """Make triplets of sentences, or score those that rows hold; the function behind ``counterpoint refine``.

    data: sentences, or triplets in the columns anchor, positive and negative. generator: ``endpoint``, or a language
    model's folder or hub id. out: the file to write, jsonl. column: of the sentences. limit: rows that are taken. keep:
    lowest score of a positive, drop: highest of a negative (1 to 5). alpha: how much each side is written against the
    instruction of the other. max_new: tokens of a sentence. at_once, per_minute, timeout, retries: of requests to a
    server. price: of a million tokens read and written. cache: the file of answers. overwrite: replace a file that is
    there. say: what tells how far it is and what it took (None: nobody).

    Raises `ConfigError` for settings that make no sense and a file that is there, `DataError` where nothing is left.

        counterpoint.refine({"text": ["A cat sleeps."]}, generator="endpoint", out="triplets.jsonl").triplets
    """
    out, told = Path(out), say or (lambda sentence: None)
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists. Name another file, or add --overwrite.")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: at least one row is taken.")
    log = Log()
    rows = read_all(data, log=log)
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    source = _generator(generator, alpha, at_once=at_once, per_minute=per_minute, timeout=timeout, retries=retries)
    cached = Cached(source, Path(cache) if cache else out.with_name(f"{out.name}.answers"))
    dropped: Counter[str] = Counter()
    try:
        if column is None and (held := _given(rows, dropped)) is not None:
            curated = triplets.judged(held, cached, keep=keep, drop=drop, say=told)
        else:
            name = find_column(rows, TEXT, column)
            sentences = [text or "" for text in rows[name]]
            found = triplets.refine(
                sentences, cached, opposed=alpha > 0, keep=keep, drop=drop, max_new=max_new, say=told
            )
            dropped, curated = found.dropped, found.curated
    finally:
        for line in _spent(cached, price):
            told(line)
    lost = dict((dropped + curated.dropped).most_common())
    if not curated.kept:
        raise DataError(" ".join([*dropped_lines(lost), "No triplet is left, so nothing was written."]))
    _write(curated.kept, out)
    return Refined(out=out, rows=len(rows), triplets=len(curated.kept), swapped=curated.swapped, dropped=lost)


def dropped_lines(dropped: dict[str, int]) -> list[str]:
    """How many sentences were dropped for which reason."""
    return [f"Dropped {count:,}: {why}." for why, count in dropped.items()]


def _generator(
    name: str, alpha: float, *, at_once: int, per_minute: float | None, timeout: float, retries: int
) -> Generator:
    if alpha < 0:
        raise ConfigError(f"--alpha {alpha}: give 0, which leaves the other instruction out, or more.")
    if name != SERVER:
        return Local(writer(name), name, alpha=alpha)
    if alpha:
        raise ConfigError(
            f"--alpha {alpha}: a server gives texts, not the probabilities that this takes. Leave it out, or name a "
            "language model on this machine."
        )
    return Endpoint.from_environment(at_once=at_once, per_minute=per_minute, timeout=timeout, retries=retries)


def _given(rows: datasets.Dataset, dropped: Counter[str]) -> list[Triplet] | None:
    """The triplets that rows hold already; None: these are no triplets."""
    name = next((n for n in ("negative", "negatives") if n in rows.column_names), None)
    if name is None or not {"anchor", "positive"} <= set(rows.column_names):
        return None
    out = []
    for row in rows:
        negative = row[name][0] if isinstance(row[name], list) and row[name] else row[name]
        triplet = Triplet(*(str(text or "") for text in (row["anchor"], row["positive"], negative)))
        if why := sound(triplet):
            dropped[why] += 1
        else:
            out.append(triplet)
    return out


def _spent(cached: Cached, price: tuple[float, float] | None) -> list[str]:
    """What was asked, and what it took; also where the run is ending in an error."""
    spent = ""
    if price is not None:
        spent = f", at a cost of {(cached.read * price[0] + cached.written * price[1]) / 1e6:,.4f}"
    asked = f"{cached.asked:,} prompts asked, {cached.remembered:,} remembered"
    tokens = f"{cached.read:,} tokens read and {cached.written:,} written{spent}"
    why = Counter(cached.whys).most_common(5)
    silent = [f"No answer to {count:,}: {reason} The same command asks for them again." for reason, count in why]
    return [f"{asked}; {tokens}. Answers: {cached.path}", *silent]


def _write(kept: Sequence[Triplet], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as aside, aside.open("w", encoding="utf-8") as file:
        for t in kept:
            row = {"anchor": t.anchor, "positive": t.positive, "negative": t.negative}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
