"""The corpus part of the report: funnel, languages, duplicates, quarantine, signals.

In: `corpus/summary.json`. Out: what each section's template shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from haina.recipe.report import charts, river
from haina.recipe.report.data import RunData
from haina.recipe.report.numbers import ratio
from haina.recipe.report.text import STEPS, clip, differences, step_name, step_name_zh

PREVIEW_COLUMNS = 360
MOST_QUARANTINED = 50
MOST_EXAMPLES = 8


def _reasons(summary: Mapping[str, Any]) -> dict[str, list[tuple[str, int]]]:
    """Reasons by step, steps in the order of the pipeline, reasons by falling count."""
    steps: dict[str, list[tuple[str, int]]] = {}
    for row in summary.get("by_reason", []):
        steps.setdefault(str(row["stage"]), []).append((str(row["reason"]), int(row["count"])))
    order = [*(step for step in STEPS if step in steps), *sorted(step for step in steps if step not in STEPS)]
    return {step: sorted(steps[step], key=lambda item: (-item[1], item[0])) for step in order}


def funnel(run: RunData) -> dict[str, Any]:
    """The stream of pages, the reasons table, and the steps with what remained after each."""
    summary = run.corpus.need()
    pages, documents = int(summary["pages"]), int(summary["documents"])
    reasons = _reasons(summary)
    steps = [river.Step(step_name(code), step_name_zh(code), found) for code, found in reasons.items()]
    rows: list[dict[str, Any]] = []
    for code, found in reasons.items():
        for position, (reason, records) in enumerate(found):
            first = (
                {"name": step_name(code), "name_zh": step_name_zh(code), "span": len(found)}
                if not position
                else None
            )
            rows.append({"step": first, "reason": reason, "count": records, "share": ratio(records, pages)})
    largest = max((row["count"] for row in rows), default=1)
    return {
        "pages": pages,
        "documents": documents,
        "dropped": summary.get("dropped", pages - documents),
        "river": river.draw(pages, steps),
        "rows": [{**row, "bar": row["count"] / max(largest, 1)} for row in rows],
        "funnel": [{**step, "share": ratio(step["remaining"], pages)} for step in summary.get("funnel", [])],
        "bytes_read": summary.get("bytes_read"),
        "text_bytes": summary.get("text_bytes"),
        "ignored_files": summary.get("ignored_files"),
    }


def languages(run: RunData) -> dict[str, Any]:
    """Documents, characters and bytes of each language, and the histogram of lengths."""
    summary = run.corpus.need()
    table = summary["by_language"]
    total = sum(row["bytes"] for row in table.values())
    rows = [{"code": code, **row, "share": ratio(row["bytes"], total) or 0.0} for code, row in table.items()]
    rows.sort(key=lambda row: (-row["bytes"], row["code"]))
    histogram = summary.get("length_histogram") or {}
    edges, counts = histogram.get("edges") or [], histogram.get("counts") or {}
    figure = charts.length_histogram(edges, counts) if len(edges) > 1 and counts else None
    return {"rows": rows, "figures": {"lengths": figure} if figure else {}}


def _page(page: Mapping[str, Any]) -> dict[str, str]:
    return {"id": str(page.get("id", "")), "url": str(page.get("url") or "")}


def duplicates(run: RunData) -> dict[str, Any]:
    """Counts of duplicates, and pairs side by side with what differs marked."""
    found = run.corpus.need()["duplicates"]
    examples = []
    for example in found.get("examples", [])[:MOST_EXAMPLES]:
        kept = clip(str(example["kept"].get("preview", "")), PREVIEW_COLUMNS)
        removed = clip(str(example["removed"].get("preview", "")), PREVIEW_COLUMNS)
        ours, theirs = differences(kept, removed)
        sides = [
            {"title": "kept", "title_zh": "保留", "pieces": ours, **_page(example["kept"])},
            {"title": "removed", "title_zh": "去除", "pieces": theirs, **_page(example["removed"])},
        ]
        examples.append({"similarity": example.get("similarity"), "sides": sides})
    return {**{key: found.get(key) for key in ("exact", "near", "clusters")}, "examples": examples}


def edits(run: RunData) -> dict[str, Any]:
    """What was cut inside documents, by reason, and how much of the text that was."""
    summary = run.corpus.need()
    rows = [
        {key: str(row[key]) for key in ("reason", "unit")}
        | {key: int(row[key]) for key in ("count", "bytes")}
        for row in summary["edits"]
    ]
    removed = sum(int(row["bytes"]) for row in summary["edits"])
    return {
        "rows": rows,
        "total": sum(int(row["count"]) for row in summary["edits"]),
        "bytes": removed,
        "share": ratio(removed, removed + int(summary["text_bytes"])),
    }


def quarantine(run: RunData) -> dict[str, Any]:
    """Files and records that could not be read."""
    summary = run.corpus.need()
    listed = summary.get("quarantine", [])[:MOST_QUARANTINED]
    rows = [{key: str(row.get(key, "")) for key in ("source", "reason", "evidence")} for row in listed]
    total = sum(int(row["count"]) for row in summary.get("by_reason", []) if row.get("stage") == "read")
    return {"rows": rows, "total": max(total, len(rows))}


def signals(run: RunData) -> dict[str, Any]:
    """Each signal's quantiles (5, 25, 50, 75, 95 %) by language, on one scale a signal."""
    quantiles = run.corpus.need()["signal_quantiles"]
    rows = []
    for name, by_language in quantiles.items():
        strips = {
            code: values for code, values in by_language.items() if len(values) == 5 and None not in values
        }
        if not strips:
            continue
        low = min(values[0] for values in strips.values())
        high = max(values[4] for values in strips.values())
        span = (high - low) or 1
        shown = [
            {"code": code, "values": values, "at": [round(100 * (value - low) / span, 2) for value in values]}
            for code, values in strips.items()
        ]
        rows.append({"name": str(name).removeprefix("signal."), "low": low, "high": high, "strips": shown})
    return {"rows": rows}
