"""What a document is compared by: exact key, MinHash signature and shingle set.

Comes in: the file of a curated partition. Goes out: an Arrow file with the fingerprints of its living pages, in order.
A task of the executor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Fingerprinting:
    """What a fingerprint task is given: the file of a curated partition, and the shape of fingerprints."""

    pages: Path
    shingle_tokens: int
    permutations: int


def fingerprint_partition(item: Fingerprinting, output: Path) -> None:
    """Task: exact key, signature and shingle set of every living page of a partition, as an Arrow file."""
    from haina.corpus.minhash import signature
    from haina.corpus.shingles import exact_key, shingles_of, tokens_of

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("characters", pa.int64()),
            ("key", pa.binary(16)),
            ("signature", pa.binary(4 * item.permutations)),
            ("shingles", pa.large_binary()),
        ]
    )
    with (
        pq.ParquetFile(item.pages) as file,
        pa.OSFile(str(output), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for batch in file.iter_batches(batch_size=256, columns=["id", "text", "stage"]):
            living = batch.filter(pc.is_null(batch.column("stage")))
            columns: list[list[Any]] = [[] for _ in schema]
            for identity, text in zip(
                *(living.column(name).to_pylist() for name in ("id", "text")), strict=True
            ):
                tokens = tokens_of(text)
                shingles = shingles_of(tokens, item.shingle_tokens)
                values = (
                    identity, len(text), exact_key(text, tokens), signature(shingles,
                    item.permutations).tobytes(), shingles.tobytes()
                )  # fmt: skip
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
