"""The decontamination stage: curated documents and evaluation files in; documents without evaluation items out.

Comes in: Parquet files with `text`, and evaluation files. Goes out: `documents/` (all columns kept), `dropped/`
with stage, reason and evidence, `matches.parquet` with the span of every item that was found,
`quarantine.parquet` with rows of evaluation files that were not searched for, and `summary.json`. The index is
built once and mapped by every task. A document that holds an item is dropped whole: where a question stands its
answer often stands too, in words that the evaluation file does not have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.decontaminate.build import build_index
from haina.corpus.decontaminate.config import DecontaminateConfig
from haina.corpus.decontaminate.decide import METHODS
from haina.corpus.decontaminate.find import find_contamination
from haina.corpus.decontaminate.index import Index, load_index, save_index
from haina.corpus.decontaminate.items import Benchmarks, read_benchmarks
from haina.corpus.documents import PREVIEW_CHARACTERS, part_name
from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path, write_json
from haina.runtime.parquet_rows import open_parquet
from haina.runtime.stage import StageContext, StageResult

STAGE = "decontaminate"
REASON = "evaluation-item"
BATCH_ROWS = 1024
_COPIED = ("url", "source", "lang")
DROPPED_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string())
        for name in ("id", "stage", "reason", "evidence", "preview", "text", *_COPIED)
    ]
)
MATCHES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()), pa.field("start", pa.int64()), pa.field("end", pa.int64()),
        pa.field("benchmark", pa.string()), pa.field("item", pa.string()), pa.field("field", pa.string()),
        pa.field("score", pa.float32()), pa.field("method", pa.string()), pa.field("text", pa.string()),
    ]
)  # fmt: skip
QUARANTINE_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("benchmark", "item", "reason", "preview")]
)
_ROW = pa.field("row", pa.int64())


@dataclass(frozen=True)
class Part:
    """Some row groups of a file, and the index that they are searched with."""

    path: Path
    groups: tuple[int, ...]
    index: Path


@dataclass(frozen=True)
class Writing:
    """A part, and what was found in it."""

    part: Part
    matches: Path


def _batches(part: Part, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with open_parquet(part.path) as file:
        try:
            yield from file.iter_batches(
                BATCH_ROWS,
                row_groups=list(part.groups),
                columns=list(columns) if columns else None,
                use_threads=False,
            )
        except (pa.ArrowException, OSError) as error:
            raise HainaError(
                f"{part.path}: damaged ({str(error).splitlines()[0]})", "make it again"
            ) from error


def _ids(batch: pa.RecordBatch, part: Part, row: int) -> list[str]:
    """Ids of the documents; where there are none, the file's name and the row."""
    first = part.groups[0] if part.groups else 0
    made = [f"{part.path.name}:{first}:{row + number}" for number in range(batch.num_rows)]
    if "id" not in batch.schema.names:
        return made
    return [
        made[number] if value is None else str(value)
        for number, value in enumerate(batch.column("id").to_pylist())
    ]


def split_parts(paths: Sequence[Path], index: Path, part_bytes: int) -> list[Part]:
    """The row groups of all files in portions of about `part_bytes`; the same for any number of workers.

    Raises:
        HainaError: a file cannot be read or has no texts.
    """
    parts: list[Part] = []
    for path in paths:
        with open_parquet(path) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                raise HainaError(
                    f"{path}: no column `text` (it has {', '.join(names)})", "name the column of texts `text`"
                )
            kind = file.schema_arrow.field("text").type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise HainaError(f"{path}: column `text` holds {kind}, not strings", "convert it")
            groups: list[int] = []
            size = 0
            for group in range(file.metadata.num_row_groups):
                groups.append(group)
                size += file.metadata.row_group(group).total_byte_size
                if size >= part_bytes:
                    parts.append(Part(path, tuple(groups), index))
                    groups, size = [], 0
            if groups or file.metadata.num_row_groups == 0:
                parts.append(Part(path, tuple(groups), index))
    return parts


