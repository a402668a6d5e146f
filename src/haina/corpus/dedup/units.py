"""Paragraphs and sentences as documents of their own, so that the same search finds those that repeat.

Comes in: a block of documents. Goes out: a Parquet file with one row a unit that is long enough: `id`
(`DOCUMENT:START-END` in UTF-8 bytes), `text`, `row` of its document in the block, `start`, `end`, and what decides
which unit stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.dedup.fingerprint import DATE_COLUMN, QUALITY_COLUMN, Part
from haina.corpus.dedup.shingles import tokenize_batch
from haina.corpus.repeats.units import units_batch
from haina.runtime.parquet_rows import packed_strings

UNITS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.large_string()),
        pa.field("text", pa.large_string()),
        pa.field("row", pa.int64()),
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field(QUALITY_COLUMN, pa.float32()),
        pa.field(DATE_COLUMN, pa.string()),
    ]
)


@dataclass(frozen=True)
class Cutting:
    """What a task is given: documents, what they are cut into, and the fewest tokens of a unit."""

    part: Part
    level: Literal["paragraph", "sentence"]
    min_tokens: int


def write_units(item: Cutting, output: Path) -> None:
    """Task: the units of the documents of a part."""
    first = 0
    with pq.ParquetWriter(output, UNITS_SCHEMA, compression="zstd", compression_level=1) as writer:
        for batch in item.part.batches("id", "text", QUALITY_COLUMN, DATE_COLUMN):
            data, offsets = packed_strings(batch.column("text"))
            begin, end, bounds = units_batch(data, offsets, item.level)
            rows = np.repeat(np.arange(batch.num_rows), np.diff(bounds))
            starts, ends = begin - offsets[rows], end - offsets[rows]
            # Units one after the other, as documents.
            size = np.concatenate([[0], np.cumsum(end - begin)])
            flat = np.empty(size[-1], dtype=np.uint8)
            for index in range(len(begin)):
                flat[size[index] : size[index + 1]] = data[begin[index] : end[index]]
            tokens = np.diff(tokenize_batch(flat, size).documents)
            kept = np.flatnonzero(tokens >= item.min_tokens)
            ids = batch.column("id").to_pylist()
            names = [f"{ids[rows[k]]}:{starts[k]}-{ends[k]}" for k in kept.tolist()]
            texts = pa.Array.from_buffers(
                pa.large_string(), len(begin), [None, pa.py_buffer(size.astype(np.int64)), pa.py_buffer(flat)]
            )
            where = pa.array(rows[kept])
            columns = {
                "id": pa.array(names, pa.large_string()),
                "text": texts.take(pa.array(kept)),
                "row": pa.array(rows[kept] + first, pa.int64()),
                "start": pa.array(starts[kept], pa.int64()),
                "end": pa.array(ends[kept], pa.int64()),
            }
            for name in (QUALITY_COLUMN, DATE_COLUMN):
                kind = UNITS_SCHEMA.field(name).type
                known = name in batch.schema.names
                columns[name] = (
                    batch.column(name).take(where).cast(kind) if known else pa.nulls(len(kept), kind)
                )
            writer.write_table(pa.table(columns, schema=UNITS_SCHEMA))
            first += batch.num_rows
