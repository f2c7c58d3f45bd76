"""Hybrid search beside its parts, the share of the dense score fixed, learned by `fit`, or learned from judged queries.

    python bench/hybrid.py                  # about a minute on two cores; needs the folder in COUNTERPOINT_DATA

For each judged set an encoder is trained from scratch by `counterpoint fit` on the documents alone: pairs of a title
and the text below it, or, where documents have no titles, single texts. No query is seen. nDCG@10 of all queries:

- dense, BM25: each alone, BM25 over whole documents;
- fixed: both count one half;
- fit: the share that `fit` learned from pairs that it held out, which `counterpoint index` copies;
- queries: the share learned from a random half of the queries and measured on the other half, as
  `counterpoint index --queries` would for whoever has some that are judged; the mean over ten such halvings.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from _table import Result, finish
from counterpoint import fit
from counterpoint.data.sets.beir import Retrieval
from counterpoint.data.sets.registry import load
from counterpoint.encoders import folder
from counterpoint.evaluate.hybrid_share import ALPHAS, learn_share, lists
from counterpoint.evaluate.intervals import difference, mean
from counterpoint.evaluate.retrieval import Judgements, measure
from counterpoint.search.bm25 import BM25
from counterpoint.search.hybrid import weighted
from counterpoint.workflow.share import of_model

JUDGED = ("cranfield", "cisi", "npl")
METRIC, FIXED, HALVINGS, SEED = "ndcg@10", 0.5, 10, 0


def rows(found: Retrieval) -> list[dict[str, str]]:
    """Title and text of each document, the title not repeated in the text; single texts where there are no titles."""
    pairs = []
    for document in found.corpus.values():
        title, _, text = document.partition("\n")
        text = text.removeprefix(title).strip()
        if title.strip() and text:
            pairs.append({"anchor": title, "positive": text})
    return pairs or [{"text": document} for document in found.corpus.values()]


def measured(name: str, place: Path) -> tuple[dict[str, np.ndarray], float]:
    """nDCG@10 of every query by each system, and the share that `fit` learned."""
    found = load(name)
    data = place / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(found)), encoding="utf-8")
    run = place / name
    fit(data, out=run, train={"progress": False, "tensorboard": False}, say=lambda _: None)
    share = of_model(run)
    assert share is not None
    print(f"{name}: {share.alpha:g}, {share.source}", flush=True)

    encoder = folder.load(run / "model")
    documents, queries = list(found.corpus.values()), list(found.queries.values())
    number = {document: i for i, document in enumerate(found.corpus)}
    relevant = [{number[d]: gain for d, gain in found.qrels[q].items()} for q in found.queries]
    q = encoder.encode(queries, role="query", normalize=True)
    d = encoder.encode(documents, role="document", normalize=True)
    dense, lexical, average = lists(queries, q, d, BM25(documents))

    def values(alpha: float) -> np.ndarray:
        ids = weighted(dense, lexical, k=10, alpha=alpha, average=average)[1]
        return measure(ids, Judgements(relevant), metrics=(METRIC,)).values[METRIC]

    by_share = {alpha: values(alpha) for alpha in ALPHAS}
    own, rng = np.zeros(len(queries)), np.random.default_rng(SEED)
    for _ in range(HALVINGS):
        half = rng.permutation(len(queries)) % 2 == 0
        for learned, tested in ((half, ~half), (~half, half)):
            judged = Judgements([row for row, here in zip(relevant, learned) if here])
            runs = [(scores[learned], ids[learned]) for scores, ids in (dense, lexical)]
            alpha = learn_share(*runs, judged, average=average[learned], metric=METRIC).alpha
            own[tested] += by_share[alpha][tested] / HALVINGS
    systems = {"dense": by_share[1.0], "BM25": by_share[0.0], "fixed": by_share[FIXED]}
    return {**systems, "fit": by_share[share.alpha], "queries": own}, share.alpha


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as place:
        for name in JUDGED:
            found, alpha = measured(name, Path(place))
            cases = {"fixed": f"{FIXED:g}", "fit": f"{alpha:g}, learned by fit", "queries": "learned from queries"}
            for system, case in cases.items():
                for peer in ("dense", "BM25", "fixed")[: 2 if system == "fixed" else 3]:
                    apart = difference(mean(found[system]), mean(found[peer]), draws=2_000, seed=SEED)
                    results.append(
                        Result(
                            case=f"{name}, hybrid, share {case}",
                            metric=f"nDCG@10 (difference {apart})",
                            unit="",
                            ours=float(found[system].mean()),
                            peer=float(found[peer].mean()),
                            peer_name=f"hybrid, share {FIXED:g}" if peer == "fixed" else peer,
                            higher_is_better=True,
                        )
                    )
    finish("hybrid", results)


if __name__ == "__main__":
    main()