def search_part(part: Part, output: Path) -> None:
    """Task: the matches in a part, with the row of each document in it."""
    index = load_index(part.index)
    names = ["id", "text"] if _has_ids(part.path) else ["text"]
    row = 0
    with pq.ParquetWriter(output, pa.schema([_ROW, *MATCHES_SCHEMA]), compression="zstd") as writer:
        for batch in _batches(part, names):
            texts = [text or "" for text in batch.column("text").to_pylist()]
            found = find_contamination(texts, index)
            if len(found.texts):
                ids = _ids(batch, part, row)
                rows = [
                    {
                        "row": row + text,
                        "id": ids[text],
                        "start": start,
                        "end": end,
                        "benchmark": index.files[index.item_files[item]],
                        "item": index.item_names[item],
                        "field": index.item_fields[item],
                        "score": score,
                        "method": METHODS[method],
                        "text": texts[text].encode("utf-8")[start:end].decode("utf-8"),
                    }
                    for text, start, end, item, score, method in zip(
                        *(column.tolist() for column in found), strict=True
                    )
                ]
                writer.write_table(pa.Table.from_pylist(rows, writer.schema))
            row += batch.num_rows


def _has_ids(path: Path) -> bool:
    with open_parquet(path) as file:
        return "id" in file.schema_arrow.names


def _contaminated(item: Writing) -> dict[int, dict[str, Any]]:
    """The best match of each row that has one; of equals the first."""
    best: dict[int, dict[str, Any]] = {}
    columns = ["row", "benchmark", "item", "method", "score"]
    for match in pq.read_table(item.matches, columns=columns).to_pylist():
        if match["row"] not in best or match["score"] > best[match["row"]]["score"]:
            best[match["row"]] = match
    return best


def write_documents(item: Writing, output: Path) -> None:
    """Task: the documents of a part without items, all columns."""
    taken = _contaminated(item)
    row = 0
    with open_parquet(item.part.path) as file:
        schema = file.schema_arrow
    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        for batch in _batches(item.part, None):
            stays = [row + number not in taken for number in range(batch.num_rows)]
            kept = batch.filter(pa.array(stays, pa.bool_()))
            if kept.num_rows:
                writer.write_batch(kept)
            row += batch.num_rows


def write_dropped(item: Writing, output: Path) -> None:
    """Task: the documents of a part with items, and the item that each was dropped for."""
    taken = _contaminated(item)
    row = 0
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for batch in _batches(item.part, None):
            numbers = [number for number in range(batch.num_rows) if row + number in taken]
            if numbers:
                ids = _ids(batch, item.part, row)
                copied = [name for name in _COPIED if name in batch.schema.names]
                picked = batch.take(pa.array(numbers))
                texts = picked.column("text").to_pylist()
                columns = {name: picked.column(name).cast(pa.string()).to_pylist() for name in copied}
                rows = []
                for place, number in enumerate(numbers):
                    match = taken[row + number]
                    rows.append(
                        {
                            "id": ids[number],
                            "stage": STAGE,
                            "reason": REASON,
                            "evidence": f"{match['benchmark']} {match['item']} {match['method']} {match['score']:.4f}",
                            "preview": texts[place][:PREVIEW_CHARACTERS],
                            "text": texts[place],
                            **{name: values[place] for name, values in columns.items()},
                        }
                    )
                writer.write_table(pa.Table.from_pylist(rows, DROPPED_SCHEMA))
            row += batch.num_rows


def benchmark_of(file: str) -> str:
    """What results are reported for: the file that was named, or a file directly in a folder that was."""
    return file.split("/", 1)[0]


