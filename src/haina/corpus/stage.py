"""The corpus stage: pages in, curated documents out.

Comes in: the user's files. Goes out: `documents/`, `dropped/` and `summary.json`. Four steps over the same
partitions, each leaving whole files in scratch: curate (read, extract, identify, measure), fingerprint,
resolve (duplicates over all) and write. A step's file that is there is not made again, so a killed run goes
on where it was; what comes out does not depend on the number of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.config import CorpusConfig
from haina.corpus.curate import Partition, curate_partition
from haina.corpus.documents import (
    DOCUMENTS_SCHEMA,
    DROPPED_SCHEMA,
    EDITS_SCHEMA,
    PREVIEW_CHARACTERS,
    TEXT_KEPT_STAGES,
    part_name,
)
from haina.corpus.fingerprint import Fingerprinting, fingerprint_partition
from haina.corpus.sources import list_sources, partition
from haina.corpus.summary import summarise
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor
from haina.runtime.files import write_json
from haina.runtime.stage import StageContext, StageResult

# Starting processes takes seconds; below this many compressed bytes one process has written everything by then.
_ONE_PROCESS_BYTES = 256 << 20


@dataclass(frozen=True)
class Writing:
    """What a writing task is given: the curated pages of a partition and the verdicts on the living ones."""

    pages: Path
    verdicts: Path


def _judged(item: Writing) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Batches of pages with a table of verdicts on their living rows."""
    verdicts = pq.read_table(item.verdicts)
    start = 0
    with pq.ParquetFile(item.pages) as file:
        for batch in file.iter_batches(batch_size=1024):
            living = batch.column("stage").null_count
            yield batch, verdicts.slice(start, living)
            start += living


def write_documents(item: Writing, output: Path) -> None:
    """Task: the documents of a partition that stay, in the order of their sources."""
    with pq.ParquetWriter(output, DOCUMENTS_SCHEMA, compression="zstd") as writer:
        for batch, verdicts in _judged(item):
            stays = pc.is_null(verdicts.column("stage")).combine_chunks()
            living = pa.Table.from_batches([batch]).filter(pc.is_null(batch.column("stage")))
            table = living.append_column("cluster_id", verdicts.column("cluster_id"))
            table = table.append_column("cluster_size", verdicts.column("cluster_size")).filter(stays)
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
                    if found["stage"] is None:
                        continue
                    row |= {
                        "stage": found["stage"],
                        "reason": "same-text" if found["stage"] == "exact_duplicate" else "similar-text",
                        "evidence": f"{found['duplicate_of']} {found['similarity']:.4f}",
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
            verdict = iter(verdicts.column("stage").to_pylist())
            rows = []
            for row in batch.select(["id", "stage", "edits"]).to_pylist():
                stage = next(verdict) if row["stage"] is None else row["stage"]
                if stage is None or stage in TEXT_KEPT_STAGES:
                    rows += [{"id": row["id"], **edit} for edit in row["edits"] or ()]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, EDITS_SCHEMA))


def _require_documents(pages: Sequence[Path]) -> None:
    """Raise when no page is alive after the bounds, naming what took them."""
    reasons: Counter[str] = Counter()
    for path in pages:
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
    executor = LocalExecutor(context.workers, context.reporter)
    count = len(parts)

    pages = [scratch / "pages" / part_name(index) for index in range(count)]
    executor.map(
        curate_partition,
        [Partition(sources, config) for sources in parts],
        pages,
        description="reading pages",
    )
    _require_documents(pages)

    fingerprints = [scratch / "fingerprints" / f"part-{index:05d}.arrow" for index in range(count)]
    executor.map(
        fingerprint_partition,
        [Fingerprinting(path, config.shingle_tokens, config.permutations) for path in pages],
        fingerprints,
        description="fingerprints",
    )

    verdicts = [scratch / "verdicts" / part_name(index) for index in range(count)]
    if not all(path.exists() for path in verdicts):
        from haina.corpus.resolve import load_fingerprints, resolve

        gathered = load_fingerprints(fingerprints, scratch / "shingles.u64", config.permutations)
        resolve(gathered, config, verdicts, context.reporter)

    writings = [Writing(*paths) for paths in zip(pages, verdicts, strict=True)]
    documents = [out / "documents" / part_name(index) for index in range(count)]
    dropped = [out / "dropped" / part_name(index) for index in range(count)]
    small = sum(path.stat().st_size for path in pages) < _ONE_PROCESS_BYTES
    writer = LocalExecutor(1 if small else context.workers, context.reporter)
    writer.map(write_documents, writings, documents, description="documents")
    writer.map(write_dropped, writings, dropped, description="dropped")
    edits = [out / "edits" / part_name(index) for index in range(count)]
    writer.map(write_edits, writings, edits, description="edits")

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
