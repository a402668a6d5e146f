"""Plotly figures as plain data: curves, histograms and bars with error bars.

In: numbers from the summaries. Out: `{"data": [...], "layout": {...}}` in Plotly's JSON form, in which
colours are `{"var": "--name"}`: the page's script puts the stylesheet's value there, so that one figure
serves the light, the dark and the printed page.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from haina.recipe.report.text import language_class, language_name

Figure = dict[str, Any]
LONGEST_CURVE = 2000


def colour(name: str) -> dict[str, str]:
    """A colour of the stylesheet."""
    return {"var": f"--{name}"}


def label(text: object) -> str:
    """Text for a figure: Plotly reads a little HTML in labels, which no suite name may write."""
    return html.escape(str(text), quote=False)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    """The rows that hold both numbers, thinned evenly to about `LONGEST_CURVE`; the last one is kept."""
    found = [(row[x], row[y]) for row in rows if _finite(row.get(x)) and _finite(row.get(y))]
    stride = max(1, math.ceil(len(found) / LONGEST_CURVE))
    kept = found[::stride]
    if found and kept[-1] != found[-1]:
        kept.append(found[-1])
    return [float(px) for px, _ in kept], [float(py) for _, py in kept]


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """Centred moving average over 2 * span + 1 values, over fewer near the ends, without lag."""
    sums = [0.0, *itertools.accumulate(values)]
    last = len(values) - 1
    reach = [min(span, place, last - place) for place in range(len(values))]
    return [(sums[i + near + 1] - sums[i - near]) / (2 * near + 1) for i, near in enumerate(reach)]


def length_histogram(edges: Sequence[float], counts: Mapping[str, Sequence[float]]) -> Figure:
    """Documents by length in characters, one step curve a language, on a logarithmic axis."""
    traces = []
    for code, values in counts.items():
        if len(values) != len(edges) - 1:
            continue
        # An interval is drawn from edge to edge: the last count is repeated so that its step has a right end.
        heights = [*values, values[-1]] if values else []
        ranges = [
            f"{low:,.0f} – {high:,.0f}" for low, high in zip(edges, [*edges[1:], edges[-1]], strict=True)
        ]
        name = language_class(code)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label(language_name(code)),
                "x": [max(edge, 1) for edge in edges],
                "y": heights,
                "customdata": ranges,
                "line": {"shape": "hv", "width": 1.8, "color": colour(name)},
                "fill": "tozeroy",
                "fillcolor": colour(f"{name}-soft"),
                "hovertemplate": "%{customdata} characters: %{y:,} documents",
            }
        )
    layout = {
        "height": 320,
        "hovermode": "x unified",
        "xaxis": {
            "type": "log",
            "title": {"text": "characters in the document"},
            "dtick": 1,
            "tickformat": ",d",
        },
        "yaxis": {"title": {"text": "documents"}, "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def loss_curve(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Training loss as logged, its moving average, and the held-out loss of each language, by step."""
    steps, losses = points(metrics, "step", "loss")
    span = max(2, len(losses) // 40)
    hover = "%{y:.4f}"
    raw = {"mode": "lines", "name": "training", "line": {"width": 1, "color": colour("faint")}}
    mean = {
        "mode": "lines",
        "name": "training, moving average",
        "line": {"width": 2, "color": colour("accent")},
    }
    traces = [
        {"type": "scatter", "x": steps, "y": losses, "hovertemplate": hover, **raw},
        {"type": "scatter", "x": steps, "y": smoothed(losses, span), "hovertemplate": hover, **mean},
    ]
    rows = [row for row in metrics if isinstance(row.get("validation"), dict)]
    for code in sorted({code for row in rows for code in row["validation"]}, reverse=True):
        x, y = points(
            [{"step": row.get("step"), "loss": row["validation"].get(code)} for row in rows], "step", "loss"
        )
        marker = {
            "size": 7,
            "color": colour(language_class(code)),
            "line": {"width": 1, "color": colour("paper")},
        }
        name = f"held out, {language_name(code)}"
        line = {"width": 1.5, "dash": "dot", "color": colour(language_class(code))}
        drawn = {"mode": "lines+markers", "name": label(name), "marker": marker, "line": line}
        traces.append({"type": "scatter", "x": x, "y": y, "hovertemplate": hover, **drawn})
    layout = {
        "height": 380,
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": "loss (nats a token)"}},
    }
    return {"data": traces, "layout": layout}


def step_curve(
    metrics: Sequence[Mapping[str, Any]], key: str, title: str, *, logarithmic: bool = False
) -> Figure:
    """One logged number by step."""
    x, y = points(metrics, "step", key)
    line = {"width": 1.6, "color": colour("accent")}
    trace = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hovertemplate": "%{y:.4g}"}
    axis = {
        "title": {"text": label(title)},
        "exponentformat": "power",
        # On a logarithmic axis only 1, 2 and 5 are written.
        **({"type": "log", "dtick": "D2"} if logarithmic else {}),
    }
    layout = {
        "height": 250,
        "hovermode": "x unified",
        "showlegend": False,
        "xaxis": {"title": {"text": "step"}},
    }
    return {"data": [{**trace, "name": label(title)}], "layout": {**layout, "yaxis": axis}}


def suite_bars(suites: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy with its 95 % interval, and the best score that giving one letter always would reach."""
    names = [label(suite["suite"]) for suite in suites]
    rows = list(range(len(suites)))[::-1]
    shared = {"type": "scatter", "y": rows, "mode": "markers"}
    accuracy = {
        **shared,
        "name": "accuracy ± 1.96 standard errors",
        "x": [suite["accuracy"] for suite in suites],
        "error_x": {
            "array": [suite["interval"] for suite in suites],
            "thickness": 2,
            "width": 6,
            "color": colour("accent"),
        },
        "marker": {"size": 11, "color": colour("accent")},
        "hovertemplate": "%{x:.1%}",
    }
    constant = {
        **shared,
        "name": "always the same letter (best one)",
        "x": [suite["constant"] for suite in suites],
        "marker": {"size": 18, "symbol": "line-ns-open", "line": {"width": 2}, "color": colour("muted")},
        "hovertemplate": "%{x:.1%}",
    }
    layout = {
        "height": 130 + 46 * len(suites),
        "xaxis": {"range": [0, 1], "tickformat": ".0%", "dtick": 0.25},
        "yaxis": {"tickvals": rows, "ticktext": names, "range": [-0.6, len(suites) - 0.4], "showgrid": False},
    }
    return {"data": [constant, accuracy], "layout": layout}
