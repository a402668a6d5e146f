"""Documents of Parquet files in blocks of bounded size, and the order in which documents count.

Comes in: Parquet files with `id` and `text`. Goes out: blocks, each a run of rows that one task works on; a block's
texts as batches of UTF-8 without Python strings, documents longer than a batch in pieces; and the rank of its
documents. Blocks depend on the files alone, never on who works on them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.dedup.shingles import Tokens, tokenize_batch
from haina.corpus.repeats.config import Level
from haina.corpus.repeats.units import units_batch
from haina.runtime.errors import HainaError, os_errors_about

BATCH_BYTES = 8 << 20
_READ_ROWS = 1024
# A piece of a long document ends behind a line end or, for windows, a blank: no token reaches over either.
_CUT_SEARCH = 1 << 20


@dataclass(frozen=True)
class Block:
    """Rows that one task works on.

    Attributes:
        number: 0 for the first block of all.
        path: Parquet file.
        groups: its row groups, `groups[0]` to `groups[1]`.
        skip: rows of them before the first of the block.
        rows: how many the block has.
        first: number of its first document among all.
    """

    number: int
    path: Path
    groups: tuple[int, int]
    skip: int
    rows: int
    first: int


class Piece(NamedTuple):
    """A document or a stretch of one.

    Attributes:
        row: of the document in its block.
        byte: where the piece starts in the document.
        token: number of its first token in the document.
        skip: windows at its beginning that the piece before has counted.
    """

    row: int
    byte: int
    token: int
    skip: int


class TokenBatch(NamedTuple):
    """Pieces one after the other: `data` uint8 [bytes], `offsets` int64 [pieces + 1], their tokens, and where they are
    from: int64 [pieces, 4], the fields of `Piece`."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    tokens: Tokens
    pieces: npt.NDArray[np.int64]


