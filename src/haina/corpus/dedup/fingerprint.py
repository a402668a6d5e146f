"""What documents are compared by, in a file: the source that clustering reads.

Comes in: a block of documents. Goes out: an Arrow file with one row a document - signature, shingles, exact key and
what decides which of two duplicates stays. Texts are read again only where sets have to be compared.

The better document has the higher quality score (in steps of 0.05), then more text, then the later date; ties fall to
a hash of the id, so the order of the input never matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from haina.corpus.blocks import Block, read_rows
from haina.corpus.dedup.minhash import signatures_batch
from haina.corpus.dedup.shingles import shingle_sets
from haina.runtime.executor import Executor, Location, local_copy
from haina.runtime.parquet_rows import packed_strings

QUALITY_COLUMN = "score.quality"
DATE_COLUMN = "date"
# Rows of this column that are not null are documents that have ended already.
ENDED_COLUMN = "stage"
_QUALITY_STEPS = 20
_SIZE_BITS, _DATE_BITS = 32, 22


@dataclass(frozen=True)
class Part:
    """Documents that one task works on.

    Attributes:
        block: where they are.
        skips_ended: rows whose `stage` is set are not among them.
    """

    block: Block
    skips_ended: bool = False

    def batches(self, *columns: str) -> Iterator[pa.RecordBatch]:
        """Their rows with some columns, of which those that the file lacks are left out."""
        wanted = [*columns, ENDED_COLUMN] if self.skips_ended else list(columns)
        for batch in read_rows(self.block, [name for name in wanted if name in self.block.columns]):
            yield batch.filter(pc.is_null(batch.column(ENDED_COLUMN))) if self.skips_ended else batch


@dataclass(frozen=True)
class Fingerprinting:
    """What a task is given: documents, and the shape of fingerprints."""

    part: Part
    shingle_tokens: int
    permutations: int


def _schema(permutations: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("id", pa.large_string()),
            pa.field("signature", pa.binary(4 * permutations)),
            pa.field("size", pa.int64()),
            pa.field("key", pa.binary(16)),
            pa.field("priority", pa.uint64()),
            pa.field("tie", pa.uint64()),
        ]
    )


def _days(value: Any) -> int:
    """Days since year 1 of `yyyy-mm-dd`, 0 for anything else."""
    try:
        return date.fromisoformat(str(value)[:10]).toordinal()
    except ValueError:
        return 0


def priorities(batch: pa.RecordBatch, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Smaller is better: quality, then size, then date: uint64 [documents]."""
    names = batch.schema.names
    count = batch.num_rows
    quality = np.zeros(count)
    if QUALITY_COLUMN in names:
        values = batch.column(QUALITY_COLUMN).cast(pa.float64())
        quality = np.nan_to_num(values.to_numpy(zero_copy_only=False), nan=0.0)
    worse = np.round((1.0 - np.clip(quality, 0.0, 1.0)) * _QUALITY_STEPS).astype(np.uint64)
    most = (1 << _SIZE_BITS) - 1
    shorter = (most - np.minimum(sizes, most)).astype(np.uint64)
    days = [_days(v) for v in batch.column(DATE_COLUMN).to_pylist()] if DATE_COLUMN in names else [0] * count
    older = np.array([(1 << _DATE_BITS) - 1 - day for day in days], dtype=np.uint64)
    found: npt.NDArray[np.uint64] = (worse << np.uint64(_SIZE_BITS + _DATE_BITS)) | (
        shorter << np.uint64(_DATE_BITS)
    ) | older  # fmt: skip
    return found


