"""The report's figures, as plain dictionaries in Plotly's format: curves, bars with intervals, a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

INK, GRID = "#1d2433", "#e6e9f0"
COLOURS = (
    "#2f5bd0",
    "#d9622b",
    "#2a9d78",
    "#a03fb0",
    "#b8860b",
    "#4c6072",
    "#c2325e",
    "#3aa0c9",
    "#7a8b2f",
    "#8c564b",
)

Figure = dict[str, Any]


def layout(**more: Any) -> dict[str, Any]:
    """The usual layout of a chart, as plotly takes it. more: what is otherwise."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#b8c0cf",
        "ticks": "outside",
        "tickcolor": "#b8c0cf",
    }
    base = {
        "font": {"family": "Inter, system-ui, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 52, "r": 14, "t": 34, "b": 40},
        "height": 250,
        "xaxis": dict(axis),
        "yaxis": dict(axis),
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": -0.25},
    }
    for key, value in more.items():
        base[key] = {**base[key], **value} if isinstance(base.get(key), dict) else value
    return base


def curve(records: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> Figure | None:
    """Logged figures over steps; None where none of them was logged.

    records: one for each logged step. names: of the figures. title: of the chart.
    """
    traces = []
    for colour, name in zip(COLOURS, names):
        points = [(r["step"], r[name]) for r in records if isinstance(r.get(name), int | float)]
        if points:
            xs, ys = zip(*points)
            mode = "lines" if len(points) > 1 else "markers"
            trace = {
                "type": "scatter",
                "mode": mode,
                "x": xs,
                "y": ys,
                "name": name,
                "line": {"color": colour, "width": 2},
            }
            traces.append(trace)
    if not traces:
        return None
    shown = layout(title={"text": title, "font": {"size": 13}, "x": 0.02}, xaxis={"title": {"text": "step"}})
    shown["showlegend"] = len(traces) > 1
    return {"data": traces, "layout": shown}


def bars(systems: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]]) -> Figure:
    """One group of bars per metric, one bar per system, with 95 % intervals where they are known.

    systems: name -> metric -> value. intervals: name -> metric -> bounds.
    """
    metrics = list(dict.fromkeys(m for figures in systems.values() for m in figures))
    traces = []
    for colour, (system, figures) in zip(COLOURS, systems.items()):
        ys = [figures.get(m) for m in metrics]
        trace: dict[str, Any] = {
            "type": "bar",
            "name": system,
            "x": metrics,
            "y": ys,
            "marker": {"color": colour},
        }
        known = intervals.get(system, {})
        if known:
            high = [known[m][1] - y if m in known and y is not None else 0 for m, y in zip(metrics, ys)]
            low = [y - known[m][0] if m in known and y is not None else 0 for m, y in zip(metrics, ys)]
            trace["error_y"] = {
                "type": "data",
                "array": high,
                "arrayminus": low,
                "thickness": 1.2,
                "color": INK,
            }
        traces.append(trace)
    return {"data": traces, "layout": layout(height=330, barmode="group", bargap=0.25)}


def scatter(points: Mapping[str, Any]) -> Figure:
    """The 2-D map of embeddings; hover shows the row. At most nine groups get a colour, the rest is grey.

    points: what `counterpoint.report.collect` wrote.
    """
    groups = points.get("group") or ["rows"] * len(points["x"])
    by_size = sorted(set(groups), key=lambda g: (-groups.count(g), g))
    named = by_size if len(by_size) <= len(COLOURS) else by_size[: len(COLOURS) - 1]
    traces = []
    for colour, group in zip([*COLOURS[: len(named)], "#b8c0cf"], [*named, None]):
        index = [i for i, g in enumerate(groups) if (g == group if group is not None else g not in named)]
        if index:
            traces.append(
                {
                    "type": "scattergl",
                    "mode": "markers",
                    "name": group or "others",
                    "x": [points["x"][i] for i in index],
                    "y": [points["y"][i] for i in index],
                    "text": [points["text"][i] for i in index],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {"color": colour, "size": 5, "opacity": 0.75},
                }
            )
    bare = {"showgrid": False, "showticklabels": False, "ticks": "", "showline": False}
    shown = layout(height=560, xaxis=bare, yaxis=bare, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    shown["showlegend"] = len(traces) > 1
    shown["legend"] = {"orientation": "v", "y": 1, "x": 1.0}
    shown["hoverlabel"] = {"align": "left", "namelength": -1}
    return {"data": traces, "layout": shown}
