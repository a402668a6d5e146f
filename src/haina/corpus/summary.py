"""What the report shows of a corpus.

Comes in: the finished tables and the notes of the curated partitions. Goes out: the dictionary of
`summary.json`: counts by reason and language, the funnel, histograms, quantiles of the signals, examples of
duplicates, quarantined records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from haina.corpus.config import LANGUAGES, CorpusConfig
from haina.corpus.curate import METADATA_KEY
from haina.corpus.documents import (
    DROP_STAGES,
    PREVIEW_CHARACTERS,
    QUALITY,
    SIGNAL_PREFIX,
    part_files,
    read_documents,
)
from haina.corpus.signals.names import SIGNALS
from haina.runtime.executor import Location, local_copy

MAX_QUARANTINE = 50
MAX_EXAMPLES = 8
# Characters, four edges to a factor of ten.
LENGTH_EDGES = [round(10 ** (exponent / 4)) for exponent in range(4, 29)]
_QUANTILES = (5, 25, 50, 75, 95)
# Beyond this many documents, quantiles are those of every k-th.
MAX_SAMPLE = 200_000
MEASURE_COLUMNS = [*(SIGNAL_PREFIX + name for name in SIGNALS), QUALITY]
_BYTES, _CHARACTERS = (MEASURE_COLUMNS.index(SIGNAL_PREFIX + name) for name in ("bytes", "characters"))


def _notes(pages: Sequence[Location]) -> tuple[int, dict[str, int], dict[str, int]]:
    """Over all partitions: bytes read, bytes lost by reason, ignored records by kind."""
    total, lost, ignored = 0, Counter[str](), Counter[str]()
    for location in pages:
        with local_copy(location) as path, pq.ParquetFile(path) as file:
            note = json.loads((file.metadata.metadata or {})[METADATA_KEY.encode()])
        total += note["bytes_read"]
        lost.update(note["bytes_lost"])
        ignored.update(note["ignored_records"])
    return total, dict(sorted(lost.items())), dict(sorted(ignored.items()))


@dataclass
class _Language:
    """Totals over the documents of a language, and the measures of a sample of them."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LENGTH_EDGES) - 1, np.int64))
    sample: list[npt.NDArray[np.float64]] = field(default_factory=list)