def _ties(ids: list[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def write_fingerprints(item: Fingerprinting, output: Path) -> None:
    """Task: the fingerprints of the documents of a part."""
    schema = _schema(item.permutations)
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in item.part.batches("id", "text", QUALITY_COLUMN, DATE_COLUMN):
            if not batch.num_rows:
                continue
            data, offsets = packed_strings(batch.column("text"))
            found = signatures_batch(data, offsets, item.shingle_tokens, item.permutations)
            arrays = [
                batch.column("id").cast(pa.large_string()),
                _fixed(found.values.astype("<u4", copy=False)),
                pa.array(found.sizes),
                _fixed(found.keys),
                pa.array(priorities(batch, found.sizes)),
                pa.array(_ties(batch.column("id").to_pylist())),
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _fixed(rows: npt.NDArray[Any]) -> pa.Array:
    """A column of fixed-size binary from a matrix."""
    rows = np.ascontiguousarray(rows)
    kind = pa.binary(rows.shape[1] * rows.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, pa.py_buffer(rows)])


def _matrix(column: pa.Array, kind: str) -> npt.NDArray[Any]:
    """The matrix of a column of fixed-size binary, without a copy."""
    width = column.type.byte_width
    raw = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return (
        raw[column.offset * width : (column.offset + len(column)) * width].view(kind).reshape(len(column), -1)
    )


@dataclass(frozen=True)
class FingerprintBlock:
    """Rows of a fingerprint file, as `dedup.sources.Block`."""

    batch: pa.RecordBatch

    @property
    def signatures(self) -> npt.NDArray[np.uint32]:
        """uint32 [documents, permutations]."""
        return _matrix(self.batch.column("signature"), "<u4")

    @property
    def keys(self) -> npt.NDArray[np.uint8]:
        """uint8 [documents, 16]."""
        return _matrix(self.batch.column("key"), "u1")

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """int64 [documents]."""
        return self._numbers("size")

    @property
    def priority(self) -> npt.NDArray[np.uint64]:
        """uint64 [documents]."""
        return self._numbers("priority")

    @property
    def tie(self) -> npt.NDArray[np.uint64]:
        """uint64 [documents]."""
        return self._numbers("tie")

    def _numbers(self, name: str) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self.batch.column(name).to_numpy()
        return found


@dataclass(frozen=True)
class TextSource:
    """Documents of a part with their fingerprint file, as `dedup.sources.Source`."""

    part: Part
    fingerprints: Location
    documents: int
    shingle_tokens: int

    def rows(self) -> int:
        """Documents."""
        return self.documents

    def blocks(self) -> Iterator[FingerprintBlock]:
        """Fingerprints, as they were written."""
        with (
            local_copy(self.fingerprints) as path,
            pa.memory_map(str(path)) as source,
            pa.ipc.open_file(source) as reader,
        ):
            for index in range(reader.num_record_batches):
                yield FingerprintBlock(reader.get_batch(index))

    def ids(self) -> pa.ChunkedArray:
        """Ids of the documents."""
        with (
            local_copy(self.fingerprints) as path,
            pa.OSFile(str(path)) as source,
            pa.ipc.open_file(source) as reader,
        ):
            batches = [reader.get_batch(index).select(["id"]) for index in range(reader.num_record_batches)]
        return pa.chunked_array([batch.column(0) for batch in batches], pa.large_string())

    def shingle_sets(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Sorted shingle sets of some rows, from their texts."""
        chosen = _texts(self.part).take(pa.array(rows)).combine_chunks()
        found = shingle_sets(*packed_strings(chosen), self.shingle_tokens)
        return found.shingles, found.starts


@dataclass(frozen=True)
class KeptSource:
    """Documents of a source that stay after a first search, to be clustered by their signatures once more.

    Attributes:
        source: all of them. verdicts: of the first search. kept: how many stay.
    """

    source: TextSource
    verdicts: Location
    kept: int

    def rows(self) -> int:
        """Documents."""
        return self.kept

    def blocks(self) -> Iterator[FingerprintBlock]:
        """Fingerprints of those that stay."""
        stays = kept_rows(self.verdicts)
        first = 0
        for block in self.source.blocks():
            yield FingerprintBlock(block.batch.filter(pa.array(stays[first : first + block.batch.num_rows])))
            first += block.batch.num_rows

    def ids(self) -> pa.ChunkedArray:
        """Ids of those that stay."""
        return self.source.ids().filter(pa.array(kept_rows(self.verdicts)))

    def shingle_sets(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Sorted shingle sets of some of those that stay."""
        return self.source.shingle_sets(np.flatnonzero(kept_rows(self.verdicts))[rows])


def kept_rows(verdicts: Location) -> npt.NDArray[np.bool_]:
    """Which documents of a part stay."""
    with local_copy(verdicts) as path, pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        found: npt.NDArray[np.bool_] = pc.is_null(reader.read_all().column("representative")).to_numpy()
    return found


@lru_cache(maxsize=1)
def _texts(part: Part) -> pa.ChunkedArray:
    """Texts of a part. Sets are asked for some thousands at a time, and a file can only be read from its start."""
    columns = [batch.column("text").cast(pa.large_string()) for batch in part.batches("text")]
    return pa.chunked_array(columns, pa.large_string())


def fingerprint_parts(
    executor: Executor,
    folder: Location,
    parts: Sequence[Part],
    documents: Sequence[int],
    shingle_tokens: int,
    permutations: int,
) -> list[TextSource]:
    """The sources of some parts, their fingerprints made in `folder`.

    Args:
        executor: runs the tasks.
        folder: for the files.
        parts: what to compare.
        documents: how many each holds.
        shingle_tokens: tokens in a shingle.
        permutations: values in a signature.
    """
    files = [folder / f"part-{index:05d}.arrow" for index in range(len(parts))]
    items = [Fingerprinting(part, shingle_tokens, permutations) for part in parts]
    executor.map(write_fingerprints, items, files, description="fingerprints")
    return [TextSource(*found, shingle_tokens) for found in zip(parts, files, documents, strict=True)]
