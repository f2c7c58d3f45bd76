"""`counterpoint refine`: sentences to triplets by a language model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from counterpoint.cli.options import Data, File, Name

if TYPE_CHECKING:
    import datasets

    from counterpoint.data.curate import Triplet
    from counterpoint.decode.generator import Cached, Generator

SERVER = "endpoint"


def refine(
    data: Data,
    /,
    *,
    generator: Annotated[str, arg(metavar="MODEL")],
    out: Annotated[Path, arg(metavar="FILE.jsonl")],
    column: Name = None,
    limit: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    keep: float = 3.0,
    drop: float = 3.0,
    alpha: float = 0.0,
    max_new: int = 64,
    at_once: int = 4,
    per_minute: Annotated[float | None, arg(metavar="N", help_behavior_hint="")] = None,
    timeout: float = 60.0,
    retries: int = 5,
    price: Annotated[tuple[float, float] | None, arg(metavar="READ WRITTEN", help_behavior_hint="")] = None,
    cache: File = None,
    overwrite: bool = False,
) -> None:
    """Make training triplets from plain sentences: a language model writes, and then scores, what is like each and not.

    Example: counterpoint refine sentences.txt --generator endpoint --out triplets.jsonl

    Afterwards: counterpoint fit triplets.jsonl --method multicsr --out runs/mine

    MODEL is `endpoint`, any server with OpenAI's chat/completions that the environment names (COUNTERPOINT_LLM_URL, up
    to /v1; COUNTERPOINT_LLM_MODEL; COUNTERPOINT_LLM_KEY where it wants one), or a language model on this machine, a
    folder or a hub id: a causal one, or one with an encoder and a decoder such as Flan-T5. Answers are kept in a file,
    so the same command costs nothing again, and one that was stopped goes on.

    Args:
        data: files of sentences; or triplets in the columns anchor, positive and negative, which are scored alone.
        generator: endpoint, or a language model's folder or hub id.
        out: the file of triplets to write, with the columns anchor, positive, negative.
        column: which column holds the sentences, where there are several of text.
        limit: take the first so many rows.
        keep: least score of a positive, from 0 (nothing alike) to 5 (the same).
        drop: highest score of a negative.
        alpha: write each side against the instruction of the other, by so much (0: not); not with an endpoint.
        max_new: tokens of a sentence that is written, at most.
        at_once: endpoint: requests under way.
        per_minute: endpoint: requests begun in a minute, at most.
        timeout: endpoint: seconds that one try may take.
        retries: endpoint: tries after the first; then the sentence is dropped, and counted.
        price: of a million tokens read and written, to be told what was spent.
        cache: the file of answers (else beside the triplets).
        overwrite: replace a file that is there.
    """
    from counterpoint.cli.rows import find_column, read_all
    from counterpoint.data.log import Log
    from counterpoint.decode import triplets
    from counterpoint.decode.generator import Cached
    from counterpoint.errors import ConfigError, DataError
    from counterpoint.modalities.text import TEXT

    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists. Name another file, or add --overwrite.")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: at least one row is taken.")
    log = Log()
    rows = read_all(data, log=log)
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    source = _generator(generator, alpha, at_once=at_once, per_minute=per_minute, timeout=timeout, retries=retries)
    cached = Cached(source, cache or out.with_name(f"{out.name}.answers"))
    dropped: Counter[str] = Counter()
    try:
        if column is None and (held := _given(rows, dropped)) is not None:
            curated = triplets.judged(held, cached, keep=keep, drop=drop, say=print)
        else:
            name = find_column(rows, TEXT, column)
            sentences = [text or "" for text in rows[name]]
            settings = {"opposed": alpha > 0, "keep": keep, "drop": drop, "max_new": max_new}
            found = triplets.refine(sentences, cached, **settings, say=print)
            dropped, curated = found.dropped, found.curated
    finally:
        _tell(cached, price)
    for why, count in (dropped + curated.dropped).most_common():
        print(f"Dropped {count:,}: {why}.")
    if not curated.kept:
        raise DataError("No triplet is left, so nothing was written.")
    _write(curated.kept, out)
    turned = f", {curated.swapped:,} of them turned round" if curated.swapped else ""
    print(f"{len(curated.kept):,} triplets of {len(rows):,} rows{turned}: {out}")
    print(f"Next: counterpoint fit {out} --method multicsr --out runs/mine")


def _generator(
    name: str, alpha: float, *, at_once: int, per_minute: float | None, timeout: float, retries: int
) -> Generator:
    from counterpoint.decode.endpoint import Endpoint
    from counterpoint.decode.generator import Local
    from counterpoint.errors import ConfigError
    from counterpoint.workflow.models import writer

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
    from counterpoint.data.curate import Triplet, sound

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


def _tell(cached: Cached, price: tuple[float, float] | None) -> None:
    """What was asked, and what it took; also where the run is ending in an error."""
    spent = ""
    if price is not None:
        spent = f", at a cost of {(cached.read * price[0] + cached.written * price[1]) / 1e6:,.4f}"
    print(
        f"{cached.asked:,} prompts asked, {cached.remembered:,} remembered; {cached.read:,} tokens read and "
        f"{cached.written:,} written{spent}. Answers: {cached.path}"
    )
    for why, count in Counter(cached.whys).most_common(5):
        print(f"No answer to {count:,}: {why} The same command asks for them again.")


def _write(kept: Sequence[Triplet], out: Path) -> None:
    from counterpoint.files import whole_file

    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as aside, aside.open("w", encoding="utf-8") as file:
        for t in kept:
            row = {"anchor": t.anchor, "positive": t.positive, "negative": t.negative}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