def _measured(documents: Path) -> dict[str, _Language]:
    """Totals and samples by language, in the order of `LANGUAGES`; memory does not grow with the documents."""
    total = sum(pq.read_metadata(path).num_rows for path in part_files(documents))
    step = max(1, -(-total // MAX_SAMPLE))
    edges = np.array(LENGTH_EDGES, dtype=np.float64)
    found = {language: _Language() for language in LANGUAGES}
    seen = 0
    for batch in read_documents(documents, ["lang", *MEASURE_COLUMNS], 16384):
        values = np.stack(
            [
                batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
                for name in MEASURE_COLUMNS
            ],
            1,
        )
        languages = np.array(batch.column("lang").to_pylist(), dtype=object)
        taken = (np.arange(seen, seen + batch.num_rows) % step) == 0
        seen += batch.num_rows
        for language, item in found.items():
            chosen = languages == language
            if chosen.any():
                characters = values[chosen, _CHARACTERS]
                item.documents += int(chosen.sum())
                item.bytes += int(values[chosen, _BYTES].sum())
                item.characters += int(characters.sum())
                item.lengths += np.histogram(np.clip(characters, edges[0], edges[-1]), edges)[0]
                item.sample.append(values[chosen & taken])
    return {language: item for language, item in found.items() if item.documents}


def _quantiles(measured: dict[str, _Language]) -> dict[str, dict[str, list[float]]]:
    """Signal -> language -> percentiles; a signal that no document of a language has is left out there."""
    gathered = {language: np.concatenate(item.sample) for language, item in measured.items()}
    quantiles: dict[str, dict[str, list[float]]] = {}
    for index, column in enumerate(MEASURE_COLUMNS):
        name = column.removeprefix(SIGNAL_PREFIX).removeprefix("score.")
        quantiles[name] = {}
        for language, sample in gathered.items():
            known = sample[~np.isnan(sample[:, index]), index]
            if len(known):
                quantiles[name][language] = [round(float(v), 6) for v in np.percentile(known, _QUANTILES)]
    return quantiles


def _edits(out: Path) -> list[dict[str, Any]]:
    """How often each reason cut each unit, and how many bytes."""
    counts: dict[tuple[str, str], list[int]] = {}
    for batch in read_documents(out / "edits", ["start", "end", "unit", "reason"], 65536):
        for row in batch.to_pylist():
            item = counts.setdefault((row["reason"], row["unit"]), [0, 0])
            item[0] += 1
            item[1] += row["end"] - row["start"]
    return [
        {"reason": reason, "unit": unit, "count": count, "bytes": size}
        for (reason, unit), (count, size) in sorted(counts.items(), key=lambda pair: (-pair[1][0], pair[0]))
    ]


def _examples(out: Path) -> list[dict[str, Any]]:
    """Up to eight near-duplicates beside what they duplicate: both languages, from most to least alike."""
    near: list[dict[str, Any]] = []
    for batch in read_documents(
        out / "dropped", ["id", "stage", "evidence", "url", "source", "lang", "preview"], 65536
    ):
        near += [row for row in batch.to_pylist() if row["stage"] == "near_duplicate"]
    chosen: list[dict[str, Any]] = []
    groups = [[row for row in near if row["lang"].startswith("zh") == chinese] for chinese in (True, False)]
    for group in groups:
        # The least alike are the ones worth a look; a few of the others for comparison.
        group.sort(key=lambda row: (row["evidence"].split()[1], row["id"]))
        step = max(1, len(group) // (MAX_EXAMPLES // 2))
        chosen += group[::step][: MAX_EXAMPLES // 2]
    wanted = {row["evidence"].split()[0] for row in chosen}
    kept: dict[str, dict[str, str]] = {}
    for batch in read_documents(out / "documents", ["id", "url", "source", "text"]) if wanted else ():
        for index, identity in enumerate(batch.column("id").to_pylist()):
            if identity in wanted:
                row = batch.slice(index, 1).to_pylist()[0]
                kept[identity] = {
                    "id": identity,
                    "url": row["url"] or row["source"],
                    "preview": row["text"][:PREVIEW_CHARACTERS],
                }
    return [
        {
            "similarity": float(row["evidence"].split()[1]),
            "kept": kept[row["evidence"].split()[0]],
            "removed": {"id": row["id"], "url": row["url"] or row["source"], "preview": row["preview"]},
        }
        for row in chosen
    ]


def summarise(out: Path, pages: Sequence[Path], ignored_files: int, config: CorpusConfig) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        out: the corpus folder with `documents`, `dropped` and `edits`.
        pages: the scratch files of the curated partitions, for their notes.
        ignored_files: files of the input that are no pages.
        config: the bounds in force, which are written down.
    """
    reasons: Counter[tuple[str, str]] = Counter()
    quarantine: list[dict[str, str]] = []
    for batch in read_documents(out / "dropped", ["stage", "reason", "evidence", "source"], 65536):
        for row in batch.to_pylist():
            reasons[(row["stage"], row["reason"])] += 1
            if row["stage"] == "read" and len(quarantine) < MAX_QUARANTINE:
                quarantine.append({name: row[name] for name in ("source", "reason", "evidence")})
    measured = _measured(out / "documents")
    clusters: set[str] = set()
    for batch in read_documents(out / "documents", ["cluster_id", "cluster_size"], 65536):
        clusters.update(row["cluster_id"] for row in batch.to_pylist() if row["cluster_size"] > 1)
    kept = sum(item.documents for item in measured.values())
    dropped = sum(reasons.values())
    by_stage = Counter(dict.fromkeys(DROP_STAGES, 0))
    for (stage, _), count in reasons.items():
        by_stage[stage] += count
    remaining = kept + dropped
    funnel = [{"step": "pages", "remaining": remaining}]
    for stage in DROP_STAGES:
        remaining -= by_stage[stage]
        funnel.append({"step": stage, "remaining": remaining})
    bytes_read, bytes_lost, ignored_records = _notes(pages)
    return {
        "pages": kept + dropped,
        "documents": kept,
        "dropped": dropped,
        "by_reason": [
            {"stage": stage, "reason": reason, "count": count}
            for (stage, reason), count in sorted(
                reasons.items(), key=lambda item: (DROP_STAGES.index(item[0][0]), -item[1], item[0][1])
            )
        ],
        "by_language": {
            language: {"documents": item.documents, "bytes": item.bytes, "characters": item.characters}
            for language, item in measured.items()
        },
        "length_histogram": {
            "edges": LENGTH_EDGES,
            "counts": {language: item.lengths.tolist() for language, item in measured.items()},
        },
        "duplicates": {
            "exact": by_stage["exact_duplicate"],
            "near": by_stage["near_duplicate"],
            "clusters": len(clusters),
            "examples": _examples(out),
        },
        "edits": _edits(out),
        "funnel": funnel,
        "quarantine": quarantine,
        "bounds": {
            group: {name: bound.model_dump() for name, bound in config.bounds(group).items()}
            | {"quality": {"min": config.min_quality, "max": None}}
            for group in ("zh", "en")
        },
        "signal_quantiles": _quantiles(measured),
        "bytes_read": bytes_read,
        "bytes_lost": bytes_lost,
        "text_bytes": sum(item.bytes for item in measured.values()),
        "ignored_files": ignored_files,
        "ignored_records": ignored_records,
    }
