"""Mining for a file of pairs: which rows, which corpus, who proposes and judges; the rows with their negatives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from counterpoint.data import objects
from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source, read, train_part
from counterpoint.data.files.tables import cache_folder
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.data.sets import registry
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError, DataError
from counterpoint.files import whole_file, write_json
from counterpoint.modalities.text import TEXT
from counterpoint.search import mine as search
from counterpoint.search.cache import Cache
from counterpoint.search.mine import Counts, Likeness, Mined, Mining, Problem, Scorer, dense, words
from counterpoint.workflow.bulk.embed import fingerprint
from counterpoint.workflow.models import load
from counterpoint.workflow.sources import find_column, read_all, retrieval_set

BM25 = "bm25"
"""In the place of a model: words propose."""
NEGATIVES = "negatives"
_BLOCK = 10_000  # rows written at once


@dataclass(frozen=True, kw_only=True)
class Found:
    """What `mine` wrote to ``out``: counts, and the sentences that tell of them. seconds: of all of it."""

    out: Path
    counts: Counts
    lines: tuple[str, ...]
    seconds: float


def mine(
    model: Path | str,
    data: Source | Any,
    *,
    out: Path | str,
    corpus: Source | Any = (),
    ranks: tuple[int, int] | str = (10, 100),
    ratio: float | Literal["auto"] | None = "auto",
    margin: float | None = None,
    number: int = 5,
    sample: Literal["top", "random"] = "top",
    seed: int = 0,
    guide: Path | str | None = None,
    scores: bool = False,
    columns: Mapping[str, str | list[str]] | None = None,
    corpus_column: str | None = None,
    split: str | None = None,
    tokenizer: Literal["words", "code"] = "words",
    block: int = 16_384,
    cache: Path | None = None,
    reading: Said = None,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Write the rows of pairs with hard negatives; the function behind ``counterpoint mine``, whose options it has.

    model: the run folder or model folder that proposes candidates, or ``bm25``. data: pairs, or a retrieval set. out:
    the file to write, ``.jsonl`` or ``.parquet``. corpus: texts to mine from (none: the positives of all pairs).
    ranks: the window of an anchor's nearest texts that is looked at, from 1. ratio: keep what scores at most this share
    of the positive's score (``auto``: 0.95, and none where words alone judge). margin: keep what scores at least so
    much less. number: negatives for each pair, at most. sample, seed: of the kept ones the first, or any. guide: a
    model folder whose scores decide in place of the model's. scores: also write them. columns: part -> column, where
    names do not tell. corpus_column: the text column of the corpus. split: of the data. tokenizer: what a word is.
    block: texts whose embeddings are in memory at once. cache: the folder of embeddings and scores. reading: what is
    said of files rather than found. say: what tells how far it is (None: nobody).

    Raises `ConfigError` for settings that make no sense, `DataError` for rows that are no pairs of texts.

        counterpoint.mine("runs/mine", "pairs.jsonl", out="mined.jsonl", guide="runs/judge")
    """
    start, log, out = time.perf_counter(), Log(), Path(out)
    if out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--out {out}: the rows are written as .jsonl or .parquet; end the name with one of them.")
    auto = None if str(model) == BM25 and guide is None else 0.95
    mining = Mining(
        ranks=search.ranks(ranks) if isinstance(ranks, str) else ranks,
        ratio=auto if ratio == "auto" else ratio,
        margin=margin,
        number=number,
        sample=sample,
        seed=seed,
    )
    pairs = pairs_of(data, columns=columns or {}, split=split, log=log, reading=reading)
    if not objects.is_nothing(corpus):
        pairs = replace(pairs, corpus=texts_of(corpus, corpus_column, log, reading))
    for line in log.lines():
        (say or _nobody)(line)
    judge = None if guide is None else Path(guide)
    found, kept = mine_pairs(pairs, model, mining, guide=judge, tokenizer=tokenizer, block=block, cache=cache, say=say)
    write(pairs, found, out, scores=scores)
    lines = told(found.counts, mining)
    if kept.read:
        lines.append(f"{kept.read:,} of {kept.read + kept.made:,} blocks of work were done before ({kept.folder}).")
    return Found(out=out, counts=found.counts, lines=tuple(lines), seconds=time.perf_counter() - start)


def _nobody(sentence: str) -> None:
    """Nobody is told."""


def texts_of(source: Source | Any, column: str | None, log: Log, reading: Said = None) -> list[str]:
    """The texts of a source, or the documents of a retrieval set."""
    if (found := retrieval_set(source, to_learn=True)) is not None:
        return list(found.corpus.values())
    rows = read_all(source, log=log, reading=reading)
    return [t for t in rows.with_format("arrow")[:][find_column(rows, TEXT, column)].to_pylist() if t]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of pairs, the texts to mine from (None: the positives), and the rows' columns as they are to be written."""

    anchors: list[str]
    positives: list[str]
    table: datasets.Dataset
    corpus: list[str] | None = None


