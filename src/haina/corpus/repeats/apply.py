"""Documents without what was said elsewhere.

Comes in: the blocks of documents and their `repeats`. Goes out: `documents/` with all columns, `edits/` with what
was cut, and `dropped/` with documents of which nothing was left; documents in = documents out + dropped. A token goes
when any repeated unit or window over it has its first occurrence elsewhere. That first occurrence comes earlier in
(rank, position), and so does what it may repeat in turn: following it from any removed token ends at one that stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.blocks import Block, read_rows
from haina.corpus.documents import EDITS_SCHEMA, PREVIEW_CHARACTERS, part_name
from haina.corpus.repeats.config import RepeatsConfig
from haina.corpus.repeats.find import Found
from haina.corpus.repeats.remove import EDIT_UNITS, Removed, Span, remove_units
from haina.corpus.repeats.rows import removable
from haina.runtime.executor import Executor

STAGE = "repeats"
NOTHING_LEFT = "nothing-left"
DROPPED_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("id", "stage", "reason", "evidence", "lang", "preview")]
)
_COLUMNS = ["row", "start", "end", "tokens", "documents", "is_first", "first_id", "first_start", "first_end"]


@dataclass(frozen=True)
class Cutting:
    """What a task is given: a block, its repeats, and settings."""

    block: Block
    repeats: Path
    config: RepeatsConfig


@dataclass(frozen=True)
class Applied:
    """Where the results are: one file a block each."""

    documents: tuple[Path, ...]
    edits: tuple[Path, ...]
    dropped: tuple[Path, ...]


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap or meet made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


@dataclass
class _Cut:
    """What goes from a document, and the evidence of the first span."""

    spans: list[Span]
    evidence: str


def _cuts(item: Cutting) -> dict[int, _Cut]:
    """By row in the block: what goes."""
    table = pq.read_table(item.repeats, columns=_COLUMNS)
    gone = removable(table, item.config)
    cuts: dict[int, _Cut] = {}
    if not gone.any():
        return cuts
    rows = table.column("row").to_numpy()
    starts, ends = table.column("start").to_numpy(), table.column("end").to_numpy()
    touched = np.unique(rows[gone])
    lows, highs = np.searchsorted(rows, touched), np.searchsorted(rows, touched, side="right")
    for row, low, high in zip(touched.tolist(), lows.tolist(), highs.tolist(), strict=True):
        own = slice(low, high)
        goes = gone[own]
        spans = merged(list(zip(starts[own][goes].tolist(), ends[own][goes].tolist(), strict=True)))
        first = low + int(np.argmax(goes))
        found = {name: table.column(name)[first].as_py() for name in ("first_id", "first_start", "first_end")}
        evidence = f"{found['first_id']} {found['first_start']}-{found['first_end']}"
        cuts[row] = _Cut([Span(*span) for span in spans], evidence)
    return cuts


def _edited(
    item: Cutting, columns: list[str] | None
) -> Iterator[tuple[pa.RecordBatch, dict[int, tuple[Removed, str]]]]:
    """Batches of the block, and what became of the rows of each that change: (result, evidence)."""
    cuts = _cuts(item)
    first = 0
    for batch in read_rows(item.block, columns):
        rows = [row for row in range(batch.num_rows) if first + row in cuts]
        texts = [batch.column("text")[row].as_py() for row in rows]
        own = [cuts[first + row] for row in rows]
        results = remove_units(texts, [cut.spans for cut in own], EDIT_UNITS[item.config.level])
        changed = {row: (result, cut.evidence) for row, result, cut in zip(rows, results, own, strict=True)}
        yield batch, changed
        first += batch.num_rows


def _what_stays(batch: pa.RecordBatch, changed: dict[int, tuple[Removed, str]]) -> pa.RecordBatch:
    """The batch with new texts, without the rows of which nothing is left."""
    place = batch.schema.get_field_index("text")
    field = batch.schema.field(place)
    texts = batch.column(place).to_pylist()
    stays = np.ones(batch.num_rows, dtype=np.bool_)
    for row, (result, _) in changed.items():
        texts[row] = result.text
        stays[row] = not result.is_empty
    return batch.set_column(place, field, pa.array(texts).cast(field.type)).filter(pa.array(stays))


def write_documents(item: Cutting, output: Path) -> None:
    """Task: the documents of a block that stay, all columns, in their order."""
    writer: pq.ParquetWriter | None = None
    try:
        for batch, changed in _edited(item, None):
            writer = writer or pq.ParquetWriter(output, batch.schema, compression="zstd")
            writer.write_batch(_what_stays(batch, changed) if changed else batch)
    finally:
        if writer is not None:
            writer.close()


def write_edits(item: Cutting, output: Path) -> None:
    """Task: what was cut from the documents of a block that stay."""
    with pq.ParquetWriter(output, EDITS_SCHEMA, compression="zstd") as writer:
        for batch, changed in _edited(item, ["id", "text"]):
            rows: list[dict[str, Any]] = []
            for row, (result, _) in changed.items():
                if not result.is_empty:
                    name = batch.column("id")[row].as_py()
                    rows += [{"id": name, **vars(edit)} for edit in result.edits]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, EDITS_SCHEMA))


def write_dropped(item: Cutting, output: Path) -> None:
    """Task: the documents of a block of which nothing is left, each with the first thing that it repeats."""
    columns = ["id", "text"]
    with pq.ParquetFile(item.block.path) as file:
        columns += ["lang"] if "lang" in file.schema_arrow.names else []
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for batch, changed in _edited(item, columns):
            rows = [
                {
                    "id": batch.column("id")[row].as_py(),
                    "stage": STAGE,
                    "reason": NOTHING_LEFT,
                    "evidence": evidence,
                    "lang": batch.column("lang")[row].as_py() if "lang" in columns else None,
                    "preview": batch.column("text")[row].as_py()[:PREVIEW_CHARACTERS],
                }
                for row, (result, evidence) in changed.items()
                if result.is_empty
            ]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, DROPPED_SCHEMA))


def apply_repeats(executor: Executor, found: Found, config: RepeatsConfig, out: Path) -> Applied:
    """Remove what `find_repeats` found, by the rule of `config`.

    Args:
        executor: where tasks run.
        found: its result for the same level and priority; the other settings may differ.
        config: see `RepeatsConfig`.
        out: folder for `documents/`, `edits/` and `dropped/`.
    """
    items = [
        Cutting(block, repeats, config) for block, repeats in zip(found.blocks, found.repeats, strict=True)
    ]
    names = [part_name(block.number) for block in found.blocks]
    documents, edits, dropped = (
        tuple(out / table / name for name in names) for table in ("documents", "edits", "dropped")
    )
    executor.map(write_documents, items, documents, description="documents")
    executor.map(write_edits, items, edits, description="edits")
    executor.map(write_dropped, items, dropped, description="dropped")
    return Applied(documents, edits, dropped)
