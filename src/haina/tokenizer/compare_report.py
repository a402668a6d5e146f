"""A comparison as one HTML file that opens without a network.

In: `Comparison.as_dict()`. Out: a page with bytes per token of every text and vocabulary, encode speed, what the
vocabularies consist of, and the full table below.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

from haina.runtime.files import write_text

Figure = dict[str, Any]
ALL = "all"
# Okabe and Ito's colours, which people with any colour vision tell apart, and four more for long lists.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"),
    *("#e69f00", "#6a51a3", "#8c6d31", "#7f7f7f", "#17becf"),
)
SCRIPT_COLOURS = {
    "Han": "#d55e00",
    "Latin": "#0072b2",
    "kana": "#e69f00",
    "Hangul": "#cc79a7",
    "Cyrillic": "#009e73",
    "Greek": "#8c6d31",
    "Arabic": "#6a51a3",
    "other letters": "#56b4e9",
    "several scripts": "#17becf",
    "numbers": "#bdbd22",
    "punctuation and symbols": "#9a9a9a",
    "spaces and line ends": "#c9c9c9",
    "control and unassigned": "#666666",
    "bytes and parts of characters": "#444444",
    "special and unknown": "#e2e2e2",
}
ROW_HEIGHT = 26
LEGEND_HEIGHT = 110
MARGIN = {"l": 8, "r": 56, "t": 8, "b": 36}


def _layout(rows: int, title: str, **more: Any) -> dict[str, Any]:
    return {
        "height": ROW_HEIGHT * rows + 66,
        "margin": MARGIN,
        "bargap": 0.22,
        "showlegend": False,
        "font": {"size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"title": {"text": title}, "rangemode": "tozero", "automargin": True, "fixedrange": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "fixedrange": True, "type": "category"},
        **more,
    }


def _bars(names: list[str], values: list[float | None], largest: float, title: str, form: str) -> Figure:
    """One horizontal bar for each vocabulary, with its value at the end, on an axis that reaches to `largest`."""
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": values,
        "text": ["" if value is None else format(value, form) for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [COLOURS[number % len(COLOURS)] for number in range(len(names))]},
        "hovertemplate": "%{y}: %{x}<extra></extra>",
    }
    layout = _layout(len(names), title)
    layout["xaxis"]["range"] = [0, largest * 1.12]
    return {"data": [trace], "layout": layout}


def _panels(comparison: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(title, rows) for each file and language, then for each language that several files hold."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in comparison["results"]:
        if row["language"] != ALL:
            groups.setdefault((row["text"], row["language"]), []).append(row)
    in_files = Counter(language for file, language in groups if file != ALL)
    return [
        (f"{'all files' if file == ALL else file} · {language}", rows)
        for (file, language), rows in groups.items()
        if file != ALL or in_files[language] > 1
    ]


def _scripts(vocabularies: list[dict[str, Any]]) -> Figure:
    """What each vocabulary consists of: pieces by script, stacked; how many were used stands in the hover text."""
    traces = []
    for script, colour in SCRIPT_COLOURS.items():
        rows = [
            next((row for row in vocabulary["by_script"] if row["script"] == script), None)
            for vocabulary in vocabularies
        ]
        if any(rows):
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": script,
                    "y": [vocabulary["name"] for vocabulary in vocabularies],
                    "x": [row["pieces"] if row else 0 for row in rows],
                    "customdata": [row["used"] if row else 0 for row in rows],
                    "marker": {"color": colour},
                    "hovertemplate": "%{y}, "
                    + script
                    + ": %{x:,} pieces, %{customdata:,} used<extra></extra>",
                }
            )
    layout = _layout(len(vocabularies), "pieces", barmode="stack", showlegend=True)
    layout["margin"] = {**MARGIN, "b": MARGIN["b"] + LEGEND_HEIGHT}
    layout["height"] += LEGEND_HEIGHT
    layout["legend"] = {
        "orientation": "h",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
        "traceorder": "normal",
    }
    return {"data": traces, "layout": layout}


def _rows_shown(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows but the sum over languages of a file that has only one."""
    languages: dict[str, set[str]] = {}
    for row in results:
        languages.setdefault(row["text"], set()).add(row["language"])
    return [row for row in results if row["language"] != ALL or len(languages[row["text"]]) > 2]


def _scripts_present(vocabularies: list[dict[str, Any]]) -> list[str]:
    present = {row["script"] for vocabulary in vocabularies for row in vocabulary["by_script"]}
    return [script for script in SCRIPT_COLOURS if script in present]


def figures(comparison: dict[str, Any]) -> dict[str, tuple[str, Figure]]:
    """Name of the element -> (title, figure in Plotly's JSON form)."""
    found: dict[str, tuple[str, Figure]] = {}
    speeds: dict[str, list[dict[str, Any]]] = {}
    for row in comparison["results"]:
        if row["text"] == ALL and row["language"] != ALL:
            speeds.setdefault(f"all files · {row['language']}", []).append(row)
    kinds = (
        ("rate", _panels(comparison), "bytes_per_token", "bytes per token", ".3f"),
        ("speed", list(speeds.items()), "megabytes_per_second", "MB/s", ".1f"),
    )
    for kind, panels, key, title, form in kinds:
        largest = max((row[key] or 0.0 for _, rows in panels for row in rows), default=0.0) or 1.0
        for number, (name, rows) in enumerate(panels):
            names, values = [row["vocabulary"] for row in rows], [row[key] for row in rows]
            found[f"{kind}-{number}"] = (name, _bars(names, values, largest, title, form))
    found["scripts"] = ("Pieces by script", _scripts(comparison["vocabularies"]))
    return found


def _embedded(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it that HTML could read as a tag."""
    data = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return data


def render(comparison: dict[str, Any]) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("haina.tokenizer").joinpath("compare_report.html.jinja").read_text(encoding="utf-8")
    found = figures(comparison)
    return environment.from_string(source).render(
        comparison=comparison,
        rows=_rows_shown(comparison["results"]),
        scripts=_scripts_present(comparison["vocabularies"]),
        titles={name: title for name, (title, _) in found.items()},
        figures=Markup(_embedded({name: figure for name, (_, figure) in found.items()})),
        plotly=Markup(str(get_plotlyjs()).replace("\r\n", "\n").replace("</script", "<\\/script")),
    )


def write_report(comparison: dict[str, Any], target: Path) -> None:
    """Write the page, atomically.

    Raises:
        HainaError: the file cannot be written.
    """
    write_text(target, render(comparison))
