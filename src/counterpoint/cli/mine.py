"""`counterpoint mine`: hard negatives for pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from counterpoint.cli.options import AS_FOUND, Data, File, Name, Pairs, Read, Sources
from counterpoint.cli.options import columns as column_parts

Share = Annotated[str, arg(metavar="SHARE|none", help_behavior_hint="")]


def mine(
    model: Annotated[Positional[str], arg(metavar="MODEL|bm25", help_behavior_hint="")],
    data: Data,
    /,
    *,
    out: Annotated[Path, arg(metavar="FILE")],
    corpus: Sources = (),
    ranks: Annotated[str, arg(metavar="FIRST-LAST")] = "10-100",
    ratio: Share = "auto",
    margin: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    number: int = 5,
    sample: Literal["top", "random"] = "top",
    seed: int = 0,
    guide: File = None,
    scores: bool = False,
    columns: Pairs = (),
    corpus_column: Name = None,
    split: Name = None,
    tokenizer: Literal["words", "code"] = "words",
    block: int = 16_384,
    cache: File = None,
    files: Read = AS_FOUND,
) -> None:
    """Find hard negatives: for each pair, texts near the anchor that are not its positive; train on what is written.

    Example: counterpoint mine runs/mine pairs.jsonl --out mined.jsonl

    Example: counterpoint mine bm25 pairs.jsonl --corpus documents.jsonl --guide runs/judge --out mined.parquet

    Then: counterpoint fit mined.jsonl --out runs/second

    The nearest texts are often right answers that nobody marked, the far ones teach nothing. So candidates come from a
    window of ranks, and must score clearly below the pair's own positive. A positive of the same anchor is never mined,
    nor a copy of one or of the anchor. A job that was killed goes on where it was when the same command is typed again;
    with other ranks or margins nothing is encoded again.

    Args:
        model: the run folder or model folder that proposes candidates, or bm25 (shared words, no model).
        data: files of pairs (anchor, positive), as for `fit`; or a retrieval set, of which each query is paired with
            each relevant document.
        out: the file to write, .jsonl or .parquet: the rows with a column `negatives`; FILE.stats.json: the counts.
        corpus: files of texts to mine from, or a retrieval set (none: the positives of all pairs).
        ranks: of the anchor's nearest texts, which are looked at, counted from 1. Few texts? Begin earlier: 1-20.
        ratio: keep what scores at most this share of the positive's score (auto: 0.95; with bm25 none, since words do
            not tell a wrong answer from a right one, which a guide does).
        margin: keep what scores at least so much less than the positive (none: only the ratio counts).
        number: negatives for each pair, at most.
        sample: top: the first in rank that are kept; random: any of the window.
        seed: of random.
        guide: a better model folder whose scores decide about ratio and margin in place of MODEL's: an encoder, or a
            cross-encoder. It looks at no more candidates than it must.
        scores: also write `positive_score` and `negative_scores`, for instance to distil a guide.
        columns: which column plays which part, e.g. anchor=question,positive=answer (none: names and types decide).
        corpus_column: the text column of the corpus (none: the only one, or `text`).
        split: which split of the data (none: train where there are several).
        tokenizer: what a word is for bm25: words, or code (identifiers split into parts).
        block: texts whose embeddings are in memory at once.
        cache: where embeddings and scores are kept, by model and text (none: the cache folder, which may be deleted).
        files: how files are read, where that is not found by looking at them.
    """
    from counterpoint.terminal import say
    from counterpoint.workflow.mine import mine as run

    found = run(
        model,
        list(data),
        out=out,
        corpus=list(corpus),
        ranks=ranks,
        ratio="auto" if ratio == "auto" else _share(ratio),
        margin=margin,
        number=number,
        sample=sample,
        seed=seed,
        guide=guide,
        scores=scores,
        columns=column_parts(columns),
        corpus_column=corpus_column,
        split=split,
        tokenizer=tokenizer,
        block=block,
        cache=cache,
        reading=files.reading(),
        say=say,
    )
    for line in found.lines:
        say(line)
    say(f"{found.seconds:.1f} s: {out}")
    say(f"Train on it: counterpoint fit {out} --out RUN")


def _share(text: str) -> float | None:
    from counterpoint.errors import ConfigError

    if text == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--ratio {text}: a share such as 0.95, or none.") from error
