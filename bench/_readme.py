"""Writes bench/README.md: the last table of every benchmark, with its command. Type: python bench/_readme.py"""

from __future__ import annotations

import ast
import json
from pathlib import Path

from _table import RESULTS, number

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


def quote(page: Path, name: str) -> None:
    """Put the figures of a benchmark between the marks ``<!-- NAME -->`` and ``<!-- /NAME -->`` of a page: a column per
    case."""
    rows = json.loads((RESULTS / f"{name}.json").read_text())
    cases, metrics = (list(dict.fromkeys(r[key] for r in rows)) for key in ("case", "metric"))
    found = {(r["metric"], r["case"]): f"{number(r['ours'])} {r['unit']}" for r in rows}
    table = ["| | " + " | ".join(cases) + " |", "|---|" + "---:|" * len(cases)]
    table += [f"| {m} | " + " | ".join(found.get((m, c), "-") for c in cases) + " |" for m in metrics]
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = page.read_text()
    before, after = text[: text.index(start) + len(start)], text[text.index(end) :]
    page.write_text(
        before + "\n".join(["", *table, "", f"{rows[0]['device']}, {rows[0]['threads']} threads.", ""]) + after
    )


if __name__ == "__main__":
    page = RESULTS.parent / "README.md"
    page.write_text(HEAD + "".join(section(p) for p in sorted(RESULTS.glob("*.json"))))
    quote(RESULTS.parents[1] / "docs" / "engine.md", "tile")
    print(page)
