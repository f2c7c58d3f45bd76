"""How much the dense score should count in a hybrid of dense and lexical search: learned from pairs that were held out.

A grid of shares is tried. The better of the two parts alone is left only for a share that is better than it by one
standard error of the paired difference, so that a hybrid is not worse than its better part beyond what the pairs can
tell (the one-standard-error rule of Breiman et al. 1984, with the better part in the place of the simplest model).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.evaluate.retrieval import Judgements, measure
from counterpoint.evaluate.tasks import Ranking
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import Run
from counterpoint.search.hybrid import DEFAULT, Share, both, weighted
from counterpoint.search.quantise import Vectors

ALPHAS = tuple(round(0.1 * i, 1) for i in range(11))
FEWEST = 20
"""Queries below which a choice is noise: the default is then better on average."""
DEPTH = 200
METRIC = "ndcg@10"


def learn_share(
    dense: Run,
    lexical: Run,
    judgements: Judgements,
    *,
    average: np.ndarray | None = None,
    metric: str = METRIC,
    source: str = "learned on {n} pairs",
) -> Share:
    """The share of the dense score that is best for the queries, or the better part alone (see above).

    dense, lexical: rankings of the same Q queries, 100 deep and more. judgements: of these queries. average: (Q,) see
    `weighted`. metric: per query, as of `measure`. source: a clause about the pairs, ``{n}`` in the place of their
    number.

    The default, without figures, where every share is equally good and for fewer than `FEWEST` queries. Raises
    DataError where none can be judged.
    """
    tried = {a: weighted(dense, lexical, k=100, alpha=a, average=average)[1] for a in ALPHAS}
    values = np.stack([measure(ids, judgements, metrics=(metric,)).values[metric] for ids in tried.values()])
    n = values.shape[1]
    if n < FEWEST:
        return Share(DEFAULT.alpha, f"the default, as {n} pairs are too few to learn it from ({FEWEST} are needed)")
    if not np.ptp(values, axis=0).any():
        return Share(DEFAULT.alpha, f"the default, as {n:,} pairs are answered equally well with every share")
    chosen, means = _chosen(values), values.mean(axis=1)
    figures = {
        "metric": metric, "queries": n, "bm25": float(means[0]), "dense": float(means[-1]),
        "hybrid": float(means[chosen]),
    }  # fmt: skip
    return Share(ALPHAS[chosen], source.format(n=f"{n:,}"), figures)


def learn_from_pairs(
    encoder: Encoder,
    pairs: Sequence[Row],
    *,
    tokenizer: str = "words",
    metric: str = METRIC,
    source: str = "learned on {n} pairs",
) -> Share:
    """As `learn_share`, from pairs (anchor, positive) of texts: each anchor must find its positive among all of them.

    The pairs must be new to the encoder, and so must the texts that they are found among: it knows those it has seen
    too well to be judged by them.

    encoder: of texts. pairs: N rows. tokenizer: of BM25. metric: what the share is the best for. source: a sentence
    that says where the share is from.

    >>> from counterpoint.encoders.static import StaticText
    >>> pairs = [{"anchor": f"question {i} of many", "positive": f"answer {i}"} for i in range(20)]
    >>> share = learn_from_pairs(StaticText.example(), pairs)
    >>> 0 <= share.alpha <= 1
    True
    """
    ranking = Ranking.of_pairs(pairs, "anchor", "positive")
    queries = encoder.encode(ranking.queries, role="query", normalize=True)
    documents = encoder.encode(ranking.documents, role="document", normalize=True)
    words = BM25(ranking.documents, tokenizer=tokenizer)
    dense, lexical, average = lists(ranking.queries, queries, documents, words)
    return learn_share(dense, lexical, ranking.judgements, average=average, metric=metric, source=source)


def lists(
    queries: Sequence[str], embedded: np.ndarray, documents: np.ndarray, words: BM25, *, depth: int = DEPTH
) -> tuple[Run, Run, np.ndarray]:
    """What `learn_share` and `weighted` take, of documents in memory.

    embedded, documents: unit vectors ``(Q, D)`` of the queries and ``(M, D)``. words: BM25 of the same documents.
    queries: Q texts. depth: rows of each ranking.
    """
    vectors = Vectors.of(documents)
    return both(vectors.nearest(embedded, depth), queries, embedded, vectors=vectors, bm25=words, depth=depth)


def told(share: Share) -> str:
    """A share, what it was chosen by, and where it comes from, in a sentence."""
    said = f"In a hybrid search the dense score counts {share.alpha:g} of 1: {share.source}"
    if by := share.figures:
        each = ", ".join(f"{name} {by[key]:.3f}" for name, key in (("dense", "dense"), ("BM25", "bm25")))
        said += f" ({by['metric']}: {each}, hybrid {by['hybrid']:.3f})"
    return f"{said}."


def _chosen(values: np.ndarray) -> int:
    """Which share of those in order, ``(A, Q)`` a metric of each query; the first and the last are the parts alone."""
    means = values.mean(axis=1).round(9)
    part = 0 if means[0] >= means[-1] else len(means) - 1
    best = max(range(len(means)), key=lambda a: (means[a], -abs(a - len(means) // 2)))  # of equals, the most mixed
    gain = values[best] - values[part]
    error = gain.std(ddof=1) / len(gain) ** 0.5
    # A single query's gain is one error to the last digit: what differs by rounding only is not more.
    return best if gain.mean() > error * (1 + 1e-9) else part
