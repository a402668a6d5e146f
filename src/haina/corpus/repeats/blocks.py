"""The texts of a block as tokens, and the order in which documents count.

Comes in: a block of documents. Goes out: its texts as batches of UTF-8 without Python strings, documents longer than a
batch in pieces; and the rank of its documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from haina.corpus.blocks import Block, read_rows
from haina.corpus.dedup.shingles import Tokens, tokenize_batch
from haina.corpus.repeats.config import Level
from haina.corpus.repeats.units import units_batch
from haina.runtime.errors import HainaError
from haina.runtime.parquet_rows import packed_strings

BATCH_BYTES = 8 << 20
# A piece of a long document ends behind a line end or, for windows, a blank: no token reaches over either.
_CUT_SEARCH = 1 << 20


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
