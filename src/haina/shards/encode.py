"""The first step of writing shards: a block of documents in, its documents as token ids out.

A piece is an Arrow file with a row a document: where it came from, what decides to which split it goes, and its tokens.
Rows that are no document stand there too, with the reason. Pieces are finished work that outlives a kill;
`assemble.py` makes shards of them. Every number of workers makes the same pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.runtime.executor import Recovery
from haina.runtime.held_out import split_position
from haina.runtime.languages import languages
from haina.runtime.text_files import Block, halves, read_block
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.indexed import as_tokens, token_dtype

if TYPE_CHECKING:  # it brings pydantic, which a worker has no use for
    from haina.shards.domains import Mixture

DOCUMENT_COLUMNS = ("id", "source", "url", "lang", "cluster_id")
DOMAIN = "domain"
TOKENS = "tokens"
STAGE = "shards"


@dataclass(frozen=True)
class Encoding:
    """One task: encode the documents of some blocks.

    Attributes:
        blocks: the documents; several where files are small.
        tokenizer: a tokenizer folder.
        fingerprint: of the tokenizer, so that pieces of another one are not used.
        mixture: says which domain a document belongs to, None where no one asks.
    """

    blocks: tuple[Block, ...]
    tokenizer: Path
    fingerprint: str
    mixture: Mixture | None = None


def frame_ids(tokenizer: TokenizerFile) -> tuple[int, int]:
    """Ids put before and after each document.

    Raises:
        HainaError: the tokenizer names no begin or end token.
    """
    if tokenizer.bos_id is None or tokenizer.eos_id is None:
        raise HainaError(
            f"{tokenizer.folder}: no bos_token or no eos_token",
            "name both in tokenizer_config.json; documents are framed by them",
        )
    return tokenizer.bos_id, tokenizer.eos_id


def piece_schema(vocab_size: int) -> pa.Schema:
    """Columns of a piece: those of a document, its domain (null where no mixture asks), its language group, its
    `position` (see `runtime.held_out`), UTF-8 bytes, number of tokens and tokens; or `reason` and `evidence` of a row
    that is none."""
    text = [
        pa.field(name, pa.string()) for name in (*DOCUMENT_COLUMNS, DOMAIN, "group", "reason", "evidence")
    ]
    tokens = pa.large_list(pa.from_numpy_dtype(token_dtype(vocab_size)))
    numbers = [
        pa.field("position", pa.float64()),
        pa.field("bytes", pa.int64()),
        pa.field("length", pa.int64()),
    ]
    return pa.schema([*text, *numbers, pa.field(TOKENS, tokens)])


@lru_cache(maxsize=1)
def _opened(folder: Path, fingerprint: str) -> TokenizerFile:
    """The tokenizer, read once a process."""
    tokenizer = TokenizerFile(folder)
    if tokenizer.fingerprint != fingerprint:
        raise HainaError(f"{folder}: the tokenizer changed while it was used", "run the same command again")
    return tokenizer


def framed(
    ids: NDArray[np.integer], offsets: NDArray[np.int64], bos: int, eos: int, dtype: np.dtype[np.generic]
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Documents `ids[offsets[i]:offsets[i + 1]]` with `bos` before and `eos` behind each, and their new offsets."""
    ends = offsets + 2 * np.arange(len(offsets))
    result = np.empty(int(ends[-1]), dtype)
    inside = np.ones(len(result), np.bool_)
    inside[ends[:-1]] = inside[ends[1:] - 1] = False
    result[inside] = ids
    result[ends[:-1]], result[ends[1:] - 1] = bos, eos
    return result, ends


