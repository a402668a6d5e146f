"""Which bounds were in force for a corpus, and what each measure means.

Comes in: a corpus folder or a Parquet file. Goes out: bounds by language group and measure, from the corpus's own
summary where there is one and from the default preset otherwise.
"""

from __future__ import annotations

from pathlib import Path

from haina.corpus.signals.names import SIGNALS
from haina.corpus.signals.presets import load_preset
from haina.runtime.files import read_json

BoundTable = dict[str, dict[str, tuple[float | None, float | None]]]


def bounds_of(path: Path) -> BoundTable:
    """Language group -> measure -> (low, high)."""
    summary = path / "summary.json"
    found = read_json(summary) if path.is_dir() and summary.exists() else {}
    recorded = found.get("bounds") if isinstance(found, dict) else None
    if isinstance(recorded, dict):
        return {
            group: {name: (bound.get("min"), bound.get("max")) for name, bound in signals.items()}
            for group, signals in recorded.items()
        }
    return {
        group: {name: (bound.min, bound.max) for name, bound in signals.items()}
        for group, signals in load_preset("default").items()
    }


def meanings() -> dict[str, str]:
    """Measure -> its one-line meaning."""

    quality = "probability that the text is a good one, under the quality model of its language"
    return {**{name: signal.meaning for name, signal in SIGNALS.items()}, "quality": quality}
