"""The second step of writing shards: pieces in, the files of a shards folder out, each made by a task of its own.

The tokens of a document are copied once more, which is little work beside encoding them; in return no process has to
write them all, blocks and shards have each the size that suits them, and a validation shard is made like any other
(docs/decisions/0025-shards.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from haina.runtime.executor import Location, local_copy
from haina.shards.division import Shard, piece_lengths
from haina.shards.encode import DOCUMENT_COLUMNS, DOMAIN, STAGE, TOKENS
from haina.shards.indexed import token_dtype, write_index
from haina.shards.pieces import Rule, piece_batches, piece_rows
from haina.shards.shard_set import describe_file

DOCUMENTS_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("index", pa.int64()),
        *((name, pa.string()) for name in DOCUMENT_COLUMNS),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
    ]
)
DROPPED_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "stage", "reason", "evidence")])
_ROW_GROUP = 1 << 17


@dataclass(frozen=True)
class Tokens:
    """Write the `.bin` of a shard."""

    shard: Shard


@dataclass(frozen=True)
class Index:
    """Write the `.idx` of a shard."""

    shard: Shard
    vocab_size: int


@dataclass(frozen=True)
class Documents:
    """Write the table of documents: split by split, a split's documents in the order of their numbers.

    Attributes:
        pieces: all pieces. splits: names, in order. rule: finds their documents. domains: whether they have domains.
    """

    pieces: tuple[Location, ...]
    splits: tuple[str, ...]
    rule: Rule
    domains: bool


@dataclass(frozen=True)
class Dropped:
    """Write the table of rows that are no documents."""

    pieces: tuple[Location, ...]


def write_file(item: Tokens | Index | Documents | Dropped, output: Path) -> None:
    """Task: write one file of a shards folder."""
    match item:
        case Tokens(shard):
            _write_tokens(shard, output)
        case Index(shard, vocab_size):
            write_index(output, _lengths(shard), token_dtype(vocab_size))
        case Documents():
            _write_documents(item, output)
        case Dropped(pieces):
            _write_dropped(pieces, output)


def write_checksum(path: Location, output: Path) -> None:
    """Task: bytes and SHA-256 of a finished file, as JSON."""
    with local_copy(path) as copy:
        output.write_text(json.dumps(describe_file(copy)))


def _lengths(shard: Shard) -> NDArray[np.int64]:
    """Tokens of each document of a shard, int64 [documents]."""
    found = [np.empty(0, np.int64)]
    for stretch in shard.stretches:
        found.append(piece_lengths(stretch.piece, shard.rule, shard.split)[stretch.start : stretch.stop])
    return np.concatenate(found)


def _write_tokens(shard: Shard, output: Path) -> None:
    with output.open("wb", buffering=1 << 20) as file:
        for stretch in shard.stretches:
            left, skip = stretch.stop - stretch.start, stretch.start
            for batch in piece_batches(stretch.piece):
                rows = np.flatnonzero(shard.rule.splits(batch) == shard.split)
                chosen = rows[skip : skip + left]
                skip, left = max(0, skip - len(rows)), left - len(chosen)
                if len(chosen):
                    values, ends = batch[TOKENS].values.to_numpy(), batch[TOKENS].offsets.to_numpy()
                    for run in np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1):
                        file.write(memoryview(values[ends[run[0]] : ends[run[-1] + 1]]).cast("B"))
                if not left:
                    break


def _document_rows(item: Documents, split: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of the documents of a split, piece by piece."""
    index = 0
    for piece in item.pieces:
        rows = piece_rows(piece)
        rows = rows.filter(pa.array(item.rule.splits(rows) == split))
        added = {
            "shard": pa.array([split] * rows.num_rows, pa.string()),
            "index": pa.array(np.arange(index, index + rows.num_rows)),
            "tokens": rows["length"],
        }
        index += rows.num_rows
        yield pa.table([added[name] if name in added else rows[name] for name in schema.names], schema=schema)


def _write_documents(item: Documents, output: Path) -> None:
    schema = DOCUMENTS_SCHEMA.append(pa.field(DOMAIN, pa.string())) if item.domains else DOCUMENTS_SCHEMA
    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        for split in item.splits:
            held = schema.empty_table()
            for rows in _document_rows(item, split, schema):
                held = pa.concat_tables([held, rows])
                if held.num_rows >= _ROW_GROUP:
                    writer.write_table(held)
                    held = schema.empty_table()
            if held.num_rows:
                writer.write_table(held)


def _write_dropped(pieces: tuple[Location, ...], output: Path) -> None:
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for piece in pieces:
            rows = piece_rows(piece)
            rows = rows.filter(rows["reason"].is_valid())
            if rows.num_rows:
                stages = pa.array([STAGE] * rows.num_rows, pa.string())
                writer.write_table(
                    pa.table([rows["id"], stages, rows["reason"], rows["evidence"]], schema=DROPPED_SCHEMA)
                )
