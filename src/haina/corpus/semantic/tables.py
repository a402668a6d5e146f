"""What semantic clustering reads and writes.

In: Parquet with `text`, and where they have them `id`, `title`, `score.quality`. Every file is a part. Out, below
the target folder:

    clusters/part-NNNNN.parquet     one row a document, in the order of the input's rows (`CLUSTERS_SCHEMA`)
    embeddings/part-NNNNN.npy       float16 [documents, dimensions], rows of zeros for documents that stand apart
    centroids.npy                   float32 [clusters, dimensions]
    topics.json                     what each topic and cluster holds, named for reading
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.blocks import parquet_files
from haina.corpus.semantic.encoder import MOST_CHARACTERS
from haina.runtime.errors import HainaError, os_errors_about

APART = -1
QUALITY = "score.quality"
TITLE_CHARACTERS = 60
CLUSTERS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("topic", pa.int32()),
        pa.field("cluster", pa.int32()),
        pa.field("distance", pa.float32()),
        pa.field("density", pa.float32()),
        pa.field("duplicate_of", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)
_BATCH_ROWS = 256


def input_parts(inputs: Sequence[Path]) -> list[Path]:
    """The Parquet files of the inputs, in order; of a folder all below it, sorted by name.

    Raises:
        HainaError: an input is missing, not Parquet, without a column `text` of strings, or given twice.
    """
    parts: list[Path] = []
    for path in inputs:
        parts += parquet_files([path]) if path.is_dir() else [path]
    seen: set[Path] = set()
    for path in parts:
        if path.resolve() in seen:
            raise HainaError(f"{path}: given twice", "name every file once")
        seen.add(path.resolve())
        with os_errors_about(path):
            path.open("rb").close()
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise HainaError(
                f"{path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
            ) from error
        if "text" not in schema.names:
            raise HainaError(
                f"{path}: no column `text` (it has {', '.join(schema.names)})",
                "name the column of texts `text`",
            )
        kind = schema.field("text").type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise HainaError(f"{path}: column `text` holds {kind}, not strings", "convert it")
    return parts


def read_rows(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Columns `id`, `text`, `bytes`, `title`, `quality` of a part, a few rows at a time.

    `text` is the beginning, `bytes` the length of the whole. A document without an id is called by its file and row.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in ("id", "text", "title", QUALITY) if name in names]
            first = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
                text = pc.fill_null(batch.column("text"), "")
                rows = batch.num_rows
                ids = batch.column("id").cast(pa.string()).to_pylist() if "id" in names else [None] * rows
                yield {
                    "id": [name or f"{path.stem}:{first + row}" for row, name in enumerate(ids)],
                    "text": pc.utf8_slice_codeunits(text, 0, MOST_CHARACTERS).to_pylist(),
                    "bytes": pc.binary_length(text).to_pylist(),
                    "title": batch.column("title").cast(pa.string()).to_pylist()
                    if "title" in names
                    else [None] * rows,
                    "quality": batch.column(QUALITY).cast(pa.float32()).to_pylist()
                    if QUALITY in names
                    else [None] * rows,
                }
                first += rows
    except (pa.ArrowException, OSError) as error:
        raise HainaError(
            f"{path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
        ) from error


def stands_apart(text: str) -> bool:
    """Whether a text says too little to be like any other: no more than one character beside spaces."""
    return len(text.strip()) <= 1


def heading(title: str | None, text: str) -> str:
    """What a document is called in a list: its title, else its beginning, on one line."""
    return " ".join((title or text[: 4 * TITLE_CHARACTERS]).split())[:TITLE_CHARACTERS]


def id_hash(name: str) -> int:
    """64 bits that depend on a document's id alone: which documents make a sample, and who wins a tie."""
    return int.from_bytes(
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )
