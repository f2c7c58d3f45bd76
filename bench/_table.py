"""What every benchmark shares: rows in, a printed table and bench/results/NAME.json out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured figure beside the same figure of a named peer, both from this run.

    ratio: > 1 means ours is better, whatever the direction of the metric; None where there is no peer.
    """

    case: str
    metric: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    peer_version: str = ""
    higher_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        if not self.peer or not self.ours:
            return None
        return self.ours / self.peer if self.higher_is_better else self.peer / self.ours


def finish(name: str, results: Iterable[Result], *, device: str | None = None, threads: int | None = None) -> None:
    """Print the table and write ``bench/results/NAME.json``."""
    import torch

    about = {
        "device": device or processor(),
        "threads": torch.get_num_threads() if threads is None else threads,
        "commit": commit(),
    }
    rows = list(results)
    show(
        ["case", "metric", "unit", "ours", "peer", "peer's name", "ratio"],
        [
            [
                r.case,
                r.metric,
                r.unit,
                number(r.ours),
                number(r.peer),
                f"{r.peer_name} {r.peer_version}".strip(),
                number(r.ratio),
            ]
            for r in rows
        ],
    )
    print("  ".join(f"{k}: {v}" for k, v in about.items()))
    RESULTS.mkdir(exist_ok=True)
    out = []
    for r in rows:
        row = asdict(r)
        del row["higher_is_better"]
        out.append({**row, "ratio": r.ratio, **about})
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(out, indent=1) + "\n")
    print(f"written: {path}")


def show(head: list[str], rows: list[list[str]]) -> None:
    """A table in aligned columns, which is also a Markdown table."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print("| " + " | ".join(c.ljust(w) for c, w in zip(head, widths, strict=True)) + " |")
    print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    for row in rows:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")


def number(value: float | None) -> str:
    """Three or four meaningful digits."""
    if value is None:
        return "-"
    if value and abs(value) < 0.01:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def commit() -> str:
    """The short hash of the commit that was measured, with ``+`` behind it when the tree held other changes."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", "../src", ".", ":!results")
        return git("rev-parse", "--short", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """The processor's own name, and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"cpu: {line.partition(':')[2].strip()}, {cores} cores"
    return f"cpu: {platform.processor() or platform.machine()}, {cores} cores"
