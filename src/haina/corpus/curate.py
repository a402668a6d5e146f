"""One partition of the input, from raw records to measured documents.

Comes in: the sources of a partition. Goes out: a scratch Parquet file with one row per page: those still
alive carry text, language and signals; the others the stage, reason and evidence of their end. Then, from
that file, the fingerprints (exact key, MinHash signature, shingle set) that duplicates are found by. Both are
tasks of the executor.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.config import CorpusConfig
from haina.corpus.documents import DOCUMENTS_SCHEMA, PREVIEW_CHARACTERS, SIGNAL_PREFIX, document_id
from haina.corpus.encoding import UndecodableError, decode
from haina.corpus.extract import extract_page
from haina.corpus.language import identify_language
from haina.corpus.read import read_source
from haina.corpus.records import Ignored, Page, Quarantined, clean_text
from haina.corpus.signals import first_broken, measure
from haina.corpus.sources import UNKNOWN_LICENSE, Source

_FLUSH_BYTES = 16 << 20
_FLUSH_ROWS = 1024
METADATA_KEY = "haina"

_DOCUMENT_FIELDS = [item for item in DOCUMENTS_SCHEMA if not item.name.startswith("cluster_")]
PAGES_SCHEMA = pa.schema(
    [*_DOCUMENT_FIELDS, *(pa.field(name, pa.string()) for name in ("stage", "reason", "evidence", "preview"))]
)


@dataclass(frozen=True)
class Partition:
    """What one task is given."""

    sources: tuple[Source, ...]
    config: CorpusConfig


@dataclass
class _Tally:
    """What a partition saw besides its rows."""

    bytes_read: int = 0
    ignored_records: Counter[str] = field(default_factory=Counter)


def _ended(row: dict[str, Any], stage: str, reason: str, evidence: str, text: str = "") -> dict[str, Any]:
    return {
        **row,
        "stage": stage,
        "reason": reason,
        "evidence": clean_text(evidence)[:500],
        "preview": text[:PREVIEW_CHARACTERS],
    }


def _content(page: Page) -> tuple[str, str, str]:
    """(text, title, url) of a page, whatever form it came in."""
    if page.is_html:
        extracted = extract_page(page.data, page.url or None, page.charset)
        return extracted.text, page.title or extracted.title, extracted.url
    text = page.data if isinstance(page.data, str) else decode(page.data, page.charset, is_html=False).text
    return clean_text(text).strip(), page.title, page.url


def judge(page: Page, source: Source, config: CorpusConfig) -> dict[str, Any]:  # noqa: PLR0911 - one end per step
    """The row of one page: extracted, its language known, measured, held against the bounds."""
    row: dict[str, Any] = {
        "id": document_id(source.name, page.position),
        "source": source.name,
        "url": clean_text(page.url),
        "license": clean_text(page.license) or source.license or UNKNOWN_LICENSE,
        "lang": "",
    }
    if len(page.data) < config.min_record_bytes:
        return _ended(row, "read", "too-small", f"{len(page.data)} < {config.min_record_bytes}")
    try:
        text, title, url = _content(page)
    except UndecodableError as error:
        return _ended(row, "read", "undecodable", str(error))
    except Exception as error:  # a parser's fault on one hostile page must not end the run, and must be seen
        return _ended(row, "extract", "extractor-fault", f"{type(error).__name__}: {error}")
    row |= {"title": clean_text(title), "url": clean_text(url)}
    if not text:
        return _ended(row, "extract", "no-text", "nothing is left of the page")
    found = identify_language(text)
    row["lang"] = found.language
    if found.language not in config.languages or found.confidence < config.min_language_confidence:
        reason = "uncertain-language" if found.language in config.languages else "other-language"
        return _ended(row, "language", reason, f"{found.language} {found.confidence:.3f}", text)
    values = measure(text, found.language)
    row |= {SIGNAL_PREFIX + name: value for name, value in values.items()}
    broken = first_broken(values, config.bounds(found.language))
    if broken is not None:
        return _ended(row, "signals", *broken, text)
    return {**row, "text": text}


def _rows(partition: Partition, tally: _Tally) -> Iterator[dict[str, Any]]:
    for source in partition.sources:
        tally.bytes_read += source.bytes
        for record in read_source(source, partition.config.max_record_bytes):
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
                yield _ended(row, "read", record.reason, record.evidence)
            else:
                yield judge(record, source, partition.config)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table(
        {item.name: pa.array([row.get(item.name) for row in rows], item.type) for item in PAGES_SCHEMA},
        PAGES_SCHEMA,
    )


def curate_partition(partition: Partition, output: Path) -> None:
    """Task: read, extract, identify and measure every page of a partition into `output`."""
    tally = _Tally()
    rows: list[dict[str, Any]] = []
    held = 0
    with pq.ParquetWriter(output, PAGES_SCHEMA, compression="zstd", compression_level=1) as writer:
        for row in _rows(partition, tally):
            rows.append(row)
            held += len(row.get("text") or "")
            if held > _FLUSH_BYTES or len(rows) >= _FLUSH_ROWS:
                writer.write_table(_table(rows))
                rows, held = [], 0
        if rows:
            writer.write_table(_table(rows))
        note = {
            "bytes_read": tally.bytes_read,
            "ignored_records": dict(sorted(tally.ignored_records.items())),
        }
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(note)})


@dataclass(frozen=True)
class Fingerprinting:
    """What a fingerprint task is given: the file of a curated partition, and the shape of fingerprints."""

    pages: Path
    shingle_tokens: int
    permutations: int


def fingerprint_partition(item: Fingerprinting, output: Path) -> None:
    """Task: exact key, signature and shingle set of every living page of a partition, as an Arrow file."""
    from haina.corpus.minhash import signature
    from haina.corpus.shingles import exact_key, shingles_of, tokens_of

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("characters", pa.int64()),
            ("key", pa.binary(16)),
            ("signature", pa.binary(4 * item.permutations)),
            ("shingles", pa.large_binary()),
        ]
    )
    with (
        pq.ParquetFile(item.pages) as file,
        pa.OSFile(str(output), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for batch in file.iter_batches(batch_size=256, columns=["id", "text"]):
            living = batch.filter(batch.column("text").is_valid())
            columns: list[list[Any]] = [[] for _ in schema]
            for identity, text in zip(
                *(living.column(name).to_pylist() for name in ("id", "text")), strict=True
            ):
                tokens = tokens_of(text)
                shingles = shingles_of(tokens, item.shingle_tokens)
                values = (
                    identity, len(text), exact_key(text, tokens), signature(shingles,
                    item.permutations).tobytes(), shingles.tobytes()
                )  # fmt: skip
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
