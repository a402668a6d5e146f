"""The tables that the corpus stage writes, and how to read them.

`documents/part-NNNNN.parquet` holds what stays and `dropped/part-NNNNN.parquet` what does not, with the reason;
together they are all pages that came in. `edits/part-NNNNN.parquet` holds what was cut inside documents. Later
stages read these files by their column names, without importing this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.signals.names import SIGNALS
from haina.runtime.errors import HainaError

PREVIEW_CHARACTERS = 160
SIGNAL_PREFIX = "signal."

QUALITY = "score.quality"

_MEASURES = [
    *(
        pa.field(SIGNAL_PREFIX + name, pa.int64() if signal.integer else pa.float64())
        for name, signal in SIGNALS.items()
    ),
    pa.field(QUALITY, pa.float32()),
]
_FACTS = [
    *(pa.field(name, pa.string()) for name in ("url", "source", "lang")),
    pa.field("lang_confidence", pa.float32()),
    *(pa.field(name, pa.string()) for name in ("license", "title", "kind", "date")),
]
# How many documents it stands for, itself among them; its loose cluster, and how many of those that stay are in that.
_CLUSTERS = [
    pa.field("duplicate_count", pa.int64()),
    pa.field("cluster_id", pa.string()),
    pa.field("cluster_size", pa.int64()),
]
DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        *_FACTS,
        *_MEASURES,
        *_CLUSTERS,
    ]
)
# What is known of a document before it is compared with others.
PAGE_FIELDS = [item for item in DOCUMENTS_SCHEMA if item not in _CLUSTERS]
DROPPED_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("id", "stage", "reason", "evidence", "preview", "text")),
        *_FACTS,
        *_MEASURES,
    ]
)
EDITS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("unit", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("removed", pa.string()),
        pa.field("replacement", pa.string()),
    ]
)
DROP_STAGES = (
    "read",
    "extract",
    "language",
    "edit",
    "signals",
    "quality",
    "exact_duplicate",
    "near_duplicate",
)
# Whoever loosens a bound needs the texts that it took.
TEXT_KEPT_STAGES = ("signals", "quality")


def document_id(source: str, position: str) -> str:
    """Stable id of a record: 32 hex digits of BLAKE2b over its source's name and its position there."""
    return hashlib.blake2b(f"{source}\0{position}".encode()).hexdigest()[:32]


def part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def part_files(folder: Path) -> list[Path]:
    """The part files of a table folder in order; a folder without any is a `HainaError`."""
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        raise HainaError(f"{folder}: no part-*.parquet", "name the documents folder of a corpus")
    return files


def read_documents(
    folder: Path, columns: Sequence[str] | None = None, batch_size: int = 1024
) -> Iterator[pa.RecordBatch]:
    """Record batches of a table folder, part by part in order; bounded memory.

    Args:
        folder: `corpus/documents` or `corpus/dropped`.
        columns: names to read, None for all.
        batch_size: rows in a batch at most.
    """
    for path in part_files(folder):
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(
                    batch_size=batch_size, columns=list(columns) if columns else None
                )
        except (pa.ArrowException, OSError) as error:
            message = str(error).splitlines()[0]
            raise HainaError(
                f"{path}: not readable as Parquet ({message})", "make the corpus again"
            ) from error
