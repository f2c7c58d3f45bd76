"""What `counterpoint prove` found, as a table for the terminal, as a picture, and as a part of a page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

Evidence = Mapping[str, Any]
"""An ``evidence/METHOD.json``: {method, verdict, claim, metrics: [{name, ablation, higher_is_better, method_mean,
ablation_mean, diff, ci95, seeds}], wall_seconds, hardware, data, commit, command}."""

HEAD = ("metric", "ablation", "method", "ablation's", "difference [95 %]", "the method is")
DECIDES = "↑ higher is better, ↓ lower. The first metric decides."


def says(entry: Mapping[str, Any]) -> str:
    """``better``, ``worse`` or ``undecided``: what the interval of a difference says of the method.

    entry: of ``metrics``.
    """
    if entry["ci95"] is None or entry["ci95"][0] <= 0 <= entry["ci95"][1]:
        return "undecided"
    return "better" if (entry["diff"] > 0) == entry["higher_is_better"] else "worse"


def number(x: float) -> str:
    """Three figures after the point; of a small number, its first two.

    x: any.
    """
    return f"{x:.3f}" if x == 0 or abs(x) >= 0.01 else f"{x:.2g}"


def rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """The cells of the table, in the order of `HEAD`.

    evidence: of one method.
    """
    out: list[tuple[str, ...]] = []
    before = ""
    for e in evidence["metrics"]:
        bounds = "" if e["ci95"] is None else f" [{_signed(e['ci95'][0])}, {_signed(e['ci95'][1])}]"
        name = f"{e['name']} {'↑' if e['higher_is_better'] else '↓'}"
        means = number(e["method_mean"]), number(e["ablation_mean"])
        out.append(("" if name == before else name, e["ablation"], *means, f"{_signed(e['diff'])}{bounds}", says(e)))
        before = name
    return out


def few(seeds: int) -> str:
    """The sentence that says how far so many seeds reach."""
    if seeds == 1:
        return "One seed has no interval, so nothing can be shown. Add --seeds 3."
    wide = f"{seeds} seeds, paired; intervals by Student's t with {seeds - 1} degrees of freedom"
    return f"{wide}. So few seeds make them wide." if seeds < 6 else f"{wide}."


def table(evidence: Evidence) -> Table:
    """For the terminal. The first metric decides the verdict.

    evidence: of one method.
    """
    out = Table(title=f"{evidence['method']}: {evidence['verdict']}", caption=f"{DECIDES} {ran(evidence)}")
    for i, name in enumerate(HEAD):
        out.add_column(name, justify="right" if i in (2, 3, 4) else "left")
    for cells in rows(evidence):
        if cells[0] and out.row_count:
            out.add_section()
        out.add_row(*map(Text, cells))
    return out


def ran(evidence: Evidence) -> str:
    """How long it took, on what, at which commit.

    evidence: of one method.
    """
    minutes = evidence["wall_seconds"] / 60
    return f"{minutes:.1f} min on {evidence['hardware']}, commit {evidence['commit']}"


def markdown(evidence: Evidence | None, arms: Mapping[str, str], *, picture: str = "") -> str:
    """The part of a method's page. arms: name -> what it is, the method first. picture: address of the SVG ('': none).

    evidence None: nothing was measured yet, and the page says so.
    """
    if evidence is None:
        return "## Evidence\n\nNo evidence yet.\n"
    seeds = max((e["seeds"] for e in evidence["metrics"]), default=0)
    lines = [f"## Evidence: {evidence['verdict']}\n", f"> {evidence['claim']}\n"]
    lines += [f"- **{arm}**{'' if i else ' (the method)'}: {what}" for i, (arm, what) in enumerate(arms.items())]
    lines += ["", "| " + " | ".join(HEAD) + " |", "|---|---|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows(evidence)]
    lines += ["", f"{few(seeds)} {DECIDES} Data: {', '.join(evidence['data'])}. {ran(evidence)}.", ""]
    if picture:
        lines += [f"![Every seed of every arm, and the differences with their intervals]({picture})", ""]
    lines += [f"```bash\n{evidence['command']}\n```\n", "[How to read this](../evidence.md)\n"]
    return "\n".join(lines)


def _signed(x: float) -> str:
    return ("+" if x >= 0 else "−") + number(abs(x))


# --- the picture -----------------------------------------------------------------------------------------------

WIDTH, ROW, TOP, GAP = 760, 22, 34, 26
NAMES, DOTS, APART = 12, (150, 420), (470, 745)
"""Where the names begin, and from where to where the two panels reach."""
INK, FAINT, OURS, THEIRS = "#1d2433", "#b8c0cf", "#2f5bd0", "#d9622b"


def svg(evidence: Evidence, figures: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Per metric: on the left a dot for every seed of every arm, on the right the differences with their intervals.

    figures: arm -> the figures of each seed by metric; the method first. evidence: of one method.
    """
    parts, y = [], 22.0
    parts.append(_text(NAMES, y, f"{evidence['method']}: {evidence['verdict']}", weight="bold", size=15))
    for metric in dict.fromkeys(e["name"] for e in evidence["metrics"]):
        entries = {e["ablation"]: e for e in evidence["metrics"] if e["name"] == metric}
        values = {arm: [f[metric] for f in found] for arm, found in figures.items()}
        y += TOP
        parts += _panel(metric, entries, values, y)
        y += ROW * (len(values) + 1) + GAP
    drawn = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>\n'
        f"{drawn}\n</svg>\n"
    )


