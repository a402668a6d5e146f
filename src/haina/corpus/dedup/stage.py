"""Near-duplicates of finished documents: `haina dedup`.

Comes in: Parquet files with `id` and `text`. Goes out, in the output `dedup`: `documents/` (what stays, with all
columns), `dropped/`, `clusters.parquet` (`id`, `representative`, `similarity`, `method`, `cluster_size`), `edits/` when
paragraphs or sentences are compared, and `summary.json`. Each step is tasks over blocks of documents, so it runs on any
executor and goes on after a kill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow.parquet as pq

from haina.corpus.blocks import parquet_files, plan_blocks, whole_file
from haina.corpus.dedup.clusters import cluster_documents
from haina.corpus.dedup.config import DedupConfig
from haina.corpus.dedup.fingerprint import Part, fingerprint_parts
from haina.corpus.dedup.layout import ClusterConfig, default_partitions
from haina.corpus.dedup.units import Cutting, write_units
from haina.corpus.dedup.write import (
    CLUSTERS_SCHEMA,
    Judged,
    JudgedUnits,
    write_clusters,
    write_dropped,
    write_dropped_units,
    write_edits,
    write_kept,
    write_kept_units,
)
from haina.corpus.documents import part_name
from haina.runtime.errors import HainaError
from haina.runtime.executor import Location, local_copy
from haina.runtime.files import atomic_path, write_json
from haina.runtime.stage import StageContext, StageResult

SIMILARITY_EDGES = tuple(round(0.3 + 0.05 * step, 2) for step in range(15))


def _gather(files: Sequence[Location], target: Path) -> None:
    """Tables of parts as one file, in order."""
    with (
        atomic_path(target) as temporary,
        pq.ParquetWriter(temporary, CLUSTERS_SCHEMA, compression="zstd") as writer,
    ):
        for location in files:
            with local_copy(location) as path, pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=65536):
                    writer.write_batch(batch)


def _count(files: Sequence[Location]) -> int:
    total = 0
    for location in files:
        with local_copy(location) as path:
            total += pq.read_metadata(path).num_rows
    return total


def _cluster_counts(clusters: Path) -> dict[str, Any]:
    """Clusters by size, and removed texts by similarity."""
    sizes, methods = Counter[int](), Counter[str]()
    similar = np.zeros(len(SIMILARITY_EDGES) - 1, dtype=np.int64)
    with pq.ParquetFile(clusters) as file:
        for batch in file.iter_batches(batch_size=65536):
            columns = batch.to_pydict()
            methods.update(columns["method"])
            sizes.update(
                size
                for size, method in zip(columns["cluster_size"], columns["method"], strict=True)
                if method == "representative"
            )
            near = [
                value
                for value, method in zip(columns["similarity"], columns["method"], strict=True)
                if method == "near"
            ]
            similar += np.histogram(near, SIMILARITY_EDGES)[0]
    return {
        "clusters": sizes.total(),
        "largest_cluster": max(sizes, default=1),
        "exact": methods["exact"],
        "near": methods["near"],
        "cluster_sizes": {str(size): count for size, count in sorted(sizes.items())[:50]},
        "similarity": {"edges": list(SIMILARITY_EDGES), "counts": similar.tolist()},
    }


def run(config: DedupConfig, context: StageContext) -> StageResult:
    """Find and remove duplicates among the documents of `context.sources`.

    Raises:
        HainaError: an input is missing, is no Parquet file, lacks a column or holds no documents.
    """
    files = parquet_files([Path(source) for source in context.sources])
    blocks, _ = plan_blocks(files, config.block_bytes)
    if not blocks:
        raise HainaError(f"{files[0]}: no documents", "name Parquet files that hold rows")
    executor, scratch, out = context.executor, context.scratch, context.out("dedup")
    parts = [Part(block) for block in blocks]
    names = [part_name(block.number) for block in blocks]
    compared = parts
    level = cast(Literal["paragraph", "sentence"], config.level)
    units = [scratch / "units" / name for name in names]
    if config.level != "document":
        items = [Cutting(part, level, config.min_tokens) for part in parts]
        executor.map(write_units, items, units, description=f"{config.level}s")
        counts = np.concatenate([[0], np.cumsum([_count([path]) for path in units])]).tolist()
        compared = [Part(whole_file(n, path, counts[n])) for n, path in enumerate(units)]
    sources = fingerprint_parts(
        executor, scratch / "fingerprints", compared, [part.block.rows for part in compared],
        config.shingle_tokens, config.permutations,
    )  # fmt: skip
    settings = ClusterConfig(
        threshold=config.threshold,
        containment=config.measure == "containment",
        recall=config.recall,
        permutations=config.permutations,
        partitions=default_partitions(sum(part.block.rows for part in compared)),
    )
    verdicts = cluster_documents(executor, scratch / "compared", sources, settings)

    home = context.pieces("dedup")
    documents, dropped, edits = (
        [home / table / name for name in names] for table in ("documents", "dropped", "edits")
    )
    pieces = [scratch / "clusters" / name for name in names]
    judged = [Judged(part, path) for part, path in zip(compared, verdicts, strict=True)]
    executor.map(write_clusters, judged, pieces, description="clusters")
    _gather(pieces, out / "clusters.parquet")
    if config.level == "document":
        executor.map(write_kept, judged, documents, description="documents")
        executor.map(write_dropped, judged, dropped, description="dropped")
    else:
        cut = [JudgedUnits(*item, level) for item in zip(parts, units, verdicts, strict=True)]
        executor.map(write_kept_units, cut, documents, description="documents")
        executor.map(write_dropped_units, cut, dropped, description="dropped")
        executor.map(write_edits, cut, edits, description="edits")

    context.collect("dedup")
    found = {
        "level": config.level,
        "threshold": config.threshold,
        "documents_in": sum(block.rows for block in blocks),
        "documents_out": _count(documents),
        "dropped": _count(dropped),
        "compared": sum(part.block.rows for part in compared),
        **_cluster_counts(out / "clusters.parquet"),
    }
    write_json(out / "summary.json", found)
    return StageResult(
        found["documents_in"],
        found["documents_out"],
        found["dropped"],
        "documents",
        {name: found[name] for name in ("clusters", "largest_cluster", "exact", "near")},
    )
