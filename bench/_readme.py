"""Writes bench/README.md, the last table of every benchmark with its command, and the tables that pages of docs/ quote.

python bench/_readme.py
python bench/_readme.py --check     # fails where a page is not as bench/results say
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from _table import RESULTS, number

Row: TypeAlias = dict[str, Any]

HEAD = """# Benchmarks

Each script prints a table of ratios against a named peer, measured in the same run, and writes `results/NAME.json`;
this page is written from those files by `python bench/_readme.py`. A ratio above 1 means that ours is better. Absolute
times belong to the machine named under each table. `make bench` runs them all.
"""


def section(path: Path) -> str:
    rows = json.loads(path.read_text())
    script = path.with_suffix(".py").name
    doc = ast.get_docstring(ast.parse((RESULTS.parent / script).read_text())) or ""
    out = [f"\n## {path.stem}\n\n{doc.strip().splitlines()[0]}\n\n`python bench/{script}`\n"]
    out.append("\n| case | metric | unit | ours | peer | peer's name | ratio |\n|---|---|---|---:|---:|---|---:|\n")
    for r in rows:
        cells = [r["case"], r["metric"], r["unit"], number(r["ours"]), number(r["peer"])]
        cells += [f"{r['peer_name']} {r['peer_version']}".strip(), number(r["ratio"])]
        out.append("| " + " | ".join(cells) + " |\n")
    about = rows[0]
    out.append(f"\n{about['device']}, {about['threads']} threads, commit {about['commit']}.\n")
    return "".join(out)


def quoted(page: str, name: str, table: Callable[[list[Row]], list[str]]) -> str:
    """A page with the figures of a benchmark between its marks ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    rows = json.loads((RESULTS / f"{name}.json").read_text())
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, after = page[: page.index(start) + len(start)], page[page.index(end) :]
    about, n = rows[0]["device"], rows[0]["threads"]
    measured = f"{about}, {n} thread{'s' * (n != 1)}."
    return before + "\n".join(["", *table(rows), "", measured, ""]) + after


def by_case(rows: list[Row]) -> list[str]:
    """A column per case, a line per metric."""
    cases, metrics = distinct(rows, "case"), distinct(rows, "metric")
    found = {(r["metric"], r["case"]): f"{number(r['ours'])} {r['unit']}" for r in rows}
    return markdown(["", *cases], [[m, *(found.get((m, c), "-") for c in cases)] for m in metrics])


def beside_peer(rows: list[Row]) -> list[str]:
    """A line per metric: ours, the peer's, their ratio. What was measured, the case, stands before the table."""
    (case,) = distinct(rows, "case")
    (peer,) = {f"{r['peer_name']} {r['peer_version']}" for r in rows if r["peer_name"]}
    lines = [[f"{r['metric']}, {r['unit']}", *map(number, (r["ours"], r["peer"], r["ratio"]))] for r in rows]
    return [f"{case}:", "", *markdown(["", "ours", peer, "ratio (above 1: ours is better)"], lines)]


def by_vector(rows: list[Row]) -> list[str]:
    """A line per kind of vector: the quality by each metric, the bytes, and the share of them that is saved."""
    found = {(r["case"], r["metric"]): r for r in rows}
    size = "a vector"
    metrics = [m for m in distinct(rows, "metric") if m != size]
    lines = []
    for case in distinct(rows, "case"):
        values = [f"{found[case, m]['ours']:.3f}" if (case, m) in found else "" for m in metrics]
        whole, kept = (found[case, size][side] for side in ("peer", "ours"))
        lines.append([case, *values, f"{kept:,}", f"{1 - kept / whole:.1%}"])
    return markdown(["", *metrics, "bytes of a vector", "saved"], lines)


def distinct(rows: list[Row], key: str) -> list[str]:
    return list(dict.fromkeys(r[key] for r in rows))


def markdown(head: list[str], lines: list[list[str]]) -> list[str]:
    """A table: its first column names the lines, the others hold numbers."""
    table = ["|".join(f" {cell} " if cell else " " for cell in cells) for cells in (head, *lines)]
    return [f"|{line}|" for line in (table[0], "|".join(["---", *["---:"] * (len(head) - 1)]), *table[1:])]


QUOTED = {"engine.md": ("tile", by_case), "mining.md": ("mine", beside_peer), "cheap-vectors.md": ("cheap", by_vector)}
"""Pages of docs/ that quote a benchmark, and how."""


def pages() -> dict[Path, str]:
    """Every page that is written from the results, as it should be."""
    out = {RESULTS.parent / "README.md": HEAD + "".join(section(p) for p in sorted(RESULTS.glob("*.json")))}
    for name, (bench, table) in QUOTED.items():
        page = RESULTS.parents[1] / "docs" / name
        out[page] = quoted(page.read_text(), bench, table)
    return out


if __name__ == "__main__":
    stale = {page: text for page, text in pages().items() if not page.exists() or page.read_text() != text}
    names = ", ".join(str(page.relative_to(RESULTS.parents[1])) for page in stale)
    if "--check" in sys.argv[1:]:
        sys.exit(f"Not as bench/results say: {names}. Type: python bench/_readme.py" if stale else 0)
    for page, text in stale.items():
        page.write_text(text)
    print(f"written: {names}" if stale else "All pages are as bench/results say.")
