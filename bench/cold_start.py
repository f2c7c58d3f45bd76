"""What a shell waits for: processor seconds of commands that need no training, beside what an import of torch takes.

    python bench/cold_start.py

Each command is a process of its own, the least of five. The peer is `import torch`, the first of what these commands
would import if they did as the ones that train do; the index holds 60,000 texts by a static encoder.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from _table import Result, finish
from counterpoint.encoders import folder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.search.index import Index

ROWS, TIMES = 60_000, 5
WORDS = "river stone cloud mountain green blue song quick slow deep winter summer house road light".split()  # noqa: SIM905


def seconds(*words: str) -> float:
    """Processor seconds of a Python process, user and system, the least of some."""
    found = []
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
        subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(found)


def built(root: Path) -> Path:
    """An index of texts made of a few words."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 8)) + f" {i}" for i in range(ROWS)]
    encoder = StaticText.from_texts(texts[:5_000], StaticTextConfig(dim=256))
    folder.save(encoder, root / "model")
    Index.build(root / "index", [{"text": text} for text in texts], encoder=encoder, model=root / "model")
    return root / "index"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        rows = root / "pairs.jsonl"
        rows.write_text("".join(f'{{"anchor": "question {i}", "positive": "answer {i}"}}\n' for i in range(300)))
        commands = {
            "--help": ["--help"],
            "methods simcse": ["methods", "simcse"],
            "data inspect pairs.jsonl": ["data", "inspect", str(rows)],
            f"search an index of {ROWS:,} texts": ["search", str(built(root)), "a green river"],
        }
        peer = seconds("-c", "import torch")
        shared = {"metric": "processor time", "unit": "s", "peer": peer, "peer_name": "import torch"}
        results = [Result(case=name, ours=seconds("-m", "counterpoint", *w), **shared) for name, w in commands.items()]
    finish("cold_start", results, threads=1)


if __name__ == "__main__":
    main()
