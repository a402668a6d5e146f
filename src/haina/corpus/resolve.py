"""Duplicates over the whole corpus, from the fingerprints of all partitions to one verdict per document.

Comes in: fingerprint files. Goes out: a scratch Parquet file per partition, one row per living page in order:
what it duplicates (and how alike), or its loose cluster. One process; signatures and buckets are in memory
(about 1.2 KB a document at 128 permutations), shingle sets in a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.config import CorpusConfig
from haina.corpus.duplicates import best_first, cluster, exact_duplicates
from haina.runtime.files import atomic_path
from haina.runtime.progress import Reporter

VERDICTS_SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("duplicate_of", pa.string()),
        ("similarity", pa.float64()),
        ("cluster_id", pa.string()),
        ("cluster_size", pa.int32()),
    ]
)


@dataclass
class Fingerprints:
    """Fingerprints of every living page, in the order of partitions and rows.

    Attributes:
        ids, keys: of each document.
        characters: int64 [documents].
        signatures: uint32 [documents, permutations].
        sizes: shingles of each: int64 [documents].
        per_partition: documents of each partition.
        shingles: all shingle sets in order: uint64 [sum of sizes].
    """

    ids: list[str]
    keys: list[bytes]
    characters: npt.NDArray[np.int64]
    signatures: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int64]
    per_partition: list[int]
    shingles: npt.NDArray[np.uint64]


def load_fingerprints(files: Sequence[Path], flat: Path, permutations: int) -> Fingerprints:
    """Gather fingerprint files; the shingle sets go into the file `flat`, one after the other."""
    ids: list[str] = []
    keys: list[bytes] = []
    characters: list[int] = []
    sizes: list[int] = []
    blocks: list[npt.NDArray[np.uint32]] = []
    per_partition: list[int] = []
    with atomic_path(flat) as temporary, temporary.open("wb") as out:
        for path in files:
            before = len(ids)
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                for index in range(reader.num_record_batches):
                    batch = reader.get_batch(index)
                    ids += batch.column("id").to_pylist()
                    keys += batch.column("key").to_pylist()
                    characters += batch.column("characters").to_pylist()
                    signatures = b"".join(batch.column("signature").to_pylist())
                    blocks.append(np.frombuffer(signatures, dtype=np.uint32).reshape(-1, permutations))
                    for value in batch.column("shingles"):
                        buffer = value.as_buffer()
                        sizes.append(buffer.size // 8)
                        out.write(buffer)
            per_partition.append(len(ids) - before)
    total = sum(sizes)
    shingles = (
        np.memmap(flat, dtype=np.uint64, mode="r", shape=(total,)) if total else np.empty(0, dtype=np.uint64)
    )
    return Fingerprints(
        ids,
        keys,
        np.array(characters, dtype=np.int64),
        np.concatenate(blocks) if blocks else np.empty((0, permutations), dtype=np.uint32),
        np.array(sizes, dtype=np.int64),
        per_partition,
        np.asarray(shingles),
    )


def resolve(
    fingerprints: Fingerprints, config: CorpusConfig, outputs: Sequence[Path], reporter: Reporter
) -> None:
    """Write the verdicts of every partition.

    Exact duplicates go first, then verified near-duplicates; loose clusters are built over what stays, by
    estimates.
    """
    count = len(fingerprints.ids)
    order = best_first(fingerprints.characters, fingerprints.ids)
    starts = np.concatenate([[0], np.cumsum(fingerprints.sizes)])[:count].astype(np.int64)
    stage = np.full(count, "", dtype=object)
    target = np.arange(count, dtype=np.int64)
    similarity = np.ones(count, dtype=np.float64)
    cluster_of = np.arange(count, dtype=np.int64)

    first = exact_duplicates(fingerprints.keys, order)
    repeated = first != np.arange(count)
    stage[repeated] = "exact_duplicate"
    target[repeated] = first[repeated]

    steps = (
        ("near-duplicates", config.near_duplicate_similarity, config.near_duplicate_rows, True),
        ("clusters", config.split_similarity, config.split_rows, False),
    )
    for description, threshold, rows, exact in steps:
        # Positions among the living documents, best first.
        living = order[stage[order] == ""]
        with reporter.task(description, len(living), "documents") as task:
            found = cluster(
                np.arange(len(living), dtype=np.int64), fingerprints.signatures[living],
                fingerprints.shingles, starts[living], fingerprints.sizes[living], threshold, rows,
                exact=exact, advance=task.advance,
            )  # fmt: skip
        heads = living[found.representative]
        if exact:
            member = heads != living
            stage[living[member]] = "near_duplicate"
            target[living] = heads
            similarity[living] = found.similarity
        else:
            cluster_of[living] = heads
    kept = stage == ""
    cluster_sizes = np.bincount(cluster_of[kept], minlength=count)

    start = 0
    for path, rows_here in zip(outputs, fingerprints.per_partition, strict=True):
        part = range(start, start + rows_here)
        start += rows_here
        columns = [
            [stage[i] or None for i in part],
            [fingerprints.ids[target[i]] if stage[i] else None for i in part],
            [float(similarity[i]) if stage[i] else None for i in part],
            [None if stage[i] else fingerprints.ids[cluster_of[i]] for i in part],
            [None if stage[i] else int(cluster_sizes[cluster_of[i]]) for i in part],
        ]
        arrays = [pa.array(column, item.type) for column, item in zip(columns, VERDICTS_SCHEMA, strict=True)]
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(arrays, schema=VERDICTS_SCHEMA), temporary)