def _panel(
    metric: str, entries: Mapping[str, Mapping[str, Any]], values: Mapping[str, Sequence[float]], y: float
) -> list[str]:
    every = [x for found in values.values() for x in found]
    place = _scale(min(every), max(every), DOTS)
    bounds = [x for e in entries.values() for x in (0.0, e["diff"], *(e["ci95"] or ()))]
    apart = _scale(min(bounds), max(bounds), APART)
    higher = next(iter(entries.values()))["higher_is_better"]
    out = [
        _text(NAMES, y, f"{metric} ({'higher' if higher else 'lower'} is better)", weight="bold"),
        _text(APART[0], y, "method − ablation, 95 % interval"),
    ]
    bottom = y + ROW * (len(values) + 0.4)
    out.append(_line(apart(0), y + ROW * 0.5, apart(0), bottom, FAINT, dash="4 3"))
    for i, (arm, found) in enumerate(values.items(), 1):
        middle, colour = y + ROW * i, THEIRS if arm in entries else OURS
        out.append(_text(NAMES, middle + 4, arm if len(arm) < 22 else arm[:20] + "…"))
        out.append(_line(*(DOTS[0], middle, DOTS[1], middle), FAINT))
        mean = place(math.fsum(found) / len(found))
        out.append(_line(mean, middle - 8, mean, middle + 8, colour, width=2))
        out += [_dot(place(x), middle, colour) for x in found]
        if arm in entries:
            e = entries[arm]
            if e["ci95"]:
                out.append(_line(apart(e["ci95"][0]), middle, apart(e["ci95"][1]), middle, INK, width=2))
            out.append(_dot(apart(e["diff"]), middle, INK))
    for place_of, ends, (low, high) in (
        (place, DOTS, (min(every), max(every))),
        (apart, APART, (min(bounds), max(bounds))),
    ):
        out.append(_text(place_of(low), bottom + 12, number(low), colour="#5b6577", size=11))
        if place_of(high) - place_of(low) > 60:
            out.append(_text(ends[1] - 8, bottom + 12, number(high), colour="#5b6577", size=11, anchor="end"))
    return out


def _scale(low: float, high: float, ends: tuple[int, int]) -> Any:
    """From values to places between the ends, with a margin; where all values are one, it lies in the middle."""
    left, right = ends[0] + 8, ends[1] - 8
    if high == low:
        return lambda x: (left + right) / 2
    return lambda x: left + (x - low) / (high - low) * (right - left)


def _text(
    x: float, y: float, text: str, *, weight: str = "normal", size: int = 12, colour: str = INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}">{html.escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.7"/>'
