"""The page of a diagnosis: figures with their sentences, the hardness of the loss by temperature, cosines, hubs."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.evaluate.findings import Diagnosis
from counterpoint.report.figures import COLOURS, INK, Figure, layout
from counterpoint.report.page import Page, number


def write(found: Diagnosis, path: Path | str, *, name: str = "") -> Path:
    """Write the page to ``path`` (one self-contained HTML file); returns the path.

    found: by `counterpoint.evaluate.diagnose`. name: of the model, for the title.
    """
    page = Page()
    acts = [f for f in found.findings if f.act]
    cells = "".join(
        f"<tr><td>{'!' if f.act else ''}</td><td>{html.escape(f.name)}</td>"
        f"<td class=n>{'–' if f.value is None else number(f.value)}</td><td>{html.escape(f.says)}</td></tr>"
        for f in found.findings
    )
    head = (
        "<thead><tr><th></th><th>figure</th><th class=n>value</th><th>what it means, what to change</th></tr></thead>"
    )
    page.section(
        "Findings",
        "Bounds are rules of thumb; an exclamation mark asks for a change.",
        f"<div class=card><table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>",
    )
    pictures = "".join(page.figure(f) for f in (hardness(found), cosines(found), occurrences(found)) if f is not None)
    note = "How many negatives the loss pushes at each temperature, how near rows are, how often a row is a neighbour."
    page.section("Pictures", note, f"<div class=grid>{pictures}</div>")
    for title, rows in found.examples.items():
        page.section(title[0].upper() + title[1:], "Rows to look at.", examples(rows))
    for said in found.notes:
        page.parts.append(f"<div class=note>{html.escape(said)}</div>")
    tiles: list[tuple[str, Any]] = [("figures that ask for a change", len(acts)), *reversed(list(found.counts.items()))]
    if found.temperature is not None:
        tiles.append(("training temperature", found.temperature))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(f"Diagnosis of {name}" if name else "Diagnosis", "", tiles), encoding="utf-8")
    return path


def examples(rows: list[dict[str, Any]]) -> str:
    """A table whose columns of texts wrap.

    rows: column -> text.
    """
    names = list(rows[0])
    kind = {n: "" if isinstance(rows[0][n], str) else " class=n" for n in names}
    head = "".join(f"<th{kind[n]}>{html.escape(n)}</th>" for n in names)
    body = "".join("<tr>" + "".join(f"<td{kind[n]}>{number(row[n])}</td>" for n in names) + "</tr>" for row in rows)
    return f"<div class=card><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def titled(text: str, x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout with a title and names of the axes. text: the title. x, y: the names. more: of `layout`."""
    shown = layout(height=330, title={"text": text, "font": {"size": 13}, "x": 0.02}, **more)
    for axis, title in (("xaxis", x), ("yaxis", y)):
        shown[axis] = {**shown[axis], "title": {"text": title}}
    return shown


def hardness(found: Diagnosis) -> Figure | None:
    """Negatives that the loss pushes over the temperature, with that of the training marked.

    found: the diagnosis. None where it knows of no negatives.
    """
    if not found.hardness:
        return None
    curve: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(found.hardness),
        "y": list(found.hardness.values()),
        "line": {"color": COLOURS[0], "width": 2},
        "hovertemplate": "T = %{x}: %{y:.1f} negatives<extra></extra>",
    }
    log = {"type": "log", "dtick": 1}
    shown = titled("Negatives pushed", "temperature", "effective number", xaxis=log, yaxis=log)
    if found.temperature is not None:
        at = {"type": "line", "x0": found.temperature, "x1": found.temperature, "yref": "paper", "y0": 0, "y1": 1}
        shown["shapes"] = [{**at, "line": {"color": COLOURS[1], "width": 2, "dash": "dot"}}]
        mark = {
            "x": float(np.log10(found.temperature)),
            "y": 1,
            "yref": "paper",
            "text": "training",
            "showarrow": False,
        }
        shown["annotations"] = [{**mark, "xanchor": "left", "yanchor": "top", "font": {"color": COLOURS[1]}}]
    shown["showlegend"] = False
    return {"data": [curve], "layout": shown}


def cosines(found: Diagnosis) -> Figure:
    """How near two random rows, a row and its nearest other one, and positives are.

    found: the diagnosis.
    """
    centres = [round(-0.98 + 0.04 * i, 2) for i in range(50)]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": centres,
            "y": shares,
            "line": {"color": colour, "width": 2, "shape": "hvh"},
            "fill": "tozeroy",
            "opacity": 0.8,
        }
        for colour, (name, shares) in zip(COLOURS, found.histograms.items())
    ]
    some = [x for x, *shares in zip(centres, *found.histograms.values()) if any(s > 0.001 for s in shares)]
    across = {"range": [min(some) - 0.05, 1]} if some else {}
    shown = titled("Cosines", "cosine", "share", xaxis=across, legend={"y": 1, "x": 0.02, "orientation": "v"})
    return {"data": traces, "layout": shown}


def occurrences(found: Diagnosis) -> Figure:
    """How many rows are among the nearest of how many others.

    found: the diagnosis.
    """
    counts = np.bincount(found.occurrences)
    step = max(1, len(counts) // 60)
    bars = np.add.reduceat(counts, np.arange(0, len(counts), step))
    trace = {
        "type": "bar",
        "x": (np.arange(len(bars)) * step).tolist(),
        "y": bars.tolist(),
        "marker": {"color": COLOURS[2], "line": {"color": INK, "width": 0}},
        "hovertemplate": "%{y} rows are the neighbour of %{x}<extra></extra>",
    }
    shown = titled("Neighbour of how many others", "others", "rows", bargap=0.02, yaxis={"type": "log", "dtick": 1})
    shown["showlegend"] = False
    return {"data": [trace], "layout": shown}
