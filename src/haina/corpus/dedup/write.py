"""What a search for duplicates leaves: documents that stay, those that go, and the clusters.

Comes in: a block of documents and the verdicts on them, or on their paragraphs or sentences. Goes out: `documents/`
with all columns, `dropped/`, `edits/` where text was cut, and the rows of `clusters.parquet`. Documents in = documents
out + dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.dedup.fingerprint import Part
from haina.corpus.documents import EDITS_SCHEMA, PREVIEW_CHARACTERS
from haina.corpus.repeats.remove import Removed, Span, remove_units
from haina.runtime.executor import Location, local_copy

CLUSTER_SIZE = "duplicate_count"
NEAR_STAGE, EXACT_STAGE, UNITS_STAGE = "near_duplicate", "exact_duplicate", "duplicate_text"
REPRESENTATIVE = "representative"

CLUSTERS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("representative", pa.string()),
        pa.field("similarity", pa.float32()),
        pa.field("method", pa.string()),
        pa.field("cluster_size", pa.int64()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("id", "stage", "reason", "evidence", "preview")]
)


@dataclass(frozen=True)
class Judged:
    """What a task is given: documents and the file of verdicts on them."""

    part: Part
    verdicts: Location


@dataclass(frozen=True)
class JudgedUnits:
    """What a task is given: documents, their units, the verdicts on those, and what a unit is."""

    part: Part
    units: Location
    verdicts: Location
    level: Literal["paragraph", "sentence"]


def read_verdicts(location: Location) -> pa.Table:
    """A file of verdicts, a row a document."""
    with local_copy(location) as path, pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


def _with_verdicts(item: Judged, *columns: str) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    verdicts = read_verdicts(item.verdicts)
    first = 0
    for batch in item.part.batches(*(columns or item.part.block.columns)):
        yield batch, verdicts.slice(first, batch.num_rows)
        first += batch.num_rows


def write_kept(item: Judged, output: Path) -> None:
    """Task: documents that stay, all columns, and how many documents they stand for."""
    writer: pq.ParquetWriter | None = None
    try:
        for batch, verdicts in _with_verdicts(item):
            table = pa.Table.from_batches([batch])
            if CLUSTER_SIZE in table.column_names:
                table = table.drop_columns([CLUSTER_SIZE])
            table = table.append_column(CLUSTER_SIZE, verdicts.column("cluster_size"))
            writer = writer or pq.ParquetWriter(output, table.schema, compression="zstd")
            writer.write_table(table.filter(pc.is_null(verdicts.column("representative"))))
    finally:
        if writer is not None:
            writer.close()


def write_dropped(item: Judged, output: Path) -> None:
    """Task: documents that do not stay, each with the one that stays for it and their similarity."""
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for batch, verdicts in _with_verdicts(item, "id", "text"):
            gone = pc.is_valid(verdicts.column("representative"))
            rows = pa.Table.from_batches([batch]).filter(gone).to_pylist()
            found = verdicts.filter(gone).to_pylist()
            if rows:
                dropped = [
                    {
                        "id": row["id"],
                        "stage": EXACT_STAGE if verdict["method"] == "exact" else NEAR_STAGE,
                        "reason": "same-text" if verdict["method"] == "exact" else "similar-text",
                        "evidence": f"{verdict['representative']} {verdict['similarity']:.4f}",
                        "preview": (row["text"] or "")[:PREVIEW_CHARACTERS],
                    }
                    for row, verdict in zip(rows, found, strict=True)
                ]
                writer.write_table(pa.Table.from_pylist(dropped, DROPPED_SCHEMA))


def write_clusters(item: Judged, output: Path) -> None:
    """Task: the members of clusters of two and more, representatives among them."""
    with pq.ParquetWriter(output, CLUSTERS_SCHEMA, compression="zstd") as writer:
        for batch, verdicts in _with_verdicts(item, "id"):
            table = pa.Table.from_batches([batch.select(["id"])])
            for name in ("representative", "similarity", "method", "cluster_size"):
                table = table.append_column(name, verdicts.column(name))
            table = table.filter(pc.greater(table.column("cluster_size"), 1))
            if not table.num_rows:
                continue
            ids = table.column("id").cast(pa.string())
            columns = [
                ids,
                pc.coalesce(table.column("representative").cast(pa.string()), ids),
                pc.fill_null(table.column("similarity"), 1.0),
                pc.fill_null(table.column("method").cast(pa.string()), REPRESENTATIVE),
                table.column("cluster_size"),
            ]
            writer.write_table(pa.table(columns, schema=CLUSTERS_SCHEMA))


def _cuts(item: JudgedUnits) -> dict[int, tuple[list[Span], str]]:
    """By row of the block: the units that go, and the evidence of the first."""
    with local_copy(item.units) as path:
        units = pq.read_table(path, columns=["row", "start", "end"])
    verdicts = read_verdicts(item.verdicts)
    gone = pc.is_valid(verdicts.column("representative"))
    rows = units.filter(gone).to_pydict()
    found = verdicts.filter(gone)
    cuts: dict[int, tuple[list[Span], str]] = {}
    for row, start, end, similarity, representative in zip(
        rows["row"], rows["start"], rows["end"], found.column("similarity").to_pylist(),
        found.column("representative").to_pylist(), strict=True,
    ):  # fmt: skip
        spans, _ = cuts.setdefault(row, ([], f"{representative} {similarity:.4f}"))
        spans.append(Span(start, end, similarity))
    return cuts


def _edited(
    item: JudgedUnits, *columns: str
) -> Iterator[tuple[pa.RecordBatch, dict[int, tuple[Removed, str]]]]:
    """Batches of documents, and what became of those that change."""
    cuts = _cuts(item)
    first = 0
    for batch in item.part.batches(*(columns or item.part.block.columns)):
        rows = [row for row in range(batch.num_rows) if first + row in cuts]
        texts = [batch.column("text")[row].as_py() for row in rows]
        results = remove_units(texts, [cuts[first + row][0] for row in rows], item.level)
        yield batch, {row: (result, cuts[first + row][1]) for row, result in zip(rows, results, strict=True)}
        first += batch.num_rows


def write_kept_units(item: JudgedUnits, output: Path) -> None:
    """Task: documents without the units that repeat, all columns; those of which nothing is left do not stay."""
    writer: pq.ParquetWriter | None = None
    try:
        for batch, changed in _edited(item):
            writer = writer or pq.ParquetWriter(output, batch.schema, compression="zstd")
            place = batch.schema.get_field_index("text")
            texts = batch.column("text").to_pylist()
            stays = np.ones(batch.num_rows, dtype=np.bool_)
            for row, (result, _) in changed.items():
                texts[row] = result.text
                stays[row] = not result.is_empty
            kind = batch.schema.field(place)
            edited = batch.set_column(place, kind, pa.array(texts, pa.large_string()).cast(kind.type))
            writer.write_batch(edited.filter(pa.array(stays)))
    finally:
        if writer is not None:
            writer.close()


def write_dropped_units(item: JudgedUnits, output: Path) -> None:
    """Task: documents of which nothing is left, each with what its first unit repeats."""
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for batch, changed in _edited(item, "id", "text"):
            rows: list[dict[str, Any]] = [
                {
                    "id": batch.column("id")[row].as_py(),
                    "stage": UNITS_STAGE,
                    "reason": "nothing-left",
                    "evidence": evidence,
                    "preview": batch.column("text")[row].as_py()[:PREVIEW_CHARACTERS],
                }
                for row, (result, evidence) in changed.items()
                if result.is_empty
            ]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, DROPPED_SCHEMA))


def write_edits(item: JudgedUnits, output: Path) -> None:
    """Task: what was cut from documents that stay."""
    with pq.ParquetWriter(output, EDITS_SCHEMA, compression="zstd") as writer:
        for batch, changed in _edited(item, "id", "text"):
            rows: list[dict[str, Any]] = []
            for row, (result, _) in changed.items():
                if not result.is_empty:
                    name = batch.column("id")[row].as_py()
                    rows += [{"id": name, **vars(edit)} for edit in result.edits]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, EDITS_SCHEMA))
