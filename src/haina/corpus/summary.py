"""What the report shows of a corpus.

Comes in: the finished tables and the notes of the curated partitions. Goes out: the dictionary of
`summary.json`: counts by reason and language, the funnel, histograms, quantiles of the signals, examples of
duplicates, quarantined records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from haina.corpus.config import LANGUAGES, SIGNAL_NAMES
from haina.corpus.curate import METADATA_KEY
from haina.corpus.documents import DROP_STAGES, PREVIEW_CHARACTERS, SIGNAL_PREFIX, read_documents

MAX_QUARANTINE = 50
MAX_EXAMPLES = 8
# Characters, four edges to a factor of ten.
LENGTH_EDGES = [round(10 ** (exponent / 4)) for exponent in range(4, 29)]
_QUANTILES = (5, 25, 50, 75, 95)


def _notes(pages: Sequence[Path]) -> tuple[int, dict[str, int]]:
    """Bytes read and ignored records over all partitions."""
    total, ignored = 0, Counter[str]()
    for path in pages:
        with pq.ParquetFile(path) as file:
            note = json.loads((file.metadata.metadata or {})[METADATA_KEY.encode()])
        total += note["bytes_read"]
        ignored.update(note["ignored_records"])
    return total, dict(sorted(ignored.items()))


def _measured(documents: Path) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Signal values by language: {lang: {signal: float64 [documents]}}."""
    gathered: dict[str, dict[str, list[np.ndarray[Any, Any]]]] = {}
    for batch in read_documents(documents, ["lang", *(SIGNAL_PREFIX + name for name in SIGNAL_NAMES)], 65536):
        languages = np.array(batch.column("lang").to_pylist(), dtype=object)
        for language in LANGUAGES:
            chosen = languages == language
            if chosen.any():
                columns = gathered.setdefault(language, {name: [] for name in SIGNAL_NAMES})
                for name in SIGNAL_NAMES:
                    columns[name].append(
                        batch.column(SIGNAL_PREFIX + name).to_numpy(zero_copy_only=False)[chosen]
                    )
    return {
        language: {
            name: np.concatenate(parts).astype(np.float64) for name, parts in gathered[language].items()
        }
        for language in LANGUAGES
        if language in gathered
    }


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


def summarise(out: Path, pages: Sequence[Path], ignored_files: int) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        out: the corpus folder with `documents` and `dropped`.
        pages: the scratch files of the curated partitions, for their notes.
        ignored_files: files of the input that are no pages.
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
    kept = sum(len(signals["bytes"]) for signals in measured.values())
    dropped = sum(reasons.values())
    by_stage = Counter(dict.fromkeys(DROP_STAGES, 0))
    for (stage, _), count in reasons.items():
        by_stage[stage] += count
    remaining = kept + dropped
    funnel = [{"step": "pages", "remaining": remaining}]
    for stage in DROP_STAGES:
        remaining -= by_stage[stage]
        funnel.append({"step": stage, "remaining": remaining})
    bytes_read, ignored_records = _notes(pages)
    edges = np.array(LENGTH_EDGES, dtype=np.float64)
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
            language: {
                "documents": len(signals["bytes"]),
                "bytes": int(signals["bytes"].sum()),
                "characters": int(signals["characters"].sum()),
            }
            for language, signals in measured.items()
        },
        "length_histogram": {
            "edges": LENGTH_EDGES,
            "counts": {
                language: np.histogram(np.clip(signals["characters"], edges[0], edges[-1]), edges)[0].tolist()
                for language, signals in measured.items()
            },
        },
        "duplicates": {
            "exact": by_stage["exact_duplicate"],
            "near": by_stage["near_duplicate"],
            "clusters": len(clusters),
            "examples": _examples(out),
        },
        "funnel": funnel,
        "quarantine": quarantine,
        "signal_quantiles": {
            name: {
                language: [round(float(value), 6) for value in np.percentile(signals[name], _QUANTILES)]
                for language, signals in measured.items()
            }
            for name in SIGNAL_NAMES
        },
        "bytes_read": bytes_read,
        "text_bytes": sum(int(signals["bytes"].sum()) for signals in measured.values()),
        "ignored_files": ignored_files,
        "ignored_records": ignored_records,
    }
