"""The page on which a person chooses thresholds.

Comes in: what `collect` found. Goes out: one HTML file that opens without a network: for each measure a histogram with
its bounds, a slider, how many documents a bound at the slider would take, and the documents on both sides of it;
then documents with their cuts struck through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from haina.corpus.look.collect import Look, Sample

GROUP_NAMES = {"zh": "Chinese 中文", "en": "English and others 英文及其他"}


def rounded(value: float) -> float:
    """Six digits: more would only make the page larger."""
    return float(f"{value:.6g}")


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "facts": sample.facts,
        "pieces": sample.pieces,
        "measured": {name: rounded(value) for name, value in sample.measured.items()},
    }


def payload(look: Look, meanings: Mapping[str, str]) -> dict[str, Any]:
    """The page's data, as plain JSON values."""
    return {
        "groups": [
            {
                "name": GROUP_NAMES[group],
                "documents": look.documents[group],
                "spreads": [
                    {
                        "name": item.name,
                        "meaning": meanings.get(item.name, ""),
                        "low": item.low,
                        "high": item.high,
                        "below": item.below,
                        "above": item.above,
                        "logarithmic": item.logarithmic,
                        "edges": [rounded(edge) for edge in item.edges],
                        "counts": item.counts,
                        "quantiles": [rounded(value) for value in item.quantiles],
                        "shown": [(key, rounded(value)) for key, value in item.shown],
                    }
                    for item in spreads
                ],
            }
            for group, spreads in look.spreads.items()
        ],
        "samples": {key: _sample(sample) for key, sample in look.samples.items()},
        "cuts": [
            {"reason": reason, "unit": unit, "count": count}
            for (reason, unit), count in sorted(look.cuts.items(), key=lambda pair: (-pair[1], pair[0]))
        ],
        "cut_samples": [_sample(sample) for sample in look.cut_samples],
    }


def render(look: Look, title: str, meanings: Mapping[str, str]) -> str:
    """The page.

    Args:
        look: what `collect` found.
        title: name of the corpus, shown at the top.
        meanings: measure -> its one-line meaning.
    """
    from jinja2 import Environment

    folder = files("haina.corpus.look")
    environment = Environment(autoescape=True)
    template = environment.from_string(folder.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    # "<" ends a script element wherever it stands, so none is left in the data.
    data = json.dumps(payload(look, meanings), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return template.render(
        title=title,
        documents=sum(look.documents.values()),
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        script=folder.joinpath("page.js").read_text(encoding="utf-8"),
        data=data,
    )