def run(config: DecontaminateConfig, context: StageContext) -> StageResult:
    """Search `context.sources` (Parquet files) for the evaluation files among `context.inputs`.

    Returns:
        Documents in, kept, dropped.

    Raises:
        HainaError: an input cannot be read, or an evaluation file holds no item.
    """
    benchmarks = read_benchmarks(list(context.inputs.values()))
    index_path = context.scratch / "items.index"
    if not index_path.exists():
        context.reporter.say(f"indexing {len(benchmarks.items):,} evaluation items")
        save_index(build_index(benchmarks.items), index_path)
    index = load_index(index_path)
    out = context.out("decontaminated")
    parts = split_parts([Path(source) for source in context.sources], index_path, config.part_bytes)
    found = [context.scratch / "matches" / part_name(number) for number in range(len(parts))]
    context.executor.map(search_part, parts, found, description="searching")
    writings = [Writing(part, path) for part, path in zip(parts, found, strict=True)]
    for name, task in (("documents", write_documents), ("dropped", write_dropped)):
        outputs = [out / name / part_name(number) for number in range(len(parts))]
        context.executor.map(task, writings, outputs, description=name)
    _write_matches(found, out / "matches.parquet")
    _write_quarantine(benchmarks, index, out / "quarantine.parquet")
    summary = summarise(parts, out, benchmarks, index)
    write_json(out / "summary.json", summary)
    return StageResult(
        summary["documents_in"], summary["documents"], summary["dropped"], "documents",
        {"items": summary["items"], "items_found": summary["items_found"]},
    )  # fmt: skip


def _write_matches(found: Sequence[Path], output: Path) -> None:
    with (
        atomic_path(output) as temporary,
        pq.ParquetWriter(temporary, MATCHES_SCHEMA, compression="zstd") as writer,
    ):
        for path in found:
            table = pq.read_table(path, columns=MATCHES_SCHEMA.names)
            if table.num_rows:
                writer.write_table(table)


def _write_quarantine(benchmarks: Benchmarks, index: Index, output: Path) -> None:
    rows = [
        {"benchmark": account.file, "item": str(bad.number), "reason": bad.reason, "preview": bad.preview}
        for account in benchmarks.accounts
        for bad in account.quarantined
    ]
    rows += [
        {
            "benchmark": benchmarks.items[number].file,
            "item": benchmarks.items[number].item,
            "reason": "too-short",
            "preview": benchmarks.items[number].question[:PREVIEW_CHARACTERS],
        }
        for number in index.too_short
    ]
    with atomic_path(output) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, QUARANTINE_SCHEMA), temporary, compression="zstd")


def summarise(parts: Sequence[Part], out: Path, benchmarks: Benchmarks, index: Index) -> dict[str, Any]:
    """Counts of documents, and by benchmark: items, those found, documents affected and an example."""
    documents_in = 0
    for part in parts:
        with open_parquet(part.path) as file:
            documents_in += sum(file.metadata.row_group(group).num_rows for group in part.groups)
    kept, dropped = (
        sum(pq.read_metadata(path).num_rows for path in (out / name).glob("part-*.parquet"))
        for name in ("documents", "dropped")
    )
    items = Counter(benchmark_of(item.file) for item in benchmarks.items)
    short = Counter(benchmark_of(benchmarks.items[number].file) for number in index.too_short)
    bad = Counter[str]()
    for account in benchmarks.accounts:
        bad[benchmark_of(account.file)] += len(account.quarantined) + account.without_text
    matched: dict[str, set[tuple[str, str]]] = defaultdict(set)
    affected: dict[str, set[str]] = defaultdict(set)
    examples: dict[str, dict[str, Any]] = {}
    methods: Counter[str] = Counter()
    with pq.ParquetFile(out / "matches.parquet") as file:
        for batch in file.iter_batches(4096):
            methods.update(pc.cast(batch.column("method"), pa.string()).to_pylist())
            for row in batch.to_pylist():
                name = benchmark_of(row["benchmark"])
                matched[name].add((row["benchmark"], row["item"]))
                affected[name].add(row["id"])
                if name not in examples or row["score"] > examples[name]["score"]:
                    examples[name] = {
                        key: row[key] for key in ("id", "start", "end", "benchmark", "item", "score")
                    } | {"text": row["text"][:PREVIEW_CHARACTERS]}
    return {
        "documents_in": documents_in,
        "documents": kept,
        "dropped": dropped,
        "items": len(benchmarks.items),
        "items_found": sum(map(len, matched.values())),
        "methods": dict(sorted(methods.items())),
        "benchmarks": {
            name: {
                "items": items[name],
                "items_found": len(matched[name]),
                "documents": len(affected[name]),
                "too_short": short[name],
                "unreadable_rows": bad[name],
                "example": examples.get(name),
            }
            for name in items
        },
        "ignored_files": list(benchmarks.ignored),
    }