def pairs_of(
    data: Source | Any, *, columns: Mapping[str, Any], split: str | None, log: Log, reading: Said = None
) -> Pairs:
    """The pairs of files; of a retrieval set, each query with each of its relevant documents. reading: what is said of
    files rather than found.

    Raises `DataError` for rows that are no pairs of texts.
    """
    data = objects.sources(data)
    if (found := retrieval_set(data, split, to_learn=True)) is not None:
        judged = [
            (q, d) for q, row in found.qrels.items() for d, gain in row.items() if gain > 0 and q in found.queries
        ]
        anchors = [found.queries[q] for q, _ in judged]
        positives = [found.corpus[d] for _, d in judged]
        table = datasets.Dataset.from_dict({"anchor": anchors, "positive": positives})
        return Pairs(anchors, positives, table, list(found.corpus.values()))
    raw = read(data, split=split, streaming=False, log=log, reading=reading)
    raw = raw if split else train_part(raw, log)
    schema = infer(raw, columns=registry.parts(data, dict(columns)))
    if schema.kind != "pairs" or set(schema.modalities.values()) != {TEXT}:
        raise DataError(
            f"Negatives are mined for pairs of texts, and these rows are {schema.why} Name the two columns, for "
            "instance: --columns anchor=question,positive=answer"
        )
    rows = Rows(raw, schema, log=log)
    anchors, positives = (rows.column(str(schema.columns[part])).to_pylist() for part in ("anchor", "positive"))
    table, former = rows.dataset.select(rows.index), schema.columns.get(NEGATIVES, [])
    gone = [c for c in dict.fromkeys([*former, NEGATIVES]) if c in table.column_names]
    if gone:
        log.note(f"The rows had negatives already ({', '.join(gone)}): those that are mined take their place.")
    return Pairs(anchors, positives, table.remove_columns(gone))


def mine_pairs(
    pairs: Pairs,
    model: Path | str,
    mining: Mining,
    *,
    guide: Path | None = None,
    tokenizer: str = "words",
    block: int = 16_384,
    cache: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Mined, Cache]:
    """Negatives of the pairs. model: a folder, or ``bm25``. guide: a folder whose model judges. block: texts whose
    embeddings are in memory at once. cache: where embeddings, windows and the guide's scores are kept."""
    if block < 1:
        raise ConfigError(f"--block {block}: at least one text is encoded at once.")
    kept = Cache(cache if cache is not None else cache_folder() / "mine")
    problem = Problem.of(pairs.anchors, pairs.positives, pairs.corpus)
    if str(model) == BM25:
        blocks, name = words(problem, tokenizer=tokenizer), f"{BM25} {tokenizer}"
    else:
        name = fingerprint(Path(model))
        blocks = dense(load(Path(model), TEXT), problem, kept, model=name, block=block)
    judge = None if guide is None else scorer(guide)
    judge_name = "" if guide is None else fingerprint(guide)
    found = search.mine(
        problem, blocks, mining, cache=kept, name=name, guide=judge, guide_name=judge_name, say=say
    )  # fmt: skip
    return found, kept


def scorer(model: Path) -> Scorer:
    """A model folder as a guide: what scores pairs itself, or an encoder by the likeness of two embeddings."""
    found: Encoder | Scorer = load(model, TEXT)
    return Likeness(found) if isinstance(found, Encoder) else found


def write(pairs: Pairs, found: Mined, out: Path, *, scores: bool) -> None:
    """The rows with their negatives, .jsonl or .parquet, whole or not at all, and ``OUT.stats.json`` beside it.

    scores: also the judge's, as ``positive_score`` and ``negative_scores``.
    """
    texts, size = found.texts(), (found.negatives >= 0).sum(axis=1)
    arrow = pairs.table.with_format("arrow")
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    with whole_file(out) as aside, aside.open("wb") as file:
        for start in range(0, len(texts), _BLOCK):
            some = slice(start, start + _BLOCK)
            table = arrow[some].append_column(NEGATIVES, pa.array(texts[some], pa.list_(pa.string())))
            if scores:
                listed = [s[:n].tolist() for s, n in zip(found.scores[some], size[some])]
                table = table.append_column("positive_score", pa.array(found.positive[some], pa.float32()))
                table = table.append_column("negative_scores", pa.array(listed, pa.list_(pa.float32())))
            if out.suffix == ".parquet":
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
                continue
            for row in table.to_pylist():
                file.write((json.dumps(row, ensure_ascii=False, default=str) + "\n").encode("utf-8"))
        if writer is not None:
            writer.close()
    write_json(out.with_name(f"{out.name}.stats.json"), asdict(found.counts))


def told(counts: Counts, mining: Mining) -> list[str]:
    """What was mined and what was not, in sentences, and the margins as bars."""
    first, last = mining.ranks
    lines = [
        f"{counts.mined:,} negatives for {counts.pairs:,} pairs ({counts.anchors:,} anchors), from "
        f"{counts.candidates:,} different texts."
    ]
    if counts.repeated:
        lines.append(f"{counts.repeated:,} texts were there more than once and count once.")
    lines.append(
        f"Left out before ranking: {counts.own:,} texts that would have been among the first {last:,} but are "
        "positives of the same anchor, or copies of them or of the anchor."
    )
    judged = mining.ratio is not None or mining.margin is not None
    share = f"; {counts.too_like:,} ({counts.too_like / max(1, counts.looked_at):.0%}) are as good as the positive, or "
    share += "nearly so, and were dropped"
    lines.append(
        f"Looked at, ranks {first:,} to {last:,}: {counts.looked_at:,} candidates"
        f"{share if judged else ', none of which was judged'}."
    )
    if counts.short or counts.none:
        lines.append(f"{counts.short:,} pairs have fewer than {mining.number}, {counts.none:,} have none.")
    if counts.edges:
        lines.append("How far below the positive the candidates are (kept, dropped):")
        most = max(k + d for k, d in zip(counts.kept, counts.dropped))
        for low, kept, dropped in zip(counts.edges, counts.kept, counts.dropped):
            bar = "█" * round(30 * kept / most) + "░" * round(30 * dropped / most)
            lines.append(f"  {low:+8.3f} {bar:30} {kept:,}, {dropped:,}")
    return lines
