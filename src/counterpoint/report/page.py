"""One self-contained HTML file per run: what ran, curves, monitors, figures beside the baseline, neighbours, a map."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from counterpoint._version import __version__
from counterpoint.errors import DataError, need
from counterpoint.files import write_text
from counterpoint.report import figures

# Monitor -> the sentence under its curve: what it says, and what a healthy run shows.
MONITORS = {
    "alignment": "Mean squared distance of positives: falls as the views of one thing come together.",
    "uniformity": "Log of the mean Gaussian potential: the lower, the more evenly the sphere is used.",
    "effective_rank": "Number of directions in use: below 2, the embeddings have collapsed.",
    "random_cosine": "Mean cosine of random pairs: above 0.95, the embeddings have collapsed.",
    "accuracy": "Share of anchors whose positive is the nearest candidate of the batch.",
    "temperature": "Temperature of the softmax.",
    "grad_norm": "Norm of the gradient before clipping.",
    "lr": "Learning rate.",
    "rows_per_s": "Rows trained per second.",
}


def read(path: Path, kind: type, left_out: list[str]) -> Any:
    """What a JSON file of the run holds; None where there is no such file, or it is damaged, which is then told.

    path: of the file. kind: type it must hold. left_out: files that are told of; one is added.
    """
    if not path.exists():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        held = error
    if isinstance(held, kind):
        return held
    what = f"{type(held).__name__}: {held}" if isinstance(held, Exception) else f"it holds a {type(held).__name__}"
    left_out.append(f"{path.name} cannot be read and is left out of this page ({what}).")
    return None


def whole(name: str, held: Any, left_out: list[str], use: Callable[[Any], Any]) -> Any:
    """What a file of the run holds, where it can be used as it is meant to be; else None, which is told.

    name: of the file. held: what it holds. left_out: files that are told of; one is added. use: makes of it what is
    shown, and raises where that cannot be.
    """
    try:
        use(held or [])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        if held:
            left_out.append(f"{name} is damaged and is left out of this page.")
        return None
    return held


def neighbours(near: Sequence[Mapping[str, Any]]) -> str:
    """A card for each of a few rows, with the rows nearest to it.

    near: as `counterpoint.report.collect` wrote them.
    """
    body = ""
    for item in near:
        hits = "".join(
            f"<div class=hit><span>{h['score']:.3f}</span><span>{row_of(h, h['text'])}</span></div>"
            for h in item["hits"]
        )
        body += f"<div class=card><div class=query>{row_of(item, item['query'])}</div>{hits}</div>"
    return body


def mapped(points: Mapping[str, Any]) -> tuple[str, figures.Figure]:
    """What the map shows, in a sentence, and its figure.

    points: as `counterpoint.report.collect` wrote them.
    """
    note = f"{len(points['x']):,} of {points['rows']:,} rows, {points['projection']}. Hover shows the row."
    return note, figures.scatter(points)


def read_records(path: Path, left_out: list[str]) -> list[dict[str, Any]]:
    """The logged steps; lines that are cut or damaged (a killed run leaves such) are left out, and counted.

    path: of the file. left_out: what is told of; a sentence is added.
    """
    if not path.exists():
        return []
    records, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            record = False
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append({k: v for k, v in record.items() if v is None or isinstance(v, int | float)})
        elif record is not None:
            damaged += 1
    if damaged:
        left_out.append(f"{damaged:,} lines of {path.name} cannot be read and are left out of this page.")
    return records


def number(value: Any) -> str:
    """A value as a table shows it: whole numbers with commas, others to four figures, anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return html.escape(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def table(header: list[str], rows: list[list[Any]]) -> str:
    """An HTML table; the first column is text, the others are figures.

    header: names of the columns. rows: cells.
    """
    cell = lambda tag, i, v: f"<{tag}{'' if i == 0 else ' class=n'}>{v}</{tag}>"  # noqa: E731
    head = "".join(cell("th", i, html.escape(h)) for i, h in enumerate(header))
    body = "".join("<tr>" + "".join(cell("td", i, number(v)) for i, v in enumerate(r)) + "</tr>" for r in rows)
    return f"<div class=card><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


class Page:
    """Collects sections and figures, then renders them with the plotting library inlined once."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.figures: list[figures.Figure] = []

    def figure(self, figure: figures.Figure) -> str:
        """HTML that holds the place of a chart, drawn when the page opens. figure: its traces and layout."""
        self.figures.append(figure)
        return f'<div class=card><div id="figure{len(self.figures) - 1}"></div></div>'

    def section(self, title: str, note: str, body: str) -> None:
        """Add a section. title: as text. note, body: as HTML."""
        self.parts.append(f"<section><h2>{html.escape(title)}</h2><p>{note}</p>{body}</section>")

    def render(self, title: str, subtitle: str, tiles: list[tuple[str, Any]], *, alarm: str = "") -> str:
        """The page. alarm: HTML that stands in its head.

        title, subtitle: as text. tiles: names and values in the head.
        """
        plotly = need("plotly.offline", "report").get_plotlyjs()
        style = files("counterpoint.report").joinpath("page.css").read_text()
        shown = "".join(f"<div class=tile><b>{number(v)}</b><span>{html.escape(k)}</span></div>" for k, v in tiles)
        # A script ends, or turns into a comment that swallows the page, at what a row says: `</script`, `<!--`.
        data = json.dumps(self.figures, ensure_ascii=False).replace("<", "\\u003c")
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{style}</style></head><body><main><header><h1>{html.escape(title)}</h1>"
            f"<p>{html.escape(subtitle)}</p>{alarm}</header><div class=tiles>{shown}</div>{''.join(self.parts)}"
            f"<footer>Counterpoint {__version__}</footer></main><script>{plotly}</script><script>"
            f"const figures = {data};figures.forEach((f, i) => Plotly.newPlot('figure' + i, f.data, f.layout, "
            "{displayModeBar: false, responsive: true}));</script></body></html>"
        )


def row_of(held: Mapping[str, Any], text: str) -> str:
    """A row among neighbours: its text, and what shows it where no text does (HTML that `Modality.shown` made).

    held: of the neighbours. text: its own.
    """
    return f"{held.get('shown', '')} {html.escape(text)}".strip()


def evaluation(page: Page, metrics: Mapping[str, Any]) -> None:
    """The section of the final figures: a chart, a table per system, the differences with their intervals.

    page: that gets it. metrics: what the run's file holds.
    """
    systems: dict[str, dict[str, Any]] = metrics.get("systems") or {}
    if not systems:
        return
    names = list(dict.fromkeys(m for f in systems.values() for m in f))
    chart = page.figure(figures.bars(systems, metrics.get("intervals") or {}))
    body = (
        chart + "<br>" + table(["system", *names], [[s, *(f.get(m, "–") for m in names)] for s, f in systems.items()])
    )
    differences = metrics.get("differences") or {}
    if differences:
        rows = [
            [name, d.get("metric", ""), d["value"], f"[{d['ci95'][0]:+.4f}, {d['ci95'][1]:+.4f}]"]
            for name, d in differences.items()
        ]
        body += "<br>" + table(["difference", "metric", "value", "95 % interval"], rows)
    page.section("Evaluation", "On rows that were not trained on, beside baselines on the same rows.", body)


def verdict(metrics: Mapping[str, Any]) -> str:
    """What stands in the head of a page: that the model is below a baseline, and what to try. Empty where it is not.

    metrics: what the run's file holds.
    """
    if not metrics.get("verdict"):
        return ""
    commands = "\n".join(map(str, metrics.get("try") or []))
    tried = f"<p>What to try:</p><pre>{html.escape(commands)}</pre>" if commands else ""
    return f"<div class=alarm><b>{html.escape(str(metrics['verdict']))}</b>{tried}</div>"


def write(folder: Path | str) -> Path:
    """Write ``folder/report.html`` from what the run left in its folder; returns its path.

    Reads ``config.json``, ``metrics.jsonl``, ``metrics.json``, ``report/neighbours.json`` and ``report/map.json``, each
    of which may be missing, but not all.
    """
    folder = Path(folder)
    damaged: list[str] = []
    config, metrics = (read(folder / name, dict, damaged) or {} for name in ("config.json", "metrics.json"))
    records = read_records(folder / "metrics.jsonl", damaged)
    if not (config or metrics or records):
        raise DataError(
            f"{folder} holds no run: neither config.json nor metrics.json nor metrics.jsonl is there. "
            "Type: counterpoint report runs/NAME, with the folder that `counterpoint fit` or `counterpoint demo` wrote."
        )
    page = Page()
    near = read(folder / "report" / "neighbours.json", list, damaged)
    points = read(folder / "report" / "map.json", dict, damaged)
    near = whole("neighbours.json", near, damaged, neighbours)
    points = whole("map.json", points, damaged, mapped)
    for note in [*damaged, *(metrics.get("notes") or [])]:
        page.parts.append(f"<div class=note>{html.escape(str(note))}</div>")
    evaluation(page, metrics)
    if records:
        parts = sorted({k for r in records for k in r if k.startswith("loss/")})
        losses = ["loss", *(parts if len(parts) > 1 else [])]
        charts = [figures.curve(records, losses, "loss")]
        evaluated = sorted({k for r in records for k in r if k.startswith("eval/")})
        charts.append(figures.curve(records, evaluated, "evaluation during training"))
        body = "".join(page.figure(c) for c in charts if c)
        page.section("Training", "The objective and its parts at every logged step.", f"<div class=grid>{body}</div>")
        cards = []
        for name, meaning in MONITORS.items():
            chart = figures.curve(records, [name], name.replace("_", " "))
            if chart:
                cards.append(page.figure(chart).replace("</div></div>", f"</div><p class=meaning>{meaning}</p></div>"))
        page.section(
            "Monitors",
            "The geometry of the embeddings while they were learned.",
            f"<div class=grid>{''.join(cards)}</div>",
        )
    if near:
        page.section(
            "Neighbours",
            "For a few rows, the nearest others, with their cosine.",
            f"<div class=grid>{neighbours(near)}</div>",
        )
    if points:
        note, figure = mapped(points)
        page.section("Map", note, page.figure(figure))
    if config:
        pretty = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
        page.section(
            "What ran",
            "Every setting of the run.",
            f"<details class=card><summary>config.json</summary><pre>{pretty}</pre></details>",
        )
    tiles: list[tuple[str, Any]] = []
    for label, value in (
        ("method", metrics.get("method") or config.get("method")),
        ("rows trained on", metrics.get("rows") or metrics.get("pairs")),
        ("queries evaluated", metrics.get("queries")),
        ("steps", records[-1]["step"] if records else None),
        ("seconds in all", round(sum(metrics["seconds"].values()), 1) if metrics.get("seconds") else None),
    ):
        if value is not None:
            tiles.append((label, value))
    path = folder / "report.html"
    title = metrics.get("title") or f"Run {folder.name}"
    subtitle = metrics.get("why") or config.get("why") or ""
    write_text(path, page.render(title, subtitle, tiles, alarm=verdict(metrics)))
    return path
