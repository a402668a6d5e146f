"""Panels in, one HTML file out that opens without a network: plotly.js and the figures are in it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from haina.train.scaling.colours import colour
from haina.train.scaling.curves import Curve, Panel, Point

_MARKS = {"fitted": "circle", "left out": "circle-open", "predicted": "star", "best": "diamond"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff; margin: 0 auto; max-width: 1500px;
  padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 1.6rem 0 .3rem; }
.law { font-family: ui-monospace, monospace; } .row { display: flex; flex-wrap: wrap; gap: .5rem; }
.row > div { flex: 1 1 440px; height: 420px; } li { margin: .15rem 0; }
.tables { display: flex; flex-wrap: wrap; gap: .4rem 2.5rem; align-items: flex-start; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
td, th { padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #e3e7ec; font-weight: normal; }
th { color: #5a6673; } td:first-child, th:first-child { text-align: left; }
"""
_SCRIPT = """
for (const [name, figure] of Object.entries(JSON.parse(document.getElementById("figures").textContent)))
  Plotly.newPlot(name, figure.data, figure.layout, {responsive: true, displayModeBar: false});
"""


def _safe(value: Any) -> str:
    return html.escape(str(value), quote=False)


def _traces(curve: Curve) -> list[dict[str, Any]]:
    x = [float(value) for value in curve.x]
    around = {"x": [*x, *reversed(x)], "y": [*map(float, curve.high), *map(float, reversed(curve.low))]}
    fill = {
        "fill": "toself",
        "fillcolor": colour(curve.shade, 0.13),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    line = {"width": 1.8, "color": colour(curve.shade)}
    label = _safe(curve.label)
    return [
        {"type": "scatter", "mode": "lines", "showlegend": False, "legendgroup": label, **around, **fill},
        {
            "type": "scatter",
            "mode": "lines",
            "name": label,
            "legendgroup": label,
            "x": x,
            "y": [float(value) for value in curve.y],
            "line": line,
            "hovertemplate": "%{x:.3s}: %{y:.4f}",
        },
    ]


def _marks(kind: str, points: Sequence[Point], across: bool) -> dict[str, Any]:
    """One trace for all points of a kind; an interval is drawn along the axis that it belongs to."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": "compute-optimal" if kind == "best" else kind,
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "text": [_safe(point.label) for point in points],
        "hovertemplate": "%{text}<br>%{x:.3s}: %{y:.4f}",
        "marker": {
            "symbol": _MARKS[kind],
            "size": 13 if kind == "predicted" else 8,
            "color": [colour(point.shade) for point in points],
            "line": {"width": 2 if kind == "left out" else 0.5, "color": "#1d2733"},
        },
    }
    if all(point.interval is not None for point in points):
        ends = [(point, point.interval) for point in points if point.interval is not None]
        middle = [point.x if across else point.y for point, _ in ends]
        trace["error_x" if across else "error_y"] = {
            "type": "data",
            "symmetric": False,
            # A fit may lie outside of the middle of its draws.
            "array": [max(0.0, found.high - value) for (_, found), value in zip(ends, middle, strict=True)],
            "arrayminus": [
                max(0.0, value - found.low) for (_, found), value in zip(ends, middle, strict=True)
            ],
            "color": "#1d2733",
            "thickness": 1.2,
        }
    return trace


def figure(panel: Panel) -> dict[str, Any]:
    """A panel as a figure of plotly."""
    data = [trace for curve in panel.curves for trace in _traces(curve)]
    for kind in _MARKS:
        points = [point for point in panel.points if point.kind == kind]
        if points:
            data.append(_marks(kind, points, across=kind == "best"))
    x = [float(value) for curve in panel.curves for value in (curve.x[0], curve.x[-1])]
    # 1, 2 and 5 are written on a short axis, powers of ten on a long one.
    ticks = "D2" if max(x) < 300 * min(x) else 1
    axis = {"gridcolor": "#e3e7ec", "zeroline": False}
    layout = {
        "title": {"text": _safe(panel.title), "font": {"size": 14}},
        "margin": {"l": 55, "r": 10, "t": 40, "b": 45},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "legend": {"font": {"size": 11}},
        "xaxis": {
            "type": "log",
            "title": {"text": _safe(panel.x_title)},
            "dtick": ticks,
            "tickformat": ".2~s",
            **axis,
        },
        "yaxis": {"title": {"text": "held-out loss (nats a token)"}, **axis},
    }
    return {"data": data, "layout": layout}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_safe(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def render(
    law: str,
    sections: Mapping[str, Sequence[Panel]],
    tables: Mapping[str, Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]]],
    notes: Sequence[str],
) -> str:
    """The page.

    Args:
        law: its form, in a line.
        sections: panels of each held-out set.
        tables: columns and rows, of each held-out set.
        notes: what a reader has to know.
    """
    from plotly.offline import get_plotlyjs

    figures: dict[str, Any] = {}
    parts = [f'<h1>Scaling law · 规模定律</h1><p class="law">{_safe(law)}</p>']
    parts.append("<ul>" + "".join(f"<li>{_safe(note)}</li>" for note in notes) + "</ul>" if notes else "")
    for number, (name, drawn) in enumerate(sections.items()):
        parts.append(f"<h2>{_safe(name)}</h2>")
        shown = "".join(_table(*table) for table in tables.get(name, ()))
        parts.append(f'<div class="tables">{shown}</div>')
        places = []
        for place, panel in enumerate(drawn):
            figures[f"figure-{number}-{place}"] = figure(panel)
            places.append(f'<div id="figure-{number}-{place}"></div>')
        parts.append(f'<div class="row">{"".join(places)}</div>')
    script = str(get_plotlyjs()).replace("</script", "<\\/script")
    # Nothing in the data may end the element that it stands in.
    data = json.dumps(figures, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Scaling law</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}"
        f'<script type="application/json" id="figures">{data}</script>'
        f"<script>{script}</script><script>{_SCRIPT}</script></body></html>\n"
    )
