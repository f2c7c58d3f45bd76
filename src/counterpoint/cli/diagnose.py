"""`counterpoint diagnose`: what ails an embedding space, and what to change."""

from __future__ import annotations

import json as writer
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from counterpoint.cli.options import AS_FOUND, Data, File, Model, Name, Pairs, Read
from counterpoint.cli.options import columns as column_parts

if TYPE_CHECKING:
    from rich.table import Table

    from counterpoint.evaluate.findings import Diagnosis


def diagnose(
    model: Model,
    data: Data,
    /,
    *,
    columns: Pairs = (),
    split: Name = None,
    temperature: Annotated[float | None, arg(metavar="T", help_behavior_hint="")] = None,
    limit: int = 5_000,
    json: File = None,
    html: File = None,
    files: Read = AS_FOUND,
) -> None:
    """Say what ails the embeddings of a model on data, and what to change: temperature, batch, data, whitening.

    Pairs, scored pairs (those with high scores are positives), items with labels or without, rows of two modalities,
    retrieval sets. Measured: alignment, uniformity, tolerance, how many negatives the loss pushes at each temperature,
    isotropy, effective rank, hubs, duplicates, neighbours that are likely false negatives. Each figure has a sentence;
    an exclamation mark asks for a change.

    Example: counterpoint diagnose runs/mine test.jsonl --html diagnosis.html

    Args:
        model: a run folder, a model folder, or any sentence-transformers or transformers folder.
        data: files of rows as for `fit`, a registered set (`counterpoint data` lists them), or a BEIR folder.
        columns: which column plays which part, e.g. anchor=question,positive=answer (none: names and types decide).
            With range=0..5, scores outside of it are refused.
        split: which split of the data (none: test where there are several).
        temperature: that of the training (none: what the run folder says).
        limit: most rows looked at, spread evenly.
        json: also write the figures to this file.
        html: also write a page with pictures and examples to this file.
        files: how files are read, where that is not found by looking at them.
    """
    from counterpoint.terminal import sentences
    from counterpoint.workflow.diagnose import diagnose as run

    console = sentences()
    found = run(
        model,
        list(data),
        columns=column_parts(columns),
        split=split,
        temperature=temperature,
        limit=limit,
        reading=files.reading(),
    )
    console.print(table(found, model.name))
    for name, rows in found.examples.items():
        if name != "hubs":
            console.print(f"{name}, for example: " + "; ".join(f"{k}: {v}" for k, v in shortened(rows[0]).items()))
    for note in found.notes:
        console.print(note)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(writer.dumps(found.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")
        console.print(f"Written to {json}")
    if html is not None:
        from counterpoint.report.diagnosis import write

        console.print(f"Written to {write(found, html, name=model.name)}")


def table(found: Diagnosis, name: str) -> Table:
    """The findings, a line each."""
    from rich.table import Table

    counts = ", ".join(f"{n:,} {what}" for what, n in found.counts.items())
    acts = sum(f.act for f in found.findings)
    out = Table(title=f"{name}: {acts} of {len(found.findings)} figures ask for a change", caption=counts)
    out.add_column("")
    out.add_column("figure")
    out.add_column("value", justify="right", no_wrap=True)
    out.add_column("what it means, what to change")
    for f in found.findings:
        value = "–" if f.value is None else f"{f.value:,.3g}" if abs(f.value) < 1000 else f"{f.value:,.0f}"
        out.add_row("!" if f.act else "", f.name, value, f.says, style="bold" if f.act else "")
    return out


def shortened(row: dict[str, object], most: int = 60) -> dict[str, object]:
    """An example for one line of a terminal."""
    cut = {k: v if len(v) <= most else v[: most - 1] + "…" for k, v in row.items() if isinstance(v, str)}
    return {k: cut.get(k, round(v, 3) if isinstance(v, float) else v) for k, v in row.items()}
