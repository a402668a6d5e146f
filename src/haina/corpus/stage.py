"""The corpus stage: pages in, curated documents out.

Comes in: the user's files. Goes out: `documents/`, `dropped/`, `edits/` and `summary.json`. Steps over the same
partitions, each leaving whole files in scratch: curate (read, extract, identify, measure), fingerprints, duplicates
over all, loose clusters of what stays, and write. A step's file that is there is not made again, so a killed run
goes on where it was; what comes out does not depend on the number of workers or on where they run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.blocks import whole_file
from haina.corpus.config import CorpusConfig
from haina.corpus.curate import (
    Partition,
    curate_partition,
    merge_pages,
    quarantine_partition,
    split_partition,
)
from haina.corpus.dedup.clusters import cluster_documents
from haina.corpus.dedup.fingerprint import KeptSource, Part, fingerprint_parts, kept_rows
from haina.corpus.dedup.layout import ClusterConfig, default_partitions
from haina.corpus.dedup.write import read_verdicts
from haina.corpus.documents import (
    DOCUMENTS_SCHEMA,
    DROPPED_SCHEMA,
    EDITS_SCHEMA,
    PREVIEW_CHARACTERS,
    TEXT_KEPT_STAGES,
    part_name,
)
from haina.corpus.sources import list_sources, partition
from haina.corpus.summary import summarise
from haina.runtime.errors import HainaError
from haina.runtime.executor import Location, Recovery, local_copy
from haina.runtime.files import write_json
from haina.runtime.stage import StageContext, StageResult


@dataclass(frozen=True)
class Writing:
    """What a writing task is given: the curated pages of a partition, the verdicts on the living ones, and the loose
    clusters of those that stay."""

    pages: Location
    verdicts: Location
    clusters: Location


def _batches(pages: Location) -> Iterator[pa.RecordBatch]:
    with local_copy(pages) as path, pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=1024)


def _judged(item: Writing) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Batches of pages with a table of verdicts on their living rows."""
    verdicts = read_verdicts(item.verdicts)
    start = 0
    for batch in _batches(item.pages):
        living = batch.column("stage").null_count
        yield batch, verdicts.slice(start, living)
        start += living


def write_documents(item: Writing, output: Path) -> None:
    """Task: the documents of a partition that stay, in the order of their sources."""
    clusters = read_verdicts(item.clusters)
    start = 0
    with pq.ParquetWriter(output, DOCUMENTS_SCHEMA, compression="zstd") as writer:
        for batch, verdicts in _judged(item):
            stays = pc.is_null(verdicts.column("representative")).combine_chunks()
            living = pa.Table.from_batches([batch]).filter(pc.is_null(batch.column("stage")))
            table = living.append_column("duplicate_count", verdicts.column("cluster_size")).filter(stays)
            loose = clusters.slice(start, table.num_rows)
            start += table.num_rows
            heads = pc.coalesce(loose.column("representative").cast(pa.string()), table.column("id"))
            table = table.append_column("cluster_id", heads)
            table = table.append_column("cluster_size", loose.column("cluster_size"))
            if table.num_rows:
                writer.write_table(table.select(DOCUMENTS_SCHEMA.names).cast(DOCUMENTS_SCHEMA))


def write_dropped(item: Writing, output: Path) -> None:
    """Task: the pages of a partition that do not stay, each with stage, reason and evidence."""
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for batch, verdicts in _judged(item):
            rows = []
            verdict = iter(verdicts.to_pylist())
            for row in batch.select(DROPPED_SCHEMA.names).to_pylist():
                if row["stage"] is None:
                    found = next(verdict)
                    if found["representative"] is None:
                        continue
                    same = found["method"] == "exact"
                    row |= {
                        "stage": "exact_duplicate" if same else "near_duplicate",
                        "reason": "same-text" if same else "similar-text",
                        "evidence": f"{found['representative']} {found['similarity']:.4f}",
                        "preview": row["text"][:PREVIEW_CHARACTERS],
                    }
                if row["stage"] not in TEXT_KEPT_STAGES:
                    row["text"] = None
                rows.append(row)
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, DROPPED_SCHEMA))


