"""The tables that the corpus stage writes, and how to read them.

`documents/part-NNNNN.parquet` holds what stays and `dropped/part-NNNNN.parquet` what does not, with the
reason; together they are all pages that came in. Later stages read these files by their column names, without
importing this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.config import COUNT_SIGNALS, SIGNAL_NAMES
from haina.runtime.errors import HainaError

PREVIEW_CHARACTERS = 160
SIGNAL_PREFIX = "signal."

_SIGNAL_FIELDS = [
    pa.field(SIGNAL_PREFIX + name, pa.int64() if name in COUNT_SIGNALS else pa.float64())
    for name in SIGNAL_NAMES
]
DOCUMENTS_SCHEMA = pa.schema(
    [
        *(
            pa.field(name, pa.string())
            for name in ("id", "text", "url", "source", "lang", "license", "title")
        ),
        *_SIGNAL_FIELDS,
        pa.field("cluster_id", pa.string()),
        pa.field("cluster_size", pa.int32()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string())
        for name in ("id", "stage", "reason", "evidence", "url", "source", "lang", "preview")
    ]
)
DROP_STAGES = ("read", "extract", "language", "signals", "exact_duplicate", "near_duplicate")


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
