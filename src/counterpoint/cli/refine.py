"""`counterpoint refine`: sentences to triplets by a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from counterpoint.cli.options import Data, File, Name


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
    from counterpoint.terminal import say
    from counterpoint.workflow.refine import dropped_lines
    from counterpoint.workflow.refine import refine as run

    found = run(
        list(data),
        generator=generator,
        out=out,
        column=column,
        limit=limit,
        keep=keep,
        drop=drop,
        alpha=alpha,
        max_new=max_new,
        at_once=at_once,
        per_minute=per_minute,
        timeout=timeout,
        retries=retries,
        price=price,
        cache=cache,
        overwrite=overwrite,
        say=say,
    )
    for line in dropped_lines(found.dropped):
        say(line)
    turned = f", {found.swapped:,} of them turned round" if found.swapped else ""
    say(f"{found.triplets:,} triplets of {found.rows:,} rows{turned}: {out}")
    say(f"Next: counterpoint fit {out} --method multicsr --out runs/mine")