def write_edits(item: Writing, output: Path) -> None:
    """Task: what was cut inside the pages of a partition whose text is written, document by document."""
    with pq.ParquetWriter(output, EDITS_SCHEMA, compression="zstd") as writer:
        for batch, verdicts in _judged(item):
            gone = iter(verdicts.column("representative").to_pylist())
            rows = []
            for row in batch.select(["id", "stage", "edits"]).to_pylist():
                stays = next(gone) is None if row["stage"] is None else row["stage"] in TEXT_KEPT_STAGES
                if stays:
                    rows += [{"id": row["id"], **edit} for edit in row["edits"] or ()]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, EDITS_SCHEMA))


def _living(pages: Sequence[Location]) -> list[int]:
    """Pages of each partition that are still alive."""
    counts = []
    for location in pages:
        with local_copy(location) as path:
            counts.append(pq.read_table(path, columns=["stage"]).column("stage").null_count)
    return counts


def _require_documents(pages: Sequence[Location]) -> None:
    """Raise when no page is alive after the bounds, naming what took them."""
    reasons: Counter[str] = Counter()
    for location in pages:
        with local_copy(location) as path:
            table = pq.read_table(path, columns=["stage", "reason"])
        if table.column("stage").null_count:
            return
        reasons.update(f"{row['stage']}: {row['reason']}" for row in table.to_pylist())
    if not reasons:
        raise HainaError(
            "the input holds no page", "give HTML, text, or archives with answers that hold HTML or text"
        )
    largest = ", ".join(
        f"{reason} ({count})"
        for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    )
    raise HainaError(
        f"no document is left of {sum(reasons.values())} pages; most went for {largest}",
        "check the input, or loosen corpus.languages and corpus.thresholds",
    )


def run(config: CorpusConfig, context: StageContext) -> StageResult:
    """Curate `context.sources` into the output `corpus`.

    Returns:
        Pages in, documents out, pages dropped.

    Raises:
        HainaError: there is nothing to read, or nothing is left.
    """
    inputs = list_sources(context.sources)
    parts = partition(inputs.sources, config.partitions)
    scratch, out = context.scratch, context.out("corpus")
    executor = context.executor
    count = len(parts)

    pages = [scratch / "pages" / part_name(index) for index in range(count)]
    executor.map(
        curate_partition,
        [Partition(sources, config) for sources in parts],
        pages,
        description="reading pages",
        recovery=Recovery(split_partition, merge_pages, quarantine_partition),
    )
    _require_documents(pages)

    documents_in = _living(pages)
    starts = [0, *accumulate(documents_in)]
    parts_of_pages = [Part(whole_file(n, path, starts[n]), skips_ended=True) for n, path in enumerate(pages)]
    sources = fingerprint_parts(
        executor,
        scratch / "fingerprints",
        parts_of_pages,
        documents_in,
        config.shingle_tokens,
        config.permutations,
    )
    settings = ClusterConfig(
        threshold=config.near_duplicate_similarity,
        recall=config.duplicate_recall,
        permutations=config.permutations,
        partitions=default_partitions(sum(documents_in)),
    )
    verdicts = cluster_documents(executor, scratch / "duplicates", sources, settings)
    # Clusters for the held-out split: what is somewhat alike has to be on one side of it.
    kept = [
        KeptSource(source, path, int(kept_rows(path).sum()))
        for source, path in zip(sources, verdicts, strict=True)
    ]
    loose = replace(settings, threshold=config.split_similarity, exact=False)
    clusters = cluster_documents(executor, scratch / "loose", kept, loose)

    writings = [Writing(*paths) for paths in zip(pages, verdicts, clusters, strict=True)]
    pieces = context.pieces("corpus")
    documents = [pieces / "documents" / part_name(index) for index in range(count)]
    dropped = [pieces / "dropped" / part_name(index) for index in range(count)]
    executor.map(write_documents, writings, documents, description="documents")
    executor.map(write_dropped, writings, dropped, description="dropped")
    edits = [pieces / "edits" / part_name(index) for index in range(count)]
    executor.map(write_edits, writings, edits, description="edits")

    context.collect("corpus")
    summary = summarise(out, pages, inputs.ignored_files, config)
    write_json(out / "summary.json", summary)
    return StageResult(
        summary["pages"],
        summary["documents"],
        summary["dropped"],
        "pages",
        {
            "languages": {lang: numbers["documents"] for lang, numbers in summary["by_language"].items()},
            "text_bytes": summary["text_bytes"],
            "exact_duplicates": summary["duplicates"]["exact"],
            "near_duplicates": summary["duplicates"]["near"],
            "edits": sum(item["count"] for item in summary["edits"]),
        },
    )