def _open(path: Path) -> pq.ParquetFile:
    with os_errors_about(path):
        path.open("rb").close()
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise HainaError(
            f"{path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_columns(path: Path, schema: pa.Schema, priority: str) -> None:
    for name in ("id", "text", *([priority] if priority else [])):
        if name not in schema.names:
            raise HainaError(
                f"{path}: no column `{name}` (it has {', '.join(schema.names)})", "name the columns so"
            )
    for name in ("id", "text"):
        if not _is_text(schema.field(name).type):
            raise HainaError(
                f"{path}: column `{name}` holds {schema.field(name).type}, not strings", "convert it"
            )
    if priority:
        kind = schema.field(priority).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise HainaError(
                f"{path}: column `{priority}` holds {kind}, not numbers", "name another as priority"
            )


def _text_bytes(file: pq.ParquetFile, group: int) -> int:
    found = file.metadata.row_group(group)
    for index in range(found.num_columns):
        column = found.column(index)
        if column.path_in_schema == "text":
            return int(column.total_uncompressed_size)
    return int(found.total_byte_size)


def plan_blocks(paths: Sequence[Path], block_bytes: int, priority: str = "") -> tuple[list[Block], int]:
    """Blocks of about `block_bytes` of text, in the order of the files; and the bytes of text in all, as Parquet
    counts them.

    Raises:
        HainaError: a file is missing or no Parquet, or lacks a column.
    """
    blocks: list[Block] = []
    first = total = 0

    def add(path: Path, low: int, high: int, skip: int, rows: int) -> None:
        nonlocal first
        if rows:
            blocks.append(Block(len(blocks), path, (low, high), skip, rows, first))
            first += rows

    for path in paths:
        with _open(path) as file:
            _check_columns(path, file.schema_arrow, priority)
            low = held = rows = 0
            for group in range(file.num_row_groups):
                size, count = _text_bytes(file, group), file.metadata.row_group(group).num_rows
                total += size
                if held + size > block_bytes:
                    add(path, low, group, 0, rows)
                    low, held, rows = group, 0, 0
                shares = min(-(-size // block_bytes), count)
                if shares > 1:
                    cuts = [count * share // shares for share in range(shares + 1)]
                    for begin, end in itertools.pairwise(cuts):
                        add(path, group, group + 1, begin, end - begin)
                    low, held, rows = group + 1, 0, 0
                else:
                    held, rows = held + size, rows + count
            add(path, low, file.num_row_groups, 0, rows)
    return blocks, total


def read_rows(block: Block, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a block, in batches.

    Raises:
        HainaError: the file is damaged or has other rows than when the blocks were made.
    """
    skip, rows = block.skip, block.rows
    with _open(block.path) as file:
        try:
            for batch in file.iter_batches(
                batch_size=_READ_ROWS,
                row_groups=list(range(*block.groups)),
                columns=None if columns is None else list(columns),
                use_threads=False,
            ):
                part = batch.slice(min(skip, batch.num_rows), rows)
                skip -= min(skip, batch.num_rows)
                rows -= part.num_rows
                if part.num_rows:
                    yield part
                if not rows:
                    return
        except (pa.ArrowException, OSError) as error:
            raise HainaError(
                f"{block.path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
            ) from error
    raise HainaError(
        f"{block.path}: {rows} rows fewer than before", "do not change the input while it is read"
    )


def packed_strings(column: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """UTF-8 of a column of strings and where each begins (int64 [rows + 1]); null counts as empty. No copy of the
    text."""
    column = column.cast(pa.large_string())
    if column.null_count:
        column = pc.fill_null(column, "")
    _, offsets, data = column.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return raw, places


def ids_of(block: Block) -> list[str]:
    """Ids of a block's documents.

    Raises:
        HainaError: one has none.
    """
    ids: list[str] = []
    for batch in read_rows(block, ["id"]):
        column = batch.column("id")
        if column.null_count:
            row = block.first + len(ids) + column.to_pylist().index(None)
            raise HainaError(f"{block.path}: document {row} has no id", "give every document an id")
        ids += column.to_pylist()
    return ids


def rank_keys(block: Block, ids: Sequence[str], priority: str) -> npt.NDArray[np.uint64]:
    """What documents are ordered by, smallest first: uint64 [documents, 3].

    Priority (higher is better; none or NaN is worst), hash of the id, number among all documents. The last decides only
    between documents of the same id.
    """
    out = np.zeros((len(ids), 3), dtype=np.uint64)
    if priority:
        values = np.concatenate(
            [
                batch.column(priority).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
                for batch in read_rows(block, [priority])
            ]
        )
        values = np.where(np.isnan(values), -np.inf, values) + 0.0  # no -0.0
        # IEEE 754 doubles in order as integers: flip all bits of negative ones, the sign of the others.
        bits = values.view(np.uint64)
        negative = (bits >> np.uint64(63)).astype(np.bool_)
        ordered = np.where(negative, ~bits, bits | np.uint64(1 << 63))
        out[:, 0] = ~ordered
    digests = b"".join(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest() for name in ids)
    out[:, 1] = np.frombuffer(digests, dtype="<u8")
    out[:, 2] = np.arange(block.first, block.first + len(ids), dtype=np.uint64)
    return out


def ranks(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Place of each row of `rank_keys` in their order, 0 for the best: int64 [rows]."""
    out = np.empty(len(keys), dtype=np.int64)
    out[np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0]))] = np.arange(len(keys))
    return out


def _cut(raw: npt.NDArray[np.uint8], at: int, marks: bytes) -> int:
    """The place behind the last of `marks` at or before `at`, not far from it; -1 where there is none."""
    low = max(0, at - _CUT_SEARCH)
    found = np.flatnonzero(np.isin(raw[low:at], np.frombuffer(marks, dtype=np.uint8)))
    return low + int(found[-1]) + 1 if len(found) else -1


def _cutters(raw: npt.NDArray[np.uint8], level: Level) -> bytes:
    """The characters behind which a long document may be cut without a unit or a token going on; none: as a whole."""
    if level == "substring":
        return b" \n"
    if level == "paragraph":
        whole = np.array([0, len(raw)], dtype=np.int64)
        lines, paragraphs = (len(units_batch(raw, whole, unit)[0]) for unit in ("line", "paragraph"))
        return b"\n" if lines == paragraphs else b""
    return b"\n"


def _long_document(raw: npt.NDArray[np.uint8], row: int, overlap: int, level: Level) -> Iterator[TokenBatch]:
    """A document longer than a batch, in pieces; those of windows begin `overlap` tokens before the end of the one
    before."""
    piece = Piece(row, 0, 0, 0)
    marks = _cutters(raw, level)
    reach = BATCH_BYTES
    while True:
        begin = piece.byte
        end = len(raw)
        if end - begin > reach:
            end = begin + _cut(raw[begin:], reach, marks)
        if end < begin or (end == begin and begin < len(raw)):
            reach *= 2
            continue
        part = raw[begin:end]
        offsets = np.array([0, len(part)], dtype=np.int64)
        tokens = tokenize_batch(part, offsets)
        count = len(tokens.hashes)
        yield TokenBatch(part, offsets, tokens, np.array([piece], dtype=np.int64))
        if end == len(raw):
            return
        again = max(0, count - overlap)
        # Tokens of one character start at one byte: the next piece begins with the first of them.
        kept = again
        while kept > 0 and kept < count and tokens.starts[kept - 1] == tokens.starts[kept]:
            kept -= 1
        place = end if kept == count else begin + int(tokens.starts[kept])
        reach = BATCH_BYTES if place > begin else 2 * reach
        piece = Piece(row, place, piece.token + kept, max(again - kept, piece.skip - kept))


def token_batches(block: Block, overlap: int, level: Level) -> Iterator[TokenBatch]:
    """The tokens of a block's texts, some megabytes at a time.

    Args:
        block: rows to read.
        overlap: tokens that pieces of a long document share: for windows, their tokens less one; 0 for units.
        level: what is looked for.
    """
    row = 0
    for batch in read_rows(block, ["text"]):
        data, offsets = packed_strings(batch.column("text"))
        low = 0
        while low < batch.num_rows:
            if offsets[low + 1] - offsets[low] > BATCH_BYTES:
                yield from _long_document(data[offsets[low] : offsets[low + 1]], row + low, overlap, level)
                low += 1
                continue
            high = int(np.searchsorted(offsets, offsets[low] + BATCH_BYTES, side="right")) - 1
            part = data[offsets[low] : offsets[high]]
            places = offsets[low : high + 1] - offsets[low]
            pieces = np.zeros((high - low, 4), dtype=np.int64)
            pieces[:, 0] = np.arange(row + low, row + high)
            yield TokenBatch(part, places, tokenize_batch(part, places), pieces)
            low = high
        row += batch.num_rows