class _Dropped:
    """Rows that are no document, until they are written."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, list[tuple[str, str, str]]()

    def add(self, reason: str, where: str) -> None:
        kind, _, evidence = reason.partition(": ")
        self.rows.append((where, kind, evidence))

    def batch(self) -> pa.RecordBatch:
        names, rows = ("id", "reason", "evidence"), self.rows
        found = {
            name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate(names)
        }
        self.rows = []
        return pa.record_batch(
            [found.get(field.name, pa.nulls(len(rows), field.type)) for field in self.schema],
            schema=self.schema,
        )


def _documents(
    batch: pa.RecordBatch, tokenizer: TokenizerFile, schema: pa.Schema, mixture: Mixture | None
) -> pa.RecordBatch:
    bos, eos = frame_ids(tokenizer)
    columns: dict[str, Any] = {name: batch[name] for name in DOCUMENT_COLUMNS}
    columns["lang"], columns["group"] = languages(batch["lang"], batch["text"])
    columns["cluster_id"] = pc.coalesce(batch["cluster_id"], batch["id"])
    clusters = columns["cluster_id"].to_pylist()
    columns["position"] = pa.array([split_position(cluster) for cluster in clusters], pa.float64())
    columns["bytes"] = pc.binary_length(batch["text"]).cast(pa.int64())
    if mixture is not None:
        named = columns.get(mixture.by, batch[mixture.by]).dictionary_encode(null_encoding="encode")
        domains = pa.array([mixture.domain_of(value) for value in named.dictionary.to_pylist()], pa.string())
        columns[DOMAIN] = domains.take(named.indices)
    ids, offsets = tokenizer.encode_column(batch["text"])
    dtype = token_dtype(tokenizer.vocab_size)
    tokens, ends = framed(as_tokens(tokenizer.folder, ids, dtype), offsets, bos, eos, dtype)
    columns["length"] = pa.array(np.diff(ends))
    columns[TOKENS] = pa.LargeListArray.from_arrays(pa.array(ends), pa.array(tokens))
    return pa.record_batch(
        [columns.get(field.name, pa.nulls(batch.num_rows, field.type)) for field in schema], schema=schema
    )


def _rows(task: Encoding, tokenizer: TokenizerFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    dropped = _Dropped(schema)
    mixture = task.mixture
    asked = dict.fromkeys([*DOCUMENT_COLUMNS, *([mixture.by] if mixture else [])])
    batches = (batch for block in task.blocks for batch in read_block(block, list(asked), dropped.add))
    for batch in batches:
        empty = pc.equal(pc.binary_length(batch["text"]), 0)
        for place in pc.indices_nonzero(empty).to_pylist():
            dropped.add("empty: a text of 0 bytes", batch["id"][place].as_py())
        if dropped.rows:
            yield dropped.batch()
        full = batch.filter(pc.invert(empty))
        if full.num_rows:
            yield _documents(full, tokenizer, schema, mixture)
    if dropped.rows:
        yield dropped.batch()


def encode_blocks(task: Encoding, output: Path) -> None:
    """Task: write the piece of some blocks."""
    tokenizer = _opened(task.tokenizer, task.fingerprint)
    schema = piece_schema(tokenizer.vocab_size)
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in _rows(task, tokenizer, schema):
            writer.write_batch(batch)


def _split(task: Encoding) -> list[Encoding]:
    half = len(task.blocks) // 2
    parts = (
        [task.blocks[:half], task.blocks[half:]] if half else [(block,) for block in halves(task.blocks[0])]
    )
    return [replace(task, blocks=blocks) for blocks in parts]


def _merge(pieces: list[Path], output: Path) -> None:
    with pa.OSFile(str(output), "wb") as sink:
        writer = None
        for piece in pieces:
            with pa.memory_map(str(piece)) as source, pa.ipc.open_file(source) as reader:
                writer = writer or pa.ipc.new_file(sink, reader.schema)
                for number in range(reader.num_record_batches):
                    writer.write_batch(reader.get_batch(number))
        assert writer is not None
        writer.close()


def _quarantine(task: Encoding, reason: str, output: Path) -> None:
    block = task.blocks[0]
    if block.stop is None and block.rows is None:
        raise HainaError(
            f"{block.path}: a worker process died on it twice: {reason}",
            "unpack the file, so that it can be read in parts, or use fewer workers",
        )
    schema = piece_schema(_opened(task.tokenizer, task.fingerprint).vocab_size)
    dropped = _Dropped(schema)
    place = block.first_row if block.rows else block.start
    dropped.add(f"worker-lost: {reason}", f"{block.name}#{place}")
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(dropped.batch())


# A document that a worker dies on, mostly for want of memory, costs itself and not its block.
RECOVERY = Recovery(_split, _merge, _quarantine)
