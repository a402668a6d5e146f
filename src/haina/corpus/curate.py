"""One partition of the input, from raw records to measured documents.

Comes in: the sources of a partition. Goes out: a scratch Parquet file with one row per page: those still
alive carry text, language, measures and cuts; the others the stage, reason and evidence of their end. A task of the
executor.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.accounts import Account
from haina.corpus.config import CorpusConfig
from haina.corpus.documents import EDITS_SCHEMA, PAGE_FIELDS, document_id
from haina.corpus.encoding import UndecodableError, decode
from haina.corpus.extract import extract_page
from haina.corpus.read import read_source
from haina.corpus.records import Ignored, Page, Quarantined, clean_text
from haina.corpus.refine import MARKUP, Row, end, refine
from haina.corpus.sources import UNKNOWN_LICENSE, Source

# Pages whose texts are worked on together, and the characters that close a batch early.
_BATCH_ROWS = 256
_BATCH_CHARACTERS = 4 << 20
METADATA_KEY = "haina"

_EDITS_TYPE = pa.list_(pa.struct([item for item in EDITS_SCHEMA if item.name != "id"]))
PAGES_SCHEMA = pa.schema(
    [
        *PAGE_FIELDS,
        pa.field("edits", _EDITS_TYPE),
        *(pa.field(name, pa.string()) for name in ("stage", "reason", "evidence", "preview")),
    ]
)


@dataclass(frozen=True)
class Partition:
    """What one task is given."""

    sources: tuple[Source, ...]
    config: CorpusConfig


@dataclass
class _Tally:
    """What a partition saw besides its rows: bytes of its sources, those that gave nothing by reason, and records
    that are no pages."""

    bytes_read: int = 0
    bytes_lost: Counter[str] = field(default_factory=Counter)
    ignored_records: Counter[str] = field(default_factory=Counter)


def _content(page: Page) -> Row:
    """Text, title, url and what extraction knows of a page, whatever form it came in."""
    if page.is_html:
        found = extract_page(page.data, page.url or None, page.charset)
        return {
            "text": found.text,
            "title": page.title or found.title,
            "url": found.url,
            "kind": found.kind,
            "date": found.date,
            MARKUP: found,
        }
    text = page.data if isinstance(page.data, str) else decode(page.data, page.charset, is_html=False).text
    return {"text": clean_text(text).strip(), "title": page.title, "url": page.url, MARKUP: None}


def open_page(page: Page, source: Source, config: CorpusConfig) -> Row:
    """The row of one page with its text, or with the reason why there is none."""
    row: Row = {
        "id": document_id(source.name, page.position),
        "source": source.name,
        "url": clean_text(page.url),
        "license": clean_text(page.license) or source.license or UNKNOWN_LICENSE,
        "lang": "",
    }
    if len(page.data) < config.min_record_bytes:
        end(row, "read", "too-small", f"{len(page.data)} < {config.min_record_bytes}")
        return row
    try:
        row |= _content(page)
    except UndecodableError as error:
        end(row, "read", "undecodable", str(error))
        return row
    except Exception as error:  # a parser's fault on one hostile page must not end the run, and must be seen
        end(row, "extract", "extractor-fault", f"{type(error).__name__}: {error}")
        return row
    row |= {"title": clean_text(row["title"]), "url": clean_text(row["url"])}
    if not row["text"]:
        end(row, "extract", "no-text", "nothing is left of the page")
    return row


def _rows(partition: Partition, tally: _Tally) -> Iterator[Row]:
    for source in partition.sources:
        account = Account()
        for record in read_source(source, partition.config.max_record_bytes, account):
            if isinstance(record, Ignored):
                tally.ignored_records[record.kind[:100]] += 1
            elif isinstance(record, Quarantined):
                row = {
                    "id": document_id(source.name, record.position),
                    "source": source.name,
                    "url": clean_text(record.url),
                    "license": source.license,
                    "lang": "",
                }
                end(row, "read", record.reason, record.evidence)
                yield row
            else:
                yield open_page(record, source, partition.config)
        tally.bytes_read += account.bytes_total
        for lost in account.lost:
            # A range inside a compressed member has no size in the file.
            tally.bytes_lost[lost.reason] += lost.end - lost.start if lost.inside is None else 0


def _table(rows: list[Row]) -> pa.Table:
    for row in rows:
        if row.get("edits"):
            row["edits"] = [vars(edit) for edit in row["edits"]]
    columns: dict[str, Any] = {
        item.name: pa.array([row.get(item.name) for row in rows], item.type) for item in PAGES_SCHEMA
    }
    return pa.table(columns, PAGES_SCHEMA)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    held = 0
    for row in rows:
        batch.append(row)
        held += len(row.get("text") or "")
        if held > _BATCH_CHARACTERS or len(batch) >= _BATCH_ROWS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _note(tally: _Tally) -> dict[str, str]:
    note = {
        "bytes_read": tally.bytes_read,
        "bytes_lost": dict(sorted(tally.bytes_lost.items())),
        "ignored_records": dict(sorted(tally.ignored_records.items())),
    }
    return {METADATA_KEY: json.dumps(note)}


def curate_partition(partition: Partition, output: Path) -> None:
    """Task: read, extract, cut and measure every page of a partition into `output`."""
    tally = _Tally()
    with pq.ParquetWriter(output, PAGES_SCHEMA, compression="zstd", compression_level=1) as writer:
        for batch in _batches(_rows(partition, tally)):
            refine(batch, partition.config)
            writer.write_table(_table(batch))
        writer.add_key_value_metadata(_note(tally))


def split_partition(partition: Partition) -> list[Partition]:
    """A partition that is too large for the memory, in two; a single source cannot be split."""
    middle = len(partition.sources) // 2
    halves = (partition.sources[:middle], partition.sources[middle:])
    return [Partition(sources, partition.config) for sources in halves if sources]


def merge_pages(pieces: Sequence[Path], output: Path) -> None:
    """The pages of the pieces of a partition as one file."""
    tally = _Tally()
    with pq.ParquetWriter(output, PAGES_SCHEMA, compression="zstd", compression_level=1) as writer:
        for path in pieces:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    writer.write_batch(batch)
                note = json.loads((file.metadata.metadata or {})[METADATA_KEY.encode()])
            tally.bytes_read += note["bytes_read"]
            tally.bytes_lost.update(note["bytes_lost"])
            tally.ignored_records.update(note["ignored_records"])
        writer.add_key_value_metadata(_note(tally))


def quarantine_partition(partition: Partition, reason: str, output: Path) -> None:
    """What stands for sources on which a worker was lost again and again: each a dropped row with the reason."""
    tally, rows = _Tally(), []
    for source in partition.sources:
        row: Row = {
            "id": document_id(source.name, "file"),
            "source": source.name,
            "url": "",
            "license": source.license,
        }
        row["lang"] = ""
        end(row, "read", "worker-lost", reason)
        rows.append(row)
        tally.bytes_read += source.bytes
        tally.bytes_lost["worker-lost"] += source.bytes
    with pq.ParquetWriter(output, PAGES_SCHEMA, compression="zstd", compression_level=1) as writer:
        writer.write_table(_table(rows))
        writer.add_key_value_metadata(_note(tally))
